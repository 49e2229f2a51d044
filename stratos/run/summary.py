"""The end of a run: verdict, cost, what to do next, and where everything is; numbers and tables."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from stratos.config import Config
from stratos.core.formats import (
    counted,
    duration,
    hours,
    points_gained,
    usd,
)
from stratos.core.values import named
from stratos.evaluate.verdict import accuracy_as_served, verdict
from stratos.models.students import what_may_help
from stratos.records import (
    Corpus,
    Deployment,
    Plan,
    RoomRecord,
    Scorecard,
    Student,
    Worth,
)
from stratos.report.costs import (
    CostRow,
    Spend,
    cost_rows,
    read_ledger,
    read_reserves,
    stage_seconds,
)
from stratos.report.frontier import next_steps
from stratos.report.planned import PlannedRow, misses, planned_rows
from stratos.report.run_verdict import (
    collapsed,
    is_needless,
    may_be_chance,
    missed_limit,
    run_verdict,
    run_worth,
)
from stratos.run.console import Console, from_here
from stratos.run.screen import ROLES, Level, Line, errs_most_on, no_answers

_MEASURED = "hours measured × the plan's price"
_STYLES = {"serve": "green", "open": "yellow", "stay": "yellow"}
"""No red: a student that is not worth it is a result, and no fault."""


def show(console: Console, config: Config, records: Mapping[str, Any], ledger: Path) -> None:
    """Print the last lines of as many stages as there are records of, and at most the tables."""
    plan: Plan | None = records.get("plan")
    if console.level >= Level.VERBOSE and plan is not None:
        console.table(_costs(plan, records, ledger))
        if rows := planned_rows(plan, records, read_ledger(ledger)):
            console.table(_planned(rows))
    console.show(last_lines(config, records, ledger))


def last_lines(config: Config, records: Mapping[str, Any], ledger: Path) -> Iterator[Line]:
    """Yield what a run comes to: the answers, the verdict, what to do, and where everything is."""
    scorecard: Scorecard | None = records.get("evaluate")
    spends = read_ledger(ledger)
    if scorecard is not None:
        yield from no_answers(_unread(config.run_dir / scorecard.answers_path), scorecard)
    if missed := "\n".join(misses(planned_rows(records.get("plan"), records, spends))):
        yield Line("missed", missed)
    judgement = run_verdict(config, records)
    if judgement is not None:
        yield Line("verdict", judgement.text, _STYLES[judgement.outcome])
    if steps := "\n".join(_next(config, records)):
        yield Line("next", steps)
    budget = config.limits.budget_usd
    of = "" if budget is None else f" of limits.budget_usd={budget:g}"
    spent = sum(spend.usd for spend in spends)
    took = sum(stage_seconds(records, spends).values())
    yield Line("spent", f"{usd(spent)}{of}; {duration(took)} of work")
    is_to_serve = judgement is None or judgement.outcome != "stay"
    yield from _places(config, records, is_to_serve)


def _unread(path: Path) -> dict[str, tuple[int, int]]:
    """Return of the student how many answers cannot be read as one, and how many there are."""
    try:
        parsed = [json.loads(line)["score"]["parsed"] for line in path.open(encoding="utf-8")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {"student": (parsed.count(False), len(parsed))} if parsed else {}


def _next(config: Config, records: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may make the student better: which labels, how many rows, which student."""
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None and corpus.rows_to_label is not None:
        n_rows = counted(corpus.n_rows_to_label, "row", spec=",")
        yield f"label {n_rows} by hand: {from_here(Path(corpus.rows_to_label))}"
    elif n := config.task.n_unanswered:
        rows = counted(n, "row without an answer", "rows without an answer", spec=",")
        path = shlex.quote(f"task.unlabelled_path={config.plain['task']['path']}")
        yield f"{rows}: label them by hand, or teacher=<name> {path}"
    probe, plan = records.get("probe"), records.get("plan")
    kind = None if probe is None or plan is None else probe.of_kind(plan.student)
    if kind is not None and plan is not None and (why := plan.left_out.get("encoder")):
        yield f"encoder was not tried, which is often the best: {why}"
    scorecard: Scorecard | None = records.get("evaluate")
    student: Student | None = records.get("distill")
    gain = None if kind is None else kind.gain
    is_flat = gain is not None and gain[0] <= 0
    is_constant = student is not None and student.kind == "majority"
    if scorecard is not None and (is_constant or (is_flat and may_be_chance(scorecard))):
        yield "check the labels: nothing shows that the texts tell them; more rows may not help"
    else:
        if kind is not None and gain is not None:
            rows = counted(kind.n_rows, "more labelled row", spec=",")
            yield f"{rows} {points_gained(gain)}"
        if labels := errs_most_on(scorecard):
            yield f"label more rows of {labels}: there it is wrong most often"
    if missed_limit(config.limits, records) is not None:
        remedies = (room.remedy(config, records) for room in config.rooms.values())
        yield from (str(remedy) for remedy in remedies if remedy is not None)
    judgement = verdict(records["evaluate"]) if "evaluate" in records else None
    has_collapsed = bool(scorecard and student and collapsed(scorecard, student))
    if plan is not None and (
        has_collapsed
        or (judgement is not None and is_needless(config.students, records, judgement))
    ):
        yield what_may_help(config, named(config.students, plan.student))
    if "distill" not in records:
        if plan is not None:
            yield "stratos run with the same words trains it; --verbose says why this plan"
    elif kind is None:
        steps = next_steps(
            config.run_dir, probe, records.get("pilot"), plan, records["distill"], is_taught=False
        )
        yield from (f"{step.what}: {step.predicted}" for step in steps[:1])


def _places(config: Config, records: Mapping[str, Any], is_to_serve: bool) -> Iterator[Line]:
    """Yield where what the run has made lies, and what is typed to use it."""
    run_dir, deployment = from_here(config.run_dir), records.get("deploy")
    if deployment is not None:
        host = f"stratos serve {shlex.quote(run_dir)}"
        yield Line("host" if is_to_serve else "detail", host)
        yield Line("detail", f"on the planned servers: {deployment.service_path}")
    rooms = (record for record in records.values() if isinstance(record, RoomRecord))
    for text in filter(None, (room.summary(config.run_dir) for room in rooms)):
        name, _, rest = text.partition(" ")
        yield Line(name.lower(), rest)
    page = records.get("report")
    yield Line("page" if page else "folder", from_here(Path(page.path)) if page else run_dir)


def final_numbers(
    records: Mapping[str, Any], spends: Sequence[Spend] = (), config: Config | None = None
) -> dict[str, float | str]:
    """Return the numbers that runs are compared by.

    Args:
        records: stage name to its record, as far as the stages have run.
        spends: the ledger's lines.
        config: of the run: the verdict rests on what was measured then. None takes the plan's.
    """
    numbers: dict[str, float | str] = {}
    if (plan := records.get("plan")) is not None:
        worth = plan.worth if config is None else run_worth(config, records)
        numbers |= _plan_numbers(plan, worth)
        for row in planned_rows(plan, records, spends):
            kind = f"planned_{row.kind}_outcome"
            numbers[kind] = _worse(row.outcome, numbers.get(kind))
    if (student := records.get("distill")) is not None:
        numbers["validation_exact"] = student.validation_exact
    if (scorecard := records.get("evaluate")) is not None:
        numbers |= _score_numbers(scorecard) | numbers  # the verdict of the plan counts
    for record in records.values():
        if isinstance(record, RoomRecord):
            numbers |= record.numbers()
    if config is not None:
        numbers |= _judged(config, records)
    if (deployment := records.get("deploy")) is not None:
        numbers["latency_p95_ms"] = deployment.latency_p95_ms
        if deployment.served is not None:
            numbers["served_exact"] = deployment.served.exact.mean
    return numbers


def _judged(config: Config, records: Mapping[str, Any]) -> dict[str, float | str]:
    """Return what the run comes to: the verdict that the screen shows, and what is served."""
    numbers: dict[str, float | str] = {}
    if (judgement := run_verdict(config, records)) is not None:
        numbers |= {"verdict": judgement.text, "outcome": judgement.outcome}
    scorecard: Scorecard | None = records.get("evaluate")
    deployment: Deployment | None = records.get("deploy")
    student = None if scorecard is None else scorecard.score("student")
    served = accuracy_as_served(scorecard, deployment)
    if student is not None and served is not None:
        export = None if deployment is None else deployment.served
        numbers |= {
            "accuracy": served[0].mean,
            "accuracy_low": served[0].low,
            "accuracy_high": served[0].high,
            "n_test": (export or student.slice()).n_items,
        }
    return numbers


def _plan_numbers(plan: Plan, worth: Worth | None) -> dict[str, float | str]:
    numbers: dict[str, float | str] = {
        "teacher": plan.teacher,
        "student": plan.student,
        "strategy": plan.strategy,
        "planned_usd": plan.usd,
        "planned_hours": plan.hours,
    }
    if worth is not None:
        numbers |= {"worth": worth.outcome, "verdict": worth.text}
        if worth.payback_days is not None:
            numbers["payback_days"] = worth.payback_days.mean
    if plan.accuracy.is_known:
        numbers["planned_accuracy"] = plan.accuracy.mean
        numbers["planned_accuracy_low"] = plan.accuracy.low
        numbers["planned_accuracy_high"] = plan.accuracy.high
    return numbers


def _score_numbers(scorecard: Scorecard) -> dict[str, float | str]:
    scores = {role: scorecard.score(role) for role in ROLES}
    numbers: dict[str, float | str] = {
        f"{role}_exact": score.slice().exact.mean
        for role, score in scores.items()
        if score is not None
    }
    if scorecard.known is not None:
        numbers["accuracy_known_wordings"] = scorecard.known
    if (baseline := scorecard.best_baseline) is not None:
        numbers |= {"best_baseline": baseline.role, "best_baseline_p_value": baseline.p_value}
    if (judgement := verdict(scorecard)) is not None:
        numbers["beside_baselines"] = judgement.outcome
        numbers["beside_baselines_text"] = numbers["verdict"] = judgement.text
    if scorecard.comparison is not None and scorecard.comparison.least_ratio is not None:
        numbers["ratio_at_least"] = scorecard.comparison.least_ratio
    return numbers


def _worse(outcome: str, before: float | str | None) -> str:
    """Return of two outcomes of one kind the one that is to be seen."""
    order = ("open", "inside", "outside")
    return max(outcome, "open" if before is None else str(before), key=order.index)


def _costs(plan: Plan, records: Mapping[str, Any], ledger: Path) -> Table:
    table = _table(
        ("role", "server"),
        ("planned there", "spent of its reserve", "spent in all", _MEASURED),
    )
    for row in cost_rows(plan, records, read_ledger(ledger), read_reserves(ledger)):
        table.add_row(
            row.role,
            row.server,
            _money_and_time(row.planned_usd, row.planned_hours),
            _reserved(row),
            usd(row.spent_usd),
            _money_and_time(row.measured_usd, row.measured_hours),
            style="bold" if row.role == "total" else None,
        )
    return table


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in (*texts, *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table


def _reserved(row: CostRow) -> str:
    """Say how much of a reserve was spent since the plan was made, and how much was left."""
    if row.reserve is None:
        return "–"
    released_usd = row.reserve.released_usd
    released = f", {usd(released_usd)} released" if released_usd else ""
    return f"{usd(row.reserve.spent_usd)} of {usd(row.reserve.usd)}{released}"


def _planned(rows: Sequence[PlannedRow]) -> Table:
    """Return what was planned beside what came; what is worse than its interval in red."""
    table = _table(["quantity"], ["planned", "95% interval", "measured"])
    table.title, table.title_justify = "Planned against measured", "left"
    table.add_column("")
    for row in rows:
        remark = "; ".join(filter(None, (row.text.upper() if row.is_worse else row.text, row.note)))
        style = "bold red" if row.is_worse else None
        between = row.interval_with_width or "–"
        table.add_row(row.quantity, row.planned, between, row.measured, remark, style=style)
    return table


def _money_and_time(dollars: float | None, time: float | None) -> str:
    return f"{usd(dollars)} · {hours(time)}" if time is not None else usd(dollars)
