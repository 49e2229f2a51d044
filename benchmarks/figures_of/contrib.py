"""Figures of rooms of contrib: cascades, drift, and what the checks of a log find."""

from __future__ import annotations

from typing import Any

from figures_of.tables import NONE, columns, result, source, table
from stratos.core.formats import milliseconds, percent, usd
from stratos.core.intervals import wilson

FILTERS = "logs/filters"
TASKS = ("tickets", "sentiment")
CHANGES = {"": "nothing", "unread": "answers unreadable", "reworded": "questions reworded"}


def cascade() -> str:
    """What student, teacher and both come to on the test items, and what the endpoint did."""
    runs = {name: result(f"cascade/{name}") for name in TASKS}
    heads = ("task", "who answers", "right", "to the teacher", "1,000 answers", "a month",
             "an answer")  # fmt: skip
    rows = [row for name, run in runs.items() for row in _answers(name, run)]
    first = runs[TASKS[0]]
    return (
        f"{table(heads, rows)}\n\nTest items, with the 95% interval of what is right. The month "
        f"has {first['cascade']['month']['requests_per_day']:,.0f} requests a day, and its servers "
        "are paid when they are idle; 1,000 answers are priced as on a busy server. The teacher is "
        f"wrong on {first['wrong_share']:.0%} of the questions and has the price of "
        f"{first['priced_as']}; its milliseconds are those of the local server that plays it. "
        f"{' '.join(_endpoint(name, run) for name, run in runs.items())} "
        f"{source(*(f'cascade/{name}' for name in TASKS))}."
    )


def _answers(name: str, run: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a task: student, teacher, the cascade, and one as right as the teacher."""
    made, equal, month = run["cascade"], run["equal"], run["cascade"]["month"]
    n, per_1000 = equal["n"], made["teacher_usd_per_1000"]
    share = equal["escalated"] / n

    def row(task: str, title: str, n_right: int, escalated: str, *costs: float) -> list[str]:
        right = wilson(n_right, n)
        shown = f"{percent(right.mean)} ({percent(right.low)} to {percent(right.high)})"
        of_1000, of_month, ms = costs
        return [task, title, shown, escalated, usd(of_1000), usd(of_month), milliseconds(ms)]

    student = made["student_usd_per_1000"], month["student_usd"], made["student_ms"]
    teacher = per_1000, month["teacher_usd"], made["teacher_ms"]
    both = [ours + share * theirs for ours, theirs in zip(student, teacher, strict=True)]
    return [
        row(name, "student alone", equal["student_right"], "none", *student),
        row("", "teacher alone", equal["teacher_right"], "all", *teacher),
        row("", f"cascade, {percent(made['accuracy'], 0)} promised",
            round(made["measured"]["mean"] * n), percent(made["escalated"]["mean"]),
            made["usd_per_1000"], month["cascade_usd"], made["cascade_ms"]),
        row("", "cascade, as right as the teacher on the items that choose", equal["right"],
            percent(share), *both),
    ]  # fmt: skip


def _endpoint(name: str, run: dict[str, Any]) -> str:
    endpoint = run["endpoint"]
    refused = "".join(f"{percent(share, 0)} was refused to {name}. " for share in run["refused"])
    return (
        f"{refused}The endpoint of {name} was asked {endpoint['n']:,} of the test items: "
        f"{endpoint['by']['teacher']:,} went to the teacher, and "
        f"{percent(endpoint['right'] / endpoint['n'])} came back right, in "
        f"{milliseconds(endpoint['mean_ms'])} on average."
    )


def drift() -> str:
    """How many checks alarm, without a change and with a part of the live requests spoilt."""

    def change(row: dict[str, Any]) -> str:
        of_them = f", {row['share']:.0%} of them" if row["share"] else ""
        return f"{CHANGES[row['change']]}{of_them}"

    measured = result("drift")
    rows = columns(
        measured["rows"],
        ("test items / live requests", "{n_evaluated:,} / {n_live:,}"),
        ("changed", change),
        ("alarms", "{n_alarms} of {n_checks}"),
        ("95% interval", "{low:.1%} to {high:.1%}"),
    )
    return f"{rows}\n\n`--alpha {measured['alpha']:g}`, Mahjong; {source('drift')}."


def log_filters() -> str:
    """Each way to spoil an answer, and how many its check finds."""
    measured = result(FILTERS)
    logs, replies = measured["logs"], measured["replies"]
    cells = [
        [kind["kind"], *(_found(log, number, "found_by_any_check") for log in logs)]
        for number, kind in enumerate(logs[0]["kinds"])
    ]
    cells.append(["nothing, and found all the same", *(str(log["found_unspoilt"]) for log in logs)])
    cells += [
        [f"{kind['kind']} among free texts", *(_found(log, number, "found") for log in replies)]
        for number, kind in enumerate(replies[0]["kinds"])
    ]
    wrongly = [str(sum(log["wrongly"].values())) for log in replies]
    cells.append(["nothing among free texts, and found all the same", *wrongly])
    heads = ["spoilt", *(f"found, {log['share']:.1%} of the rows each" for log in logs)]
    return (
        f"{table(heads, cells)}\n\n{source(FILTERS)}. {replies[0]['rows']:,} free texts "
        f"({', '.join(replies[0]['unspoilt'])}) are a log of their own."
    )


def _found(log: dict[str, Any], number: int, key: str) -> str:
    kind = log["kinds"][number]
    return f"{kind[key]}/{kind['spoilt']}"


def log_personal() -> str:
    """Each kind of personal data, planted and found."""
    return columns(
        result(FILTERS)["personal"],
        ("planted", "{kind}"),
        ("forms", "{forms}"),
        ("found", "{found}/{planted}"),
        ("not found", lambda row: _forms(row["missed"])),
        ("found where it is not", "{wrongly}/{others}"),
        ("there", lambda row: _forms(row["mistaken"])),
    )


def _forms(forms: list[str]) -> str:
    return ", ".join(f"`{form}`" for form in forms) or NONE


BLOCKS = {
    "cascade": cascade,
    "drift": drift,
    "log_filters": log_filters,
    "log_personal": log_personal,
}
