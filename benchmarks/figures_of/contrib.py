"""Figures of rooms of contrib: cascades, drift, variants of rows, executors."""

from __future__ import annotations

from typing import Any

from figures_of.tables import NONE, columns, load_average, result, source, span, table
from stratos.core.formats import milliseconds, percent, usd
from stratos.core.intervals import wilson

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

    def row(task: str, title: str, n_right: int, asked: str, *costs: float) -> list[str]:
        right = wilson(n_right, n)
        shown = f"{percent(right.mean)} ({percent(right.low)} to {percent(right.high)})"
        of_1000, of_month, ms = costs
        return [task, title, shown, asked, usd(of_1000), usd(of_month), milliseconds(ms)]

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
    asked = run["endpoint"]
    refused = "".join(f"{percent(share, 0)} was refused to {name}. " for share in run["refused"])
    return (
        f"{refused}The endpoint of {name} was asked {asked['n']:,} of the test items: "
        f"{asked['by']['teacher']:,} went to the teacher, and "
        f"{percent(asked['right'] / asked['n'])} came back right, in "
        f"{milliseconds(asked['mean_ms'])} on average."
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


def variants() -> str:
    """How many training rows of GSM8K give variants, how fast, and what a reader found."""
    made = result("gsm8k_variants")
    n_rows, read = made["n_rows"], made["read"]
    reasons = {"have variants": made["n_rows_with_variants"], **made["rows_without"]}
    rows = table(
        (f"training rows ({n_rows:,})", "rows", "share"),
        [(reason, f"{n:,}", f"{n / n_rows:.1%}") for reason, n in reasons.items()],
    )
    return (
        f"{rows}\n\n{made['n_made']:,} variants were made in {made['cpu_s']:.0f} CPU seconds, "
        f"{made['made_per_cpu_s']:.0f} a second with the tracing of all rows; every one verifies. "
        f"Of {read['n']} that were drawn at random and read, {read['n_right']} have a right "
        f"solution and {read['n_sensible']} are problems that somebody could pose. "
        f"({source('gsm8k_variants')}; `benchmarks/tasks/variants.py`.)"
    )


def executors() -> str:
    """Seconds from a command to a training's second step, by who runs it."""
    measured = result("executors")
    rows = [("the command's own process", NONE, span(measured["own_process"], ".1f"))]
    rows += [
        (f"`executor={name}`", *(span(measured[name][key], ".1f") for key in
                                 ("empty_job_s", "first_step_s")))
        for name in ("slurm", "ray")
    ]  # fmt: skip
    heads = ("", "an empty job, s", "from the command to the second step of a training, s")
    return (
        f"{table(heads, rows)}\n\n{source('executors')}; load average "
        f"{load_average('executors')}; with the engines of the tests."
    )


BLOCKS = {
    "cascade": cascade,
    "drift": drift,
    "gsm8k_variants": variants,
    "executor_costs": executors,
}
