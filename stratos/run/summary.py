"""The end of a run: verdict, cost, what to do next, and where everything is; numbers and tables."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from stratos.config import Config
from stratos.core.formats import (
    at_least,
    counted,
    duration,
    hours,
    p_value,
    percent,
    percent_range,
    sentence,
    size,
    usd,
)
from stratos.core.names import named
from stratos.core.reasons import Reason
from stratos.evaluate.format_verdict import in_words as format_in_words
from stratos.evaluate.verdict import SURE, Verdict, accuracy_as_served, against_logged, verdict
from stratos.models.kinds.suits import LM
from stratos.models.students import what_may_help
from stratos.records import (
    FREE_ROLES,
    Corpus,
    Deployment,
    Export,
    Interval,
    ModelScore,
    Plan,
    RoomRecord,
    Scorecard,
    Versus,
    Worth,
)
from stratos.report.costs import CostRow, Spend, cost_rows, read_ledger, read_reserves
from stratos.report.frontier import next_steps
from stratos.report.planned import PlannedRow, planned_rows
from stratos.report.worth_measured import worth_measured
from stratos.run.console import Console, from_here
from stratos.run.screen import ROLES, Level, Line, errs_most_on, no_answers, who

_MEASURED = "hours measured × the plan's price"
_STYLES = {"serve": "green", "open": "yellow", "stay": "yellow"}
"""No red: a student that is not worth it is a result, and no fault."""
_WORTH = {
    "distil": "Serve it, for its cost. ",
    "stay": "Do not serve it, for its cost. ",
    "open": "",
}
"""Outcome of the verdict on cost to how it begins."""


_LEAST_POINTS = 0.5
"""Points of accuracy below which more rows are not worth their labels."""


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
    """Print the last lines of as many stages as there are records of, and at most the tables."""
    plan: Plan | None = records.get("plan")
    if console.level >= Level.VERBOSE and plan is not None:
        console.table(_costs(plan, records, ledger))
        if rows := planned_rows(plan, records, read_ledger(ledger)):
            console.table(_planned(rows))
    if console.level >= Level.VERBOSE and (scorecard := records.get("evaluate")) is not None:
        for part in _accuracy(scorecard, records.get("deploy")):
            console.table(part)
    console.show(last_lines(config, records, ledger))


def last_lines(config: Config, records: Mapping[str, Any], ledger: Path) -> Iterator[Line]:
    """Yield what a run comes to: the answers, the verdict, what to do, and where everything is."""
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        yield from no_answers(_unread(config.run_dir / scorecard.answers_path), scorecard)
    if (judgement := run_verdict(config, records)) is not None:
        yield Line("verdict", judgement.text, _STYLES[judgement.outcome])
    if steps := "\n".join(_next(config, records)):
        yield Line("next", steps)
    budget = config.limits.budget_usd
    of = "" if budget is None else f" of limits.budget_usd={budget:g}"
    spent = sum(spend.usd for spend in read_ledger(ledger))
    took = sum(getattr(record, "seconds", 0.0) for record in records.values())
    yield Line("spent", f"{usd(spent)}{of}; {duration(took)} of work")
    yield from _places(config, records)


def _unread(path: Path) -> dict[str, tuple[int, int]]:
    """Return of the student how many answers cannot be read as one, and how many there are."""
    try:
        parsed = [json.loads(line)["score"]["parsed"] for line in path.open(encoding="utf-8")]
    except (OSError, ValueError, KeyError):
        return {}
    return {"student": (parsed.count(False), len(parsed))} if parsed else {}


@dataclass(frozen=True)
class RunVerdict:
    """Whether the student of a run is to be served."""

    outcome: Literal["serve", "stay", "open"]
    """serve it; stay with what does the task today, or with what is free; or open: what was
    measured does not decide it."""
    reason: Literal["accuracy", "cost"]
    """What decides it."""
    text: str
    """The same in words, with the numbers."""

    def __str__(self) -> str:
        return self.text


_OF_WORTH: dict[str, Literal["serve", "stay", "open"]] = {
    "distil": "serve", "stay": "stay", "open": "open"
}  # fmt: skip
_OF_ACCURACY: dict[str, Literal["serve", "stay", "open"]] = {
    "better": "serve", "open": "open", "worse": "stay"
}  # fmt: skip


def run_verdict(config: Config, records: Mapping[str, Any]) -> RunVerdict | None:
    """Return whether the student is to be served, and for what; None where nothing was compared."""
    scorecard: Scorecard | None = records.get("evaluate")
    judgement = None if scorecard is None else verdict(scorecard)
    if (missed := missed_limit(config, records)) is not None:
        text = f"Do not serve it yet, for its accuracy: {missed}"
        return RunVerdict("stay", "accuracy", text)
    if judgement is not None and _is_needless(config, records, judgement):
        text = f"Do not serve this student, for its accuracy: {judgement.against_free}."
        return RunVerdict("stay", "accuracy", text)
    if (worth := _worth(config, records)) is not None:
        text = worth.headline or worth.text
        for start in ("Distil: ", "Don't distil: "):  # which the first words say
            text = text.removeprefix(start)
        text = f"{_WORTH[worth.outcome]}{text[:1].upper()}{text[1:]}"
        return RunVerdict(_OF_WORTH[worth.outcome], "cost", text)
    if judgement is None or scorecard is None:
        return None
    return _beside_baselines(scorecard, judgement)


def _beside_baselines(scorecard: Scorecard, judgement: Verdict) -> RunVerdict:
    """Return whether a student is to be served that is compared with baselines alone."""
    student, best = scorecard.score("student"), scorecard.best_baseline
    assert student is not None and best is not None, "there is a verdict"
    majority = next((versus for versus in scorecard.against if versus.role == "majority"), None)
    if majority is not None and (majority.p_value >= SURE or majority.ahead > 0):
        text = f"Do not serve it, for its accuracy: {_shares(majority)}, which may be chance."
        return RunVerdict("stay", "accuracy", text)
    if judgement.outcome == "better":
        text = f"Serve it, for its accuracy: {_shares(best)} ({_p(best.p_value)})."
        return RunVerdict("serve", "accuracy", text)
    if not student.is_light or best.role not in FREE_ROLES:
        return RunVerdict(_OF_ACCURACY[judgement.outcome], "accuracy", judgement.text)
    if judgement.outcome == "worse":
        text = f"Serve {best.name}, for its accuracy: {_shares(best)} ({_p(best.p_value)})."
        return RunVerdict("stay", "accuracy", text)
    text = (
        f"Serve it or {best.name}, both cost next to nothing: {_shares(best)}, too few rows to "
        "tell them apart."
    )
    return RunVerdict("open", "cost", text)


def _shares(versus: Versus) -> str:
    rows = counted(versus.n_items, "test row", spec=",")
    return (
        f"the student has {percent(versus.student)} of {rows} right, {versus.name} "
        f"{percent(versus.baseline)}"
    )


def _p(value: float) -> str:
    return f"p {'' if value < 1e-4 else '= '}{p_value(value)}"


def _next(config: Config, records: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may make the student better: which labels, how many rows, which student."""
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None and corpus.rows_to_label is not None:
        n_rows = counted(corpus.n_rows_to_label, "row", spec=",")
        yield f"label {n_rows} by hand: {from_here(Path(corpus.rows_to_label))}"
    probe, plan = records.get("probe"), records.get("plan")
    kind = None if probe is None or plan is None else probe.of_kind(plan.student)
    if kind is not None and kind.gain is not None:
        low, high = (100 * end for end in kind.gain)
        rows = counted(kind.n_rows, "more labelled row", spec=",")
        points = f"may bring {low:.0f} to {high:.0f} points"
        yield f"{rows} {points if high >= _LEAST_POINTS else 'would bring next to nothing'}"
    if labels := errs_most_on(records.get("evaluate")):
        yield f"label more rows of {labels}: there it is wrong most often"
    if missed_limit(config, records) is not None:
        remedies = (room.remedy(config, records) for room in config.rooms.values())
        yield from (str(remedy) for remedy in remedies if remedy is not None)
    judgement = verdict(records["evaluate"]) if "evaluate" in records else None
    if judgement is not None and plan is not None and _is_needless(config, records, judgement):
        yield what_may_help(config, named(config.students, plan.student))
    if "distill" not in records:
        if plan is not None:
            yield "stratos run with the same words trains it; --verbose says why this plan"
    elif kind is None:
        steps = next_steps(
            config.run_dir, probe, records.get("pilot"), plan, records["distill"], is_taught=False
        )
        yield from (f"{step.what}: {step.predicted}" for step in steps[:1])


def _places(config: Config, records: Mapping[str, Any]) -> Iterator[Line]:
    """Yield where what the run has made lies, and what is typed to use it."""
    run_dir, deployment = from_here(config.run_dir), records.get("deploy")
    if deployment is not None:
        yield Line("host", f"stratos serve {shlex.quote(run_dir)}")
        yield Line("detail", f"on the planned servers: {deployment.service_path}")
    rooms = (record for record in records.values() if isinstance(record, RoomRecord))
    for text in filter(None, (room.summary(config.run_dir) for room in rooms)):
        name, _, rest = text.partition(" ")
        yield Line(name.lower(), rest)
    page = records.get("report")
    yield Line("page" if page else "folder", from_here(Path(page.path)) if page else run_dir)


def _is_needless(config: Config, records: Mapping[str, Any], judgement: Verdict) -> bool:
    """Return whether what is free does as well as a language model.

    Students of other kinds are trained in seconds, and are as free.
    """
    plan: Plan | None = records.get("plan")
    return (
        plan is not None
        and bool(judgement.against_free)
        and named(config.students, plan.student).kind == LM
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
    scores = {role: scorecard.score(role) for role in ROLES}
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


def _accuracy(scorecard: Scorecard, deployment: Deployment | None) -> Iterator[Table | str]:
    """Yield the accuracies on test items with those of each slice, and what is to be known."""
    scores = [score for role in ROLES if (score := scorecard.score(role)) is not None]
    slices = [row.slice for row in scores[0].rows if row.slice != "all"] if scores else []
    rows = [_score_row(score) for score in scores]
    served = None if deployment is None else deployment.served
    if served is not None:
        rows.append(_row(f"student as served ({served.format})", served.exact, served.n_items))
    yield _accuracy_table(rows, any(score.n_truncated for score in scores), slices)
    if scorecard.logged is not None:
        yield against_logged(scorecard.logged)
    if served is not None:
        yield _loss(served)
    if scorecard.comparison is not None and (bound := at_least(scorecard.comparison)):
        yield sentence(bound)
    if doubtful := [_sized(score) for score in scores if score.is_cut_short]:
        yield _doubts(doubtful)


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
    return {**means, **cut, **_row(_sized(score), whole.exact, whole.n_items, whole.micro_f1)}


def _sized(score: ModelScore) -> str:
    return ", ".join(filter(None, (who(score), size(score.n_params))))


def _loss(served: Export) -> str:
    """Say what the format that is served loses, on the items that it was asked."""
    loss = served.loss_points
    # Zero has no sign, whatever rounding makes of it.
    mean, low, high = (f"{round(value, 1) + 0.0:.1f}" for value in (loss.mean, loss.low, loss.high))
    judgement = format_in_words(served)
    return (
        f"As {served.format} the student loses {mean} points (95% interval {low} to {high}) on "
        f"the {counted(served.n_items, 'test item', spec=',')} that this format was asked"
        f"{f': {judgement}.' if judgement else '.'}"
    )


def _doubts(names: Sequence[str]) -> str:
    """Say whose accuracy rests on answers of which too many were cut."""
    return (
        f"More than 1 in 20 answers of {' and '.join(names)} were cut short: the accuracy may be "
        "higher than is measured."
    )
