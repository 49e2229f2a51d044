"""The final summary: plan, cost, accuracy and file locations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratos.config import Config
from stratos.core.formats import (
    at_least,
    counted,
    hours,
    measured,
    percent,
    percent_range,
    sentence,
    size,
    usd,
)
from stratos.core.names import named
from stratos.core.reasons import Reason
from stratos.evaluate.format_verdict import said as said_of_format
from stratos.evaluate.read_log import said
from stratos.evaluate.verdict import accuracy_as_served, against_logged, verdict
from stratos.models.kinds.suits import LM
from stratos.models.students import what_may_help
from stratos.records import (
    Corpus,
    Deployment,
    Export,
    Interval,
    ModelScore,
    Plan,
    Probe,
    RoomRecord,
    Scorecard,
    Student,
    Worth,
)
from stratos.report.costs import CostRow, Spend, cost_rows, read_ledger, read_reserves
from stratos.report.planned import PlannedRow, planned_rows
from stratos.report.worth_measured import worth_measured

_ROLES = {
    "majority": "most frequent answer",
    "lookup": "nearest training row",
    "linear": "TF-IDF with logistic regression",
    "teacher": "teacher",
    "untouched": "untouched student",
    "constrained": "student, decoding constrained by the schema",
    "student": "student",
}
"""Roles in the order of the table, and what they are called there."""
_NAMED = ("teacher", "student")
"""Roles whose models have a name of their own."""
_MEASURED = "hours measured × the plan's price"
_STYLES = {"better": "bold green", "open": "bold yellow", "worse": "bold red"}


class LimitMissed(Reason):
    """What is served falls short of `limits.accuracy`."""

    limit: float
    accuracy: Interval
    format: str
    """In which it is served; "" for the student as it was evaluated."""
    whole: float
    """Accuracy in full precision."""

    def __str__(self) -> str:
        who = f"the student as it is served ({self.format})" if self.format else "the student"
        more = "The plan used a prediction."
        if self.format and self.whole >= self.limit:
            more = f"In full precision it has {self.whole:.1%}."
        return (
            f"limits.accuracy={self.limit:g} is not met: {who} has {self.accuracy.mean:.1%} of "
            f"the test items (95% interval {self.accuracy.low:.1%} to {self.accuracy.high:.1%}). "
            f"{more}"
        )


def show(console: Console, config: Config, records: Mapping[str, Any], ledger: Path) -> None:
    """Print the summary of as many stages as there are records of."""
    plan: Plan | None = records.get("plan")
    say = partial(console.print, soft_wrap=True, markup=False)
    console.print()
    if plan is not None:
        worth = _worth(config, records)
        # The plan has said its own; until something is measured there is no other.
        if worth is not None and worth != plan.worth:
            say(worth.text)
        console.print(f"{plan.pair}, chosen as {plan.objective}")
        console.print(_costs(plan, records, ledger))
        if rows := planned_rows(plan, records, read_ledger(ledger)):
            console.print(_planned(rows))
    for part in _accuracy(records):
        console.print(part)
    if scorecard := records.get("evaluate"):
        found = verdict(scorecard)
        if found is not None:
            say(found.text, style=_STYLES[found.outcome])
        if scorecard.comparison is not None and (bound := at_least(scorecard.comparison)):
            say(sentence(bound))
    if (missed := missed_limit(config, records)) is not None:
        say(str(missed), style="yellow")
        for room in config.rooms.values():
            if (remedy := room.remedy(config, records)) is not None:
                say(str(remedy))
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None and corpus.rows_to_label is not None:
        n_rows = counted(corpus.n_rows_to_label, "row")
        say(f"To label by hand  {corpus.rows_to_label}  ({n_rows})")
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        say(f"Bundle  {deployment.bundle_path}")
        here = f"stratos serve {shlex.quote(str(config.run_dir))} (on this machine)"
        there = f"; on the planned servers: see {deployment.service_path}"
        say(f"Host    {here}{there}")
    for record in records.values():
        if isinstance(record, RoomRecord) and (line := record.summary(config.run_dir)):
            say(line)
    if "report" in records:
        say(f"Report  {records['report'].path}")
    say(f"Records {config.run_dir}")
    if told := not_worth_serving(config, records):
        say(told, style=_STYLES["worse"])


def not_worth_serving(config: Config, records: Mapping[str, Any]) -> str:
    """Return as the last words of a run that what is free does as well, and what may change that.

    "" where the student is better, and of a kind that is trained in seconds: it is as free.
    """
    scorecard: Scorecard | None = records.get("evaluate")
    plan: Plan | None = records.get("plan")
    found = None if scorecard is None else verdict(scorecard)
    if found is None or not found.against_free or plan is None:
        return ""
    student = named(config.students, plan.student)
    if student.kind != LM:
        return ""
    return (
        f"Do not serve this student: {found.against_free[:1].lower()}{found.against_free[1:]}. "
        f"{what_may_help(config, student)}"
    )


def _worth(config: Config, records: Mapping[str, Any]) -> Worth | None:
    names = ("probe", "plan", "evaluate", "deploy")
    return worth_measured(config, *(records.get(name) for name in names))


def missed_limit(config: Config, records: Mapping[str, Any]) -> LimitMissed | None:
    """Return that what is served falls short of `limits.accuracy`; None if it does not.

    That is the format that was compared with the evaluation, else the student as evaluated.
    """
    scorecard: Scorecard | None = records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    least = config.limits.accuracy
    if student is None or least is None:
        return None
    served = accuracy_as_served(scorecard, records.get("deploy"))
    if served is None or served[0].mean >= least:
        return None
    return LimitMissed(least, *served, student.slice().exact.mean)


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
    plan: Plan | None = records.get("plan")
    if plan is not None:
        numbers |= {
            "teacher": plan.teacher,
            "student": plan.student,
            "strategy": plan.strategy,
            "planned_usd": plan.usd,
            "planned_hours": plan.hours,
            "planned_net_usd": plan.net_usd,
        }
        worth = plan.worth
        if config is not None:
            worth = _worth(config, records)
        if worth is not None:
            numbers["worth"] = worth.outcome
            numbers["verdict"] = worth.text
            if worth.payback_days is not None:
                numbers["payback_days"] = worth.payback_days.mean
        if plan.accuracy.is_known:
            numbers["planned_accuracy"] = plan.accuracy.mean
            numbers["planned_accuracy_low"] = plan.accuracy.low
            numbers["planned_accuracy_high"] = plan.accuracy.high
        for row in planned_rows(plan, records, spends):
            numbers[f"planned_{row.kind}_outcome"] = _worse(
                row.outcome, numbers.get(f"planned_{row.kind}_outcome")
            )
    student: Student | None = records.get("distill")
    if student is not None:
        numbers["validation_exact"] = student.validation_exact
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        for role in _ROLES:
            score = scorecard.score(role)
            if score is not None:
                numbers[f"{role}_exact"] = score.slice().exact.mean
        if scorecard.best_baseline is not None:
            numbers["best_baseline"] = scorecard.best_baseline.role
            numbers["best_baseline_p_value"] = scorecard.best_baseline.p_value
        if (found := verdict(scorecard)) is not None:
            numbers["beside_baselines"] = found.outcome
            numbers["beside_baselines_text"] = found.text
            numbers.setdefault("verdict", found.text)
        if scorecard.comparison is not None:
            numbers["ratio_at_least"] = scorecard.comparison.ratio_at_least
    for record in records.values():
        if isinstance(record, RoomRecord):
            numbers |= record.numbers()
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        numbers["latency_p95_ms"] = deployment.latency_p95_ms
        if deployment.served is not None:
            numbers["served_exact"] = deployment.served.exact.mean
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
    table = Table()
    for heading in (*texts, *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table


def _reserved(row: CostRow) -> str:
    """Say how much of a reserve was spent since the plan was made, and how much was left."""
    if row.reserve is None:
        return "–"
    left = row.reserve.released_usd
    released = f", {usd(left)} released" if left else ""
    return f"{usd(row.reserve.spent_usd)} of {usd(row.reserve.usd)}{released}"


def _planned(rows: Sequence[PlannedRow]) -> Table:
    """Return what was planned beside what came; what missed its interval in red."""
    table = Table(title="Planned against measured", title_justify="left", header_style="bold")
    table.add_column("quantity")
    for heading in ("planned", "95% interval", "measured"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        is_missed = row.outcome == "outside"
        told = "; ".join(filter(None, (row.said.upper() if is_missed else row.said, row.note)))
        style = "bold red" if is_missed else None
        between = row.interval_with_width or "–"
        table.add_row(row.quantity, row.planned, between, row.measured, told, style=style)
    return table


def _money_and_time(dollars: float | None, time: float | None) -> str:
    return f"{usd(dollars)} · {hours(time)}" if time is not None else usd(dollars)


def _accuracy(records: Mapping[str, Any]) -> tuple[str | Table | Text, ...]:
    """Return the accuracies on test items, or the probe's where nothing was evaluated."""
    scorecard: Scorecard | None = records.get("evaluate")
    probe: Probe | None = records.get("probe")
    if scorecard is None:
        if probe is None:
            return ()
        n_cut = [one.n_truncated for one in probe.asked]
        table = _accuracy_table([], any(n_cut))
        for kind in probe.kinds:
            table.add_row(*_cells(kind.student, kind.accuracy, kind.n_rows))
        for baseline in probe.baselines:
            table.add_row(*_score_row(baseline, [], any(n_cut)))
        for one in probe.asked:
            at_most = "at most " if one.logged is not None else ""
            name, mean, *more = _cells(
                f"teacher ({one.card.name if at_most else one.teacher})", one.exact, one.n_items
            )
            cut = [str(one.n_truncated)] if any(n_cut) else []
            table.add_row(name, f"{at_most}{mean}", *more, *cut)
        doubtful = [f"teacher ({one.teacher})" for one in probe.asked if one.is_cut_short]
        by = "by cross-validation" if probe.kinds else "on validation items"
        return f"Exact match {by}", table, *_doubts(doubtful)
    scores = [score for role in _ROLES if (score := scorecard.score(role)) is not None]
    slices = [one.slice for one in scores[-1].rows if one.slice != "all"] if scores else []
    are_cut = any(score.n_truncated for score in scores)
    table = _accuracy_table(slices, are_cut)
    for score in scores:
        table.add_row(*_score_row(score, slices, are_cut))
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None and deployment.served is not None:
        table.add_row(*_served_row(deployment.served, slices, are_cut))
    title = f"{sentence(measured(scorecard.metric))} on test items; {said(scorecard.earlier_reads)}"
    doubtful = [_who(score) for score in scores if score.is_cut_short]
    lost = [] if deployment is None else _lost(deployment)
    if scorecard.logged is not None:
        lost = [Text(against_logged(scorecard.logged)), *lost]
    return title, table, *lost, *_doubts(doubtful)


def _lost(deployment: Deployment) -> list[Text]:
    """Say what the format that is served loses, on the items that it was asked."""
    served = deployment.served
    if served is None:
        return []
    loss = served.loss_points
    # Zero has no sign, whatever rounding makes of it.
    mean, low, high = (f"{round(value, 1) + 0.0:.1f}" for value in (loss.mean, loss.low, loss.high))
    told = (
        f"As {served.format} the student loses {mean} points (95% interval {low} to {high}) on "
        f"the {counted(served.n_items, 'test item', spec=',')} that this format was asked"
    )
    shown = said_of_format(served)
    told += f": {shown}." if shown else "."
    return [Text(told)]


def _doubts(names: list[str]) -> list[Text]:
    """Say whose accuracy rests on answers of which too many were cut."""
    if not names:
        return []
    told = (
        f"More than 1 in 20 answers of {' and '.join(names)} were cut short: the accuracy may be "
        "higher than is measured."
    )
    return [Text(told, style="yellow")]


def _accuracy_table(slices: list[str], are_cut: bool) -> Table:
    right = "all" if slices else "right"
    cut = ["cut short"] if are_cut else []
    return _table(["model"], [right, "95% interval", "items", *cut, *slices])


def _who(score: ModelScore) -> str:
    role = _ROLES[score.role]
    return f"{role} ({_name(score)})" if score.role in _NAMED else role


def _score_row(score: ModelScore, slices: list[str], are_cut: bool) -> list[str]:
    whole = score.slice()
    cut = [str(score.n_truncated) if score.max_tokens else "–"] if are_cut else []
    means = {part.slice: percent(part.exact.mean) for part in score.slices}
    parts = [means.get(name, "–") for name in slices]
    return [*_cells(_who(score), whole.exact, whole.n_items), *cut, *parts]


def _cells(name: str, exact: Interval, n_items: int) -> list[str]:
    """Return the first columns of the table of accuracies."""
    return [name, percent(exact.mean), percent_range(exact.low, exact.high), str(n_items)]


def _served_row(served: Export, slices: list[str], are_cut: bool) -> list[str]:
    """Return the accuracy of the format that is served, on the items that it was asked."""
    cells = _cells(f"student as served ({served.format})", served.exact, served.n_items)
    return [*cells, *(["–"] if are_cut else []), *("–" for _ in slices)]


def _name(score: ModelScore) -> str:
    return ", ".join(filter(None, (score.name, size(score.n_params))))
