"""The end of a run: what was chosen, what it cost, how good it got, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stratos.config import Config
from stratos.records import Deployment, ModelScore, Plan, Probe, Scorecard
from stratos.report.costs import cost_rows, read_ledger
from stratos.report.text import hours, measured, percent, percent_range, sentence, usd

_ROLES = {"teacher": "teacher", "untouched": "untouched student", "student": "student"}


def show(console: Console, config: Config, records: Mapping[str, Any], ledger: Path) -> None:
    """Print the summary of as many stages as there are records of."""
    plan: Plan | None = records.get("plan")
    console.print()
    if plan is not None:
        console.print(
            f"[bold]{plan.teacher} → {plan.student}[/] by [bold]{plan.strategy}[/], "
            f"chosen as {plan.objective}"
        )
        console.print(_costs(plan, records, ledger))
    for part in _accuracy(records):
        console.print(part)
    if missed := _missed(config, records):
        console.print(missed, style="yellow", soft_wrap=True, markup=False)
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        console.print(f"Bundle  {deployment.bundle_path}", soft_wrap=True, markup=False)
    if "report" in records:
        console.print(f"Report  {records['report'].path}", soft_wrap=True, markup=False)
    console.print(f"Records {config.run_dir}", soft_wrap=True, markup=False)


def _missed(config: Config, records: Mapping[str, Any]) -> str:
    """Say that the student falls short of the accuracy that was asked for; "" where it does not."""
    scorecard: Scorecard | None = records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    least = config.limits.accuracy
    if student is None or least is None:
        return ""
    exact = student.slice().exact
    if exact.mean >= least:
        return ""
    return (
        f"limits.accuracy={least:g} is missed: the student has {exact.mean:.1%} of the test items "
        f"(95% interval {exact.low:.1%} to {exact.high:.1%}). The plan went by its prediction."
    )


def final_numbers(records: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the numbers that runs are compared by."""
    numbers: dict[str, float | str] = {}
    plan: Plan | None = records.get("plan")
    if plan is not None:
        numbers |= {
            "teacher": plan.teacher,
            "student": plan.student,
            "strategy": plan.strategy,
            "planned_usd": plan.usd,
            "planned_hours": plan.hours,
            "planned_score": plan.score,
        }
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        for role in _ROLES:
            score = scorecard.score(role)
            if score is not None:
                numbers[f"{role}_exact"] = score.slice().exact.mean
        if scorecard.comparison is not None:
            numbers["ratio_at_least"] = scorecard.comparison.ratio_at_least
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        numbers["latency_p95_ms"] = deployment.latency_p95_ms
    return numbers


def _costs(plan: Plan, records: Mapping[str, Any], ledger: Path) -> Table:
    table = Table()
    for heading in ("role", "server"):
        table.add_column(heading)
    for heading in (
        "planned there",
        "spent here",
        "hours here × the plan's price",
    ):
        table.add_column(heading, justify="right")
    for row in cost_rows(plan, records, read_ledger(ledger)):
        table.add_row(
            row.role,
            row.server,
            _money_and_time(row.planned_usd, row.planned_hours),
            usd(row.spent_usd),
            _money_and_time(row.measured_usd, row.measured_hours),
            style="bold" if row.role == "total" else None,
        )
    return table


def _money_and_time(dollars: float | None, time: float | None) -> str:
    return f"{usd(dollars)} · {hours(time)}" if time is not None else usd(dollars)


def _accuracy(records: Mapping[str, Any]) -> tuple[str | Table, ...]:
    """Return the accuracies on test items, or the probe's where nothing was evaluated."""
    scorecard: Scorecard | None = records.get("evaluate")
    probe: Probe | None = records.get("probe")
    if scorecard is None:
        if probe is None:
            return ()
        table = _accuracy_table([])
        for one in probe.teachers:
            table.add_row(
                one.teacher,
                percent(one.exact.mean),
                percent_range(one.exact.low, one.exact.high),
                str(one.n_items),
            )
        return "Exact match of the teachers on validation items", table
    scores = [score for role in _ROLES if (score := scorecard.score(role)) is not None]
    slices = [one.slice for one in scores[-1].slices if one.slice != "all"] if scores else []
    table = _accuracy_table(slices)
    for score in scores:
        table.add_row(*_score_row(score, slices))
    return f"{sentence(measured(scorecard.metric))} on test items", table


def _accuracy_table(slices: list[str]) -> Table:
    table = Table()
    table.add_column("model")
    for heading in ("all", "95% interval", "items", *slices):
        table.add_column(heading, justify="right")
    return table


def _score_row(score: ModelScore, slices: list[str]) -> list[str]:
    whole = score.slice()
    role = _ROLES[score.role]
    row = [
        role if score.role == "untouched" else f"{role} ({score.name})",
        percent(whole.exact.mean),
        percent_range(whole.exact.low, whole.exact.high),
        str(whole.n_items),
    ]
    found = {one.slice: one for one in score.slices}
    return row + [percent(found[name].exact.mean) if name in found else "–" for name in slices]
