"""Figures of rooms of contrib: cascades, drift, and what the checks of a log find."""

from __future__ import annotations

from typing import Any

from figures_of.tables import NONE, columns, result, source, table
from stratos.core.formats import listed, milliseconds, percent, percent_range, usd
from stratos.core.intervals import wilson

FILTERS = "logs/filters"
TRACES, LEARNT, CALLER = "logs/traces", "logs/traces_learnt", "tools/caller"
READ = "logs/traces_read"
FEW, CONVERSATIONS = "tools/few", "tools/conversations"
TASKS = ("encoder",)
CHANGES = {
    "": "nothing",
    "unread": "answers unreadable",
    "reworded": "questions reworded",
    "renamed": "a tool renamed",
}


def cascade() -> str:
    """What student, teacher and both come to on the test items, and what the endpoint did."""
    runs = {name: result(f"cascade/{name}") for name in TASKS}
    heads = ("student", "who answers", "right", "to the teacher", "1,000 answers", "a month",
             "an answer")  # fmt: skip
    rows = [row for name, run in runs.items() for row in _answers(name, run)]
    first = runs[TASKS[0]]
    return (
        f"{table(heads, rows)}\n\nTest items, with 95% intervals. A month has "
        f"{first['cascade']['month']['requests_per_day']:,.0f} requests a day and pays for idle "
        "servers; 1,000 answers have the price of a busy server. "
        f"{' '.join(_endpoint(name, run) for name, run in runs.items())} "
        f"{source(*(f'cascade/{name}' for name in TASKS))}."
    )


def _answers(name: str, run: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a task: student, teacher, and the cascade."""
    made, equal, month = run["cascade"], run["equal"], run["cascade"]["month"]
    n, per_1000 = equal["n"], made["teacher_usd_per_1000"]

    def row(task: str, title: str, n_right: int, escalated: str, *costs: Any) -> list[str]:
        right = wilson(n_right, n)
        shown = f"{percent(right.mean)} ({percent(right.low)} to {percent(right.high)})"
        of_1000, of_month, ms = costs
        return [task, title, shown, escalated, usd(of_1000), usd(of_month),
                NONE if ms is None else milliseconds(ms)]  # fmt: skip

    return [
        row(name, "student alone", equal["student_right"], "none",
            made["student_usd_per_1000"], month["student_usd"], made["student_ms"]),
        row("", "teacher alone", equal["teacher_right"], "all", per_1000, month["teacher_usd"],
            made["teacher_ms"]),
        row("", f"cascade, {percent(made['accuracy'], 0)} promised",
            round(made["measured"]["mean"] * n), percent(made["escalated"]["mean"]),
            made["usd_per_1000"], month["cascade_usd"], made["cascade_ms"]),
    ]  # fmt: skip


def _endpoint(name: str, run: dict[str, Any]) -> str:
    endpoint = run["endpoint"]
    refused = "".join(f"A promise of {percent(share, 0)} was refused. " for share in run["refused"])
    return (
        f"The endpoint of {name} answered {percent(endpoint['right'] / endpoint['n'])} of "
        f"{endpoint['n']:,} test items right, in {milliseconds(endpoint['mean_ms'])} on average. "
        f"{refused}"
    ).strip()


def drift() -> str:
    """How many checks alarm, without a change and with a part of the live requests spoilt."""
    measured = result("drift")
    sizes = list(dict.fromkeys((row["n_evaluated"], row["n_live"]) for row in measured["rows"]))
    changes: dict[str, dict[tuple[int, int], str]] = {}
    for row in measured["rows"]:
        of_all = f", {row['share']:.0%}" if row["share"] else ""
        cell = "{n_alarms}/{n_checks} ({low:.1%}–{high:.1%})".format_map(row)
        by_size = changes.setdefault(f"{CHANGES[row['change']]}{of_all}", {})
        by_size[row["n_evaluated"], row["n_live"]] = cell
    heads = ("changed", *(f"{tested:,} test items, {live:,} live" for tested, live in sizes))
    rows = [[change, *(cells[size] for size in sizes)] for change, cells in changes.items()]
    return f"{table(heads, rows)}\n\n`--alpha {measured['alpha']:g}`, Mahjong; {source('drift')}."


def renewals() -> str:
    """Return what renewals through the gate were worth on dated rows."""
    kept = result("kinds/renewals")
    later, first = kept["later"], kept["first_window"]
    least = kept["least_change"]
    changed = "" if least is None else f", the least change {100 * least:+.1f} points"
    rows = [
        [what, *(f"{side[who]:.1%}" for side in (later, first))]
        for who, what in (
            ("first", "the first student, never renewed"),
            ("serving", "renewed through the gate"),
            ("newest", "always renewed"),
        )
    ]
    heads = ("right", "of the window to come", "of the first window, after the last renewal")
    return (
        f"{table(heads, rows)}\n\n{kept['n']} renewals ({kept['n_seeds']} draws), each of "
        f"{kept['n_labels']} labels and {kept['median_minutes']:.1f} minutes: drift was seen "
        f"before {kept['n_drifted']}; the gate said no worse of {kept['n_replaced']} and could not "
        f"tell of {kept['n_undecided']}. Made worse by more than 2 points: {kept['n_made_worse']} "
        f"of {kept['n_replaced']}{changed}. `benchmarks/kinds/renewals.py`, "
        f"{source('kinds/renewals')}."
    )


def drift_turns() -> str:
    """How many checks of turns alarm, by what was changed and level."""
    rows = result("drift_turns")["rows"]
    changes: dict[str, list[str]] = {}
    for row in rows:
        of_all = f", {row['share']:.0%}" if row["share"] else ""
        cell = "{n_alarms}/{n_checks} ({low:.1%}–{high:.1%})".format_map(row)
        changes.setdefault(f"{CHANGES[row['change']]}{of_all}", []).append(cell)
    levels = listed(f"{row['alpha']:g}" for row in rows if not row["change"])
    cells = "; ".join(f"{change}: {listed(some)}" for change, some in changes.items())
    return (
        f"{rows[0]['n_evaluated']} conversations, {rows[0]['n_live']} live; alarms at `--alpha` "
        f"{levels}: {cells}. {source('drift_turns')}."
    )


def log_filters() -> str:
    """Which ways to spoil an answer checks find, and how many of those that they miss."""
    measured = result(FILTERS)
    logs, replies = measured["logs"], measured["replies"]
    whole: list[str] = []
    cells: list[list[str]] = []
    for of, key, where in ((logs, "found_by_any_check", ""), (replies, "found", ", free texts")):
        for number, kind in enumerate(of[0]["kinds"]):
            rows = [log["kinds"][number] for log in of]
            if all(row[key] == row["spoilt"] for row in rows):
                whole.append(f"{kind['kind']}{where}")
            else:
                shares = (f"{row[key]}/{row['spoilt']}" for row in rows)
                cells.append([f"{kind['kind']}{where}", *shares])
    wrongly = sum(log["found_unspoilt"] for log in logs)
    wrongly += sum(sum(log["wrongly"].values()) for log in replies)
    heads = ["spoilt", *(f"{log['share']:.1%} of the rows each" for log in logs)]
    return (
        f"Every spoilt answer was detected of these kinds: {'; '.join(whole)}. Not every one of "
        f"these:\n\n{table(heads, cells)}\n\nGood answers that were called doubtful: {wrongly}. "
        f"{source(FILTERS)}."
    )


def traces() -> str:
    """Wrong turns of agents' traces: precision and recall of each service, tools given."""
    measured = result(TRACES)
    heads = ["traces", "10%", "50%", "inferred tools", "false alarms, 0%", "restored names"]
    rows = []
    for service in measured["services"]:
        runs, renamed = service["logs"], service["renamed"]["given"]
        some = [runs["10%"]["given"], runs["50%"]["given"], runs["50%"]["inferred"]]
        cells = [f"{run['precision']:.2f}/{run['recall']:.2f}" for run in some]
        right = runs["0%"]["given"]
        name = service["service"]
        rows.append([name, *cells, f"{right['doubted']}/{right['turns']:,}",
                     f"{renamed['restored']}/{renamed['renamed']}"])  # fmt: skip
    timed = measured["timed"]
    return (
        f"{table(heads, rows)}\n\n{timed['conversations']:,} conversations, "
        f"{timed['turns']:,} turns: {timed['cpu_s']:.0f} CPU s. {source(TRACES)}.\n\n"
        f"{_taught()} {source(LEARNT)}.\n\n{_read()} {source(READ)}."
    )


def _read() -> str:
    """Return what many conversations take to read, unchecked: there are too many."""
    read = result(READ)
    return (
        f"Reading {read['conversations']:,} conversations, {read['turns']:,} turns: "
        f"{read['cpu_s']:.0f} CPU s, {read['most_cpu_s']} were asked for."
    )


def caller() -> str:
    """The student that calls tools: held-out calls, turns and conversations that are right."""
    services = result(CALLER)["services"]
    heads = ["300 conversations", "calls", "nearest turn", "most frequent", "turns", "whole",
             "but for texts", "turns before an error", "CPU s", "ms"]  # fmt: skip
    rows = []
    for service in services:
        own = service["whole"]["student"]
        calls = [service[role]["calls_but_talk"] for role in ("student", "nearest", "usual")]
        whole = own["whole"]
        rows.append([
            service["service"],
            *map(percent, calls),
            percent(service["student"]["turns"]),
            f"{percent(whole['mean'])} ({percent_range(whole['low'], whole['high'])})",
            percent(own["whole_calls"]["mean"]),
            f"{own['mean_right']:.1f} of {own['mean_turns']:.1f}",
            f"{service['fit_cpu_s']:.0f}",
            f"{service['ms_per_answer']:.1f}",
        ])  # fmt: skip
    walks = [service["whole"][role] for service in services for role in ("lookup", "situation")]
    best = max(walk["whole"]["mean"] for walk in walks)
    turns = max(walk["mean_right"] for walk in walks)
    return (
        f"{table(heads, rows)}\n\nNearest turn and most frequent answer finish at most "
        f"{percent(best)} of whole conversations, with at most {turns:.1f} turns before an error. "
        '"But for texts": any text passes for a text. '
        f"{source(CALLER)}."
    )


def conversations() -> str:
    """What a language model reads to learn the turns of conversations."""
    cases = {"single": "turn by turn", "beginnings": "shared beginning", "conversations": "once"}
    rows = [
        [
            service,
            f"{row['turns']:,} of {row['n_conversations']:,}",
            *(f"{row[case]['read'] / row['learned']:.1f} · {row[case]['cpu_s_a_step']:.2f}"
              for case in cases),
        ]
        for service, row in result(CONVERSATIONS).items()
    ]  # fmt: skip
    heads = ("service", "turns of conversations", *cases.values())
    return (
        f"{table(heads, rows)}\n\nEach cell: tokens read for one that is learned · CPU s a step. "
        f"{source(CONVERSATIONS)}."
    )


def few() -> str:
    """What injection adds to few conversations: right calls of others, over three draws."""
    measured = result(FEW)
    heads = [f"{measured['conversations']} conversations", "alone", "with injection", "gain",
             "of each draw"]  # fmt: skip
    rows = []
    for gain in measured["gains"]:
        draws = [row for row in measured["measured"] if row["service"] == gain["service"]]
        cells = [100 * (row["injected"]["right"] - row["alone"]["right"]) for row in draws]
        rows.append(
            [
                gain["service"],
                *(f"{100 * gain[key]:.1f}%" for key in ("alone", "injected")),
                f"{100 * gain['gain']:+.1f}",
                ", ".join(f"{cell:+.0f}" for cell in cells),
            ]
        )
    tuned = " and ".join(row["service"] for row in measured["gains"] if row["tuned"])
    n_reached = sum(row["gain"] >= measured["least_gain"] for row in measured["gains"])
    return (
        f"{table(heads, rows)}\n\nIt was developed on {tuned}. Asked for were "
        f"{100 * measured['least_gain']:.0f} points on three services: {n_reached} have them. "
        f"{source(FEW)}."
    )


def _taught() -> str:
    """Return what students get right of calls of other conversations, by what they were taught."""
    gains = [row for row in result(LEARNT)["gains"]
             if row["student"] == "caller" and row["what"] == "exact_calls"]  # fmt: skip
    shares = "; ".join(
        f"{row['log']}: {percent(row['trust'])} and {percent(row['verify'])}" for row in gains
    )
    services = " and ".join(gains[0]["services"])
    return (
        "Calls of other conversations that `student=caller` gets right, taught as many raw and "
        f"cleaned turns of {services}, three seeds: {shares}."
    )


def log_personal() -> str:
    """Each kind of personal data, planted and found."""
    return columns(
        result(FILTERS)["personal"],
        ("planted", "{kind}"),
        ("forms", "{forms}"),
        ("found", "{found}/{planted}"),
        ("not found", lambda row: _forms(row["missed"])),
        ("false alarms", "{wrongly}/{others}"),
        ("on", lambda row: _forms(row["mistaken"])),
    )


def _forms(forms: list[str]) -> str:
    return ", ".join(f"`{form}`" for form in forms) or NONE


BLOCKS = {
    "caller": caller,
    "cascade": cascade,
    "conversations": conversations,
    "drift": drift,
    "drift_turns": drift_turns,
    "renewals": renewals,
    "few": few,
    "log_filters": log_filters,
    "log_personal": log_personal,
    "traces": traces,
}
