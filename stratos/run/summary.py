"""The final summary: plan, cost, accuracy and file locations."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
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
from stratos.evaluate.format_verdict import in_words as format_in_words
from stratos.evaluate.read_log import describe_reads
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
    for line, style in _judgements(config, records):
        say(line, style=style)
    for line in _files(config, records):
        say(line)
    if refusal := not_worth_serving(config, records):
        say(refusal, style=_STYLES["worse"])


def _judgements(config: Config, records: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield what the measured accuracy means, each line with its style."""
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        if (judgement := verdict(scorecard)) is not None:
            yield judgement.text, _STYLES[judgement.outcome]
        if scorecard.comparison is not None and (bound := at_least(scorecard.comparison)):
            yield sentence(bound), None
    if (missed := missed_limit(config, records)) is not None:
        yield str(missed), "yellow"
        remedies = (room.remedy(config, records) for room in config.rooms.values())
        yield from ((str(remedy), None) for remedy in remedies if remedy is not None)


def _files(config: Config, records: Mapping[str, Any]) -> Iterator[str]:
    """Yield where what the run has made lies, and what is typed to use it."""
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None and corpus.rows_to_label is not None:
        n_rows = counted(corpus.n_rows_to_label, "row")
        yield f"To label by hand  {corpus.rows_to_label}  ({n_rows})"
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        yield f"Bundle  {deployment.bundle_path}"
        here = f"stratos serve {shlex.quote(str(config.run_dir))} (on this machine)"
        yield f"Host    {here}; on the planned servers: see {deployment.service_path}"
    rooms = (record for record in records.values() if isinstance(record, RoomRecord))
    yield from filter(None, (room.summary(config.run_dir) for room in rooms))
    if "report" in records:
        yield f"Report  {records['report'].path}"
    yield f"Records {config.run_dir}"


def not_worth_serving(config: Config, records: Mapping[str, Any]) -> str:
    """Return as the last words of a run that what is free does as well, and what may change that.

    "" where the student is better, and of a kind that is trained in seconds: it is as free.
    """
    scorecard: Scorecard | None = records.get("evaluate")
    plan: Plan | None = records.get("plan")
    judgement = None if scorecard is None else verdict(scorecard)
    if judgement is None or not judgement.against_free or plan is None:
        return ""
    student = named(config.students, plan.student)
    if student.kind != LM:
        return ""
    return f"Do not serve this student. {judgement.against_free}. {what_may_help(config, student)}"


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
    if (plan := records.get("plan")) is not None:
        worth = plan.worth if config is None else _worth(config, records)
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
    if (deployment := records.get("deploy")) is not None:
        numbers["latency_p95_ms"] = deployment.latency_p95_ms
        if deployment.served is not None:
            numbers["served_exact"] = deployment.served.exact.mean
    return numbers


def _plan_numbers(plan: Plan, worth: Worth | None) -> dict[str, float | str]:
    numbers: dict[str, float | str] = {
        "teacher": plan.teacher,
        "student": plan.student,
        "strategy": plan.strategy,
        "planned_usd": plan.usd,
        "planned_hours": plan.hours,
        "planned_net_usd": plan.net_usd,
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
    scores = {role: scorecard.score(role) for role in _ROLES}
    numbers: dict[str, float | str] = {
        f"{role}_exact": score.slice().exact.mean
        for role, score in scores.items()
        if score is not None
    }
    if (baseline := scorecard.best_baseline) is not None:
        numbers |= {"best_baseline": baseline.role, "best_baseline_p_value": baseline.p_value}
    if (judgement := verdict(scorecard)) is not None:
        numbers["beside_baselines"] = judgement.outcome
        numbers["beside_baselines_text"] = numbers["verdict"] = judgement.text
    if scorecard.comparison is not None:
        numbers["ratio_at_least"] = scorecard.comparison.ratio_at_least
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


def _accuracy(records: Mapping[str, Any]) -> tuple[str | Table | Text, ...]:
    """Return the accuracies on test items, or the probe's where nothing was evaluated."""
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is None:
        return () if (probe := records.get("probe")) is None else _accuracy_of_probe(probe)
    scores = [score for role in _ROLES if (score := scorecard.score(role)) is not None]
    slices = [row.slice for row in scores[-1].rows if row.slice != "all"] if scores else []
    rows = [_score_row(score) for score in scores]
    deployment: Deployment | None = records.get("deploy")
    served = None if deployment is None else deployment.served
    notes = [] if scorecard.logged is None else [Text(against_logged(scorecard.logged))]
    if served is not None:
        label = f"student as served ({served.format})"
        rows.append(_row(label, served.exact, served.n_items))
        notes.append(_loss(served))
    are_cut = any(score.n_truncated for score in scores)
    doubtful = [_who(score) for score in scores if score.is_cut_short]
    reads = describe_reads(scorecard.earlier_reads)
    title = f"{sentence(measured(scorecard.metric))} on test items; {reads}"
    return title, _accuracy_table(rows, are_cut, slices), *notes, *_doubts(doubtful)


def _accuracy_of_probe(probe: Probe) -> tuple[str | Table | Text, ...]:
    rows = [_row(kind.student, kind.accuracy, kind.n_rows, kind.micro_f1) for kind in probe.kinds]
    rows += [_score_row(baseline) for baseline in probe.baselines]
    for teacher in probe.real_teachers:
        name = teacher.teacher if teacher.logged is None else teacher.card.name
        row = _row(f"teacher ({name})", teacher.exact, teacher.n_items)
        if teacher.logged is not None:
            row["right"] = f"at most {row['right']}"
        rows.append({**row, _CUT: str(teacher.n_truncated)})
    are_cut = any(teacher.n_truncated for teacher in probe.real_teachers)
    doubtful = [
        f"teacher ({teacher.teacher})" for teacher in probe.real_teachers if teacher.is_cut_short
    ]
    by = "by cross-validation" if probe.kinds else "on validation items"
    return f"Exact match {by}", _accuracy_table(rows, are_cut), *_doubts(doubtful)


_MICRO_F1 = "micro-F1"
"""Heading of that of students of several labels."""
_CUT = "cut short"
"""Heading of the answers that ended at the longest length."""


def _accuracy_table(
    rows: Sequence[Mapping[str, str]], are_cut: bool, slices: Sequence[str] = ()
) -> Table:
    """Return rows, by heading, as a table; what a row lacks is a dash."""
    headings = ["right", "95% interval", "items", *([_CUT] if are_cut else []), *slices]
    headings += [_MICRO_F1] * any(_MICRO_F1 in row for row in rows)
    table = _table(["model"], ["all" if slices else "right", *headings[1:]])
    for row in rows:
        table.add_row(*(row.get(heading, "–") for heading in ("model", *headings)))
    return table


def _row(
    name: str, exact: Interval, n_items: int, micro_f1: Interval | None = None
) -> dict[str, str]:
    f1 = {}
    if micro_f1 is not None:
        between = percent_range(micro_f1.low, micro_f1.high)
        f1[_MICRO_F1] = f"{percent(micro_f1.mean)} ({between})"
    return {
        "model": name,
        "right": percent(exact.mean),
        "95% interval": percent_range(exact.low, exact.high),
        "items": str(n_items),
        **f1,
    }


def _score_row(score: ModelScore) -> dict[str, str]:
    whole = score.slice()
    cut = {_CUT: str(score.n_truncated)} if score.max_tokens else {}
    means = {part.slice: percent(part.exact.mean) for part in score.slices}
    return {**means, **cut, **_row(_who(score), whole.exact, whole.n_items, whole.micro_f1)}


def _who(score: ModelScore) -> str:
    role = _ROLES[score.role]
    if score.role not in _NAMED:
        return role
    return f"{role} ({', '.join(filter(None, (score.name, size(score.n_params))))})"


def _loss(served: Export) -> Text:
    """Say what the format that is served loses, on the items that it was asked."""
    loss = served.loss_points
    # Zero has no sign, whatever rounding makes of it.
    mean, low, high = (f"{round(value, 1) + 0.0:.1f}" for value in (loss.mean, loss.low, loss.high))
    judgement = format_in_words(served)
    return Text(
        f"As {served.format} the student loses {mean} points (95% interval {low} to {high}) on "
        f"the {counted(served.n_items, 'test item', spec=',')} that this format was asked"
        f"{f': {judgement}.' if judgement else '.'}"
    )


def _doubts(names: list[str]) -> list[Text]:
    """Say whose accuracy rests on answers of which too many were cut."""
    if not names:
        return []
    text = (
        f"More than 1 in 20 answers of {' and '.join(names)} were cut short: the accuracy may be "
        "higher than is measured."
    )
    return [Text(text, style="yellow")]
