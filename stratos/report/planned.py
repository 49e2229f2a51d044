"""Compare planned with measured values.

A prediction is missed where the measured value lies outside its interval, a bound where it lies
above it. What predicts nothing, or was slowed by other work, is shown and not judged: a value that
was measured elsewhere than where it was planned (hours and latencies of this machine, where servers
were planned), one of a plan that was made when the training was over, dollars where nothing is to
be paid. Hours are those behind the plan. Those of a stage that ran as a job are of all its
attempts, as the ledger has them; they lack the wait for servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from stratos.catalog.offers import CLOUD
from stratos.config import STAGES
from stratos.core.formats import (
    counted,
    gib,
    hours,
    listed,
    milliseconds,
    per_second,
    percent,
    percent_most,
    percent_range,
    right_shortly,
    taken_before,
    usd,
)
from stratos.core.intervals import on_items
from stratos.records import (
    Corpus,
    Deployment,
    Interval,
    Plan,
    Prediction,
    RoleChoice,
    Scorecard,
    SliceScore,
    Student,
)
from stratos.report.costs import Spend, metered, stage_seconds

# One quantity, as planned and as measured.

Outcome = Literal["inside", "outside", "open"]
Kind = Literal["accuracy", "hours", "dollars", "latency", "rate", "memory"]
"""What rows of many runs are counted together by."""
LATE = "the student was trained before this plan was made"
_FREE = "nothing was to be paid, and nothing was"


@dataclass(frozen=True)
class Figures:
    """The numbers of a row, in the unit of its kind.

    Shares, hours, dollars, milliseconds, requests a second, GiB.
    """

    measured: float
    planned: float | None = None
    low: float | None = None
    """Ends of the interval that the measured value is judged by; None where there is none."""
    high: float | None = None
    is_bound: bool = False
    """Whether `high` is an upper bound, and nothing was predicted of how far below it one comes."""

    @property
    def would_be(self) -> Outcome:
        """Whether the measured value lies in the interval, whatever speaks against judging it."""
        if self.low is None or self.high is None:
            return "open"
        return judged(self.measured, (self.low, self.high), "")


@dataclass(frozen=True)
class PlannedRow:
    """One quantity, as planned and as measured."""

    quantity: str
    planned: str
    interval: str
    """Of the plan; "" where it has none."""
    measured: str
    outcome: Outcome
    """open: it cannot be compared, for the reason in `note`."""
    kind: Kind
    figures: Figures
    note: str = ""

    @property
    def width(self) -> float | None:
        """How wide the interval is: None without one, and of a bound.

        High minus low of accuracy (shares), high over low of all others (infinite from 0 on).
        """
        low, high = self.figures.low, self.figures.high
        if low is None or high is None or self.figures.is_bound:
            return None
        if self.kind == "accuracy":
            return high - low
        if low <= 0:
            return inf if high > 0 else 1.0
        return high / low

    @property
    def text(self) -> str:
        """The outcome in words."""
        if self.outcome == "open":
            would_be = self.figures.would_be
            return "not judged" if would_be == "open" else f"{would_be}, not judged"
        if self.figures.is_bound:
            return "not exceeded" if self.outcome == "inside" else "exceeded"
        if self.outcome == "inside":
            return "in the interval"
        return "missed, and better" if self.is_better else "missed"

    @property
    def is_worse(self) -> bool:
        """Whether it came worse than its interval allows."""
        return self.outcome == "outside" and not self.is_better

    @property
    def is_better(self) -> bool:
        """Whether it came better than its interval allows: more accurate, or for less."""
        low, high = self.figures.low, self.figures.high
        if self.outcome != "outside" or low is None or high is None:
            return False
        if self.kind in ("accuracy", "rate"):
            return self.figures.measured > high
        return self.figures.measured < low

    @property
    def interval_with_width(self) -> str:
        """The interval, and how many times its low end the high one is."""
        if not self.interval or self.width is None or self.kind == "accuracy":
            return self.interval
        return f"{self.interval} ({written_width(self.width, self.kind)})"


def misses(rows: Iterable[PlannedRow]) -> Iterator[str]:
    """Yield what was measured outside of its interval, better or worse, one sentence each."""
    for row in rows:
        if row.outcome == "outside":
            between = f" ({row.interval_with_width})" if row.interval else ""
            better = ", and better" if row.is_better else ""
            yield f"{row.quantity}: {row.measured}{better}; planned {row.planned}{between}"


def news_alone(row: PlannedRow, is_late: bool) -> PlannedRow:
    """Return a row of a plan, not judged where its prediction says nothing.

    Args:
        row: as it compares.
        is_late: whether what it predicts was over when the plan was made.
    """
    of = row.figures
    why = LATE if is_late else ""
    if row.kind == "dollars" and of.planned == of.measured == 0:
        why = why or _FREE
    if not why or row.outcome == "open":
        return row
    note = "; ".join(filter(None, (why, row.note)))
    return replace(row, outcome="open", note=note, figures=Figures(of.measured, of.planned))


def written_width(width: float, kind: Kind) -> str:
    """Write how wide an interval is: "38 points", "4.8×"."""
    if kind == "accuracy":
        return f"{100 * width:.0f} points"
    return "from 0" if width == inf else f"{width:.2g}×" if width < 10 else f"{width:.0f}×"


def judged(value: float, between: tuple[float, float] | None, why_not: str) -> Outcome:
    """Return whether a value lies in its interval; open without one, or for a reason."""
    if why_not or between is None:
        return "open"
    low, high = between
    slack = 1e-9 + 1e-6 * high
    return "inside" if low - slack <= value <= high + slack else "outside"


def ends(interval: Interval) -> str:
    """Write the ends of an interval of shares."""
    return percent_range(interval.low, interval.high)


def written(between: tuple[float, float] | None, write: Callable[[float], str]) -> str:
    """Write the ends of a range; "" where there is none."""
    return f"{write(between[0])} to {write(between[1])}" if between is not None else ""


def _compared(
    quantity: str,
    kind: Kind,
    write: Callable[[float], str],
    planned: float,
    measured: float,
    between: tuple[float, float] | None,
    note: str,
    why_not: str = "",
) -> PlannedRow:
    """Return the row of a quantity, judged by an interval unless there is a reason not to."""
    return PlannedRow(
        quantity,
        write(planned),
        written(between, write),
        write(measured),
        judged(measured, between, why_not),
        kind,
        Figures(measured, planned, *(between or (None, None))),
        note,
    )


# What was predicted of the server on this machine before its load test, and what it showed.
#
# The estimate that the plan's servers are chosen by is asked about this machine, too: so its
# answers are judged in every run, wherever the plan would serve.

_BUSY = "other work slowed this machine"
_FASTER = f"{_BUSY}, and it was faster than predicted all the same"


def rows_here(deployment: Deployment) -> Iterator[PlannedRow]:
    """Yield a row for each quantity that was predicted of the server on this machine."""
    busy = deployment.was_busy
    load = deployment.load
    slots = deployment.run.slots
    if (answer := deployment.answer_ms) is not None:
        yield _row("an answer alone, here", "latency", answer, milliseconds, busy)
    if load is not None and load.p95_ms is not None:
        yield _row("p95 under load, here", "latency", load.p95_ms, milliseconds, busy)
    if load is not None and load.capacity is not None:
        name = f"capacity, {counted(slots, 'request')} in flight, here"
        yield _row(name, "rate", load.capacity, per_second, busy)
    if (memory := deployment.memory_gib) is not None:
        bound, measured = memory.predicted.high, memory.measured
        yield PlannedRow(
            "memory of the server, here",
            f"≤ {gib(bound)}",
            "",
            gib(measured),
            judged(measured, (0.0, bound), ""),
            "memory",
            Figures(measured, bound, 0.0, bound, is_bound=True),
            f"{percent(measured / bound, 0)} of the most that a plan counts with" if bound else "",
        )


def judged_here(figures: Figures, kind: Kind, is_busy: bool) -> tuple[Outcome, str]:
    """Return the outcome of a server's speed on this machine, and what there is to note.

    Other work makes a server slower. So what is slower than predicted beside other work, or in the
    interval, is not judged; what is faster is a miss.
    """
    if not is_busy or figures.low is None or figures.high is None:
        return figures.would_be, ""
    slower = figures.measured < figures.low if kind == "rate" else figures.measured > figures.high
    if figures.would_be == "outside" and not slower:
        return "outside", _FASTER
    return "open", _BUSY


def _row(
    quantity: str, kind: Kind, prediction: Prediction, write: Callable[[float], str], is_busy: bool
) -> PlannedRow:
    predicted = prediction.predicted
    between = predicted.low, predicted.high
    figures = Figures(prediction.measured, predicted.mean, *between)
    outcome, note = judged_here(figures, kind, is_busy)
    return replace(
        _compared(quantity, kind, write, predicted.mean, prediction.measured, between, note),
        outcome=outcome,
    )


_STAGES = {
    "teacher": ("synthesize", "evaluate"),
    "train": ("distill",),
    "serve": ("deploy",),
}
"""Stages that measure what is planned for a role."""


def planned_rows(
    plan: Plan | None, records: Mapping[str, Any], spends: Sequence[Spend] = ()
) -> tuple[PlannedRow, ...]:
    """Return a row for each quantity that was planned and measured; none without a plan.

    Args:
        plan: what was planned.
        records: stage name to its record, as far as the stages have run.
        spends: the ledger's lines.
    """
    if plan is None:
        return ()
    rows = (
        _accuracy(plan, records.get("evaluate")),
        _hours(plan, records, spends),
        _dollars(plan, records, spends),
        _latency(plan, records, spends),
    )
    deployment: Deployment | None = records.get("deploy")
    here = () if deployment is None else rows_here(deployment)
    return (*(news_alone(row, plan.is_late) for row in rows if row is not None), *here)


def _accuracy(plan: Plan, scorecard: Scorecard | None) -> PlannedRow | None:
    score = scorecard.score("student") if scorecard is not None else None
    if score is None:
        return None
    whole: SliceScore = score.slice()
    if not whole.n_items:
        return None
    measured = f"{percent(whole.exact.mean)} ({ends(whole.exact)})"
    predicted, n, alone = plan.accuracy, whole.n_items, Figures(whole.exact.mean)
    n_independent = whole.n_independent or n
    if not (predicted.is_known and predicted.is_share_known):
        if predicted.tried is not None:
            tried = right_shortly(predicted.tried)
            note = "too short a training to predict from"
            return PlannedRow("accuracy", tried, "", measured, "open", "accuracy", alone, note)
        if predicted.high >= 1:
            note = "nothing was predicted"
            return PlannedRow("accuracy", "unknown", "", measured, "open", "accuracy", alone, note)
        most = on_items(
            Interval(predicted.high, predicted.high, predicted.high), n_independent
        ).high
        return PlannedRow(
            "accuracy",
            f"≤ {percent_most(predicted.high, 0)}, not measured",
            ends(predicted),
            measured,
            "inside" if whole.exact.mean <= most else "outside",
            "accuracy",
            Figures(whole.exact.mean, None, 0.0, most, is_bound=True),
            f"≤ {percent_most(most)} as {counted(n, 'test item', spec=',')} may show it",
        )
    # What is planned is the accuracy itself; so many test items show it with an error of their own.
    shown = on_items(predicted, n_independent)
    is_inside = shown.low <= whole.exact.mean <= shown.high
    return PlannedRow(
        "accuracy",
        percent(predicted.mean),
        ends(predicted),
        measured,
        "inside" if is_inside else "outside",
        "accuracy",
        Figures(whole.exact.mean, predicted.mean, shown.low, shown.high),
        f"{ends(shown)} as {counted(n, 'test item', spec=',')} may show it",
    )


def _hours(plan: Plan, records: Mapping[str, Any], spends: Sequence[Spend]) -> PlannedRow | None:
    corpus: Corpus | None = records.get("synthesize")
    student: Student | None = records.get("distill")
    if corpus is None or student is None:
        return None
    scorecard: Scorecard | None = records.get("evaluate")
    teacher = scorecard.score("teacher") if scorecard is not None else None
    took_of = stage_seconds(records, spends)
    seconds = took_of["synthesize"] + took_of["distill"]
    elsewhere = _elsewhere([role for role in plan.roles if role.role != "serve"], records, spends)
    if teacher is not None and not _hosted(plan):
        seconds += teacher.seconds
    elif teacher is not None:
        # Its answers come many at once: each one's own seconds say nothing of the wait for all.
        seconds += teacher.wall_seconds or 0.0
        if teacher.wall_seconds is None:
            elsewhere = elsewhere or "the wait for the hosted teacher's answers was not recorded"
        elif teacher.n_cached:
            cached = counted(teacher.n_cached, "test answer", spec=",")
            elsewhere = elsewhere or f"{cached} of the hosted teacher were kept from before"
    if scorecard is None:
        elsewhere = elsewhere or "the run has not come to its evaluation"
    # Probe and pilot were over when the plan was made: on both sides they would hide a miss.
    took, between = seconds / 3600, plan.hours_range
    before = f"{taken_before(plan.spent_hours)}, on neither side" if plan.spent_hours else ""
    notes = elsewhere or _without(between), *_attempts(spends), before
    note = "; ".join(filter(None, notes))
    name = "time from the plan until trained"
    return _compared(name, "hours", hours, plan.hours, took, between, note, elsewhere)


def _dollars(plan: Plan, records: Mapping[str, Any], spends: Sequence[Spend]) -> PlannedRow | None:
    if records.get("evaluate") is None:
        return None
    added = _unplanned(plan, spends)
    apart = sum(spend.usd for spend in added)
    # What probe and pilot were paid was gone before there was a plan; it may be made again later.
    paid = sum(spend.usd for spend in spends if not spend.is_before_plan) - apart
    elsewhere = _elsewhere(plan.roles, records, spends)
    row = _dollars_row(plan, spends, paid, elsewhere)
    if not apart:
        return row
    stages = listed(sorted({spend.stage for spend in added}))
    note = f"the teacher's answers to {stages}, {usd(apart)}, are in no plan"
    return replace(row, note="; ".join(filter(None, (row.note, note))))


def _unplanned(plan: Plan, spends: Sequence[Spend]) -> list[Spend]:
    """Return what a room's stage was paid that the plan did not count: it was asked for later."""
    if any(role.after_deploy_usd for role in plan.roles):
        return []
    return [spend for spend in spends if spend.stage not in ("", "pilot", *STAGES)]


def _dollars_row(plan: Plan, spends: Sequence[Spend], paid: float, elsewhere: str) -> PlannedRow:
    if not elsewhere:
        return _dollars_until_served(plan, spends, paid)
    if stages := dict.fromkeys(spend.stage for spend in spends if spend.seconds):
        # Serving is paid from when it begins, and what ran here cost nothing.
        planned = sum(role.usd for role in plan.roles if role.role != "serve")
        note = f"servers were rented for {', '.join(stages)}"
        return _compared("dollars until served", "dollars", usd, planned, paid, None, note)
    hosted = _hosted(plan)
    if not hosted:
        note = "no server was rented"
        return _compared("dollars", "dollars", usd, plan.usd, paid, None, note)
    planned = sum(role.usd for role in hosted)
    ranges = [role.usd_range for role in hosted if role.usd_range is not None]
    between = None
    if len(ranges) == len(hosted):
        between = sum(low for low, _ in ranges), sum(high for _, high in ranges)
    note = _without(between) or "no server was rented"
    return _compared("dollars of the teacher", "dollars", usd, planned, paid, between, note)


def _dollars_until_served(plan: Plan, spends: Sequence[Spend], paid: float) -> PlannedRow:
    """Judge what is paid before the student serves: a run serves for no hour of the plan's."""
    serving = sum(role.usd for role in plan.roles_of("serve"))
    planned, between = max(0.0, plan.usd - serving), plan.usd_range
    if between is not None:  # rented for given hours, it costs as much at both ends
        between = max(0.0, between[0] - serving), max(0.0, between[1] - serving)
    tried = sum(spend.usd for spend in spends if spend.role == "serve")
    paid = max(0.0, paid - tried)
    notes = (
        _without(between),
        f"the trials of the student on its server, {usd(tried)}, are in no plan" if tried else "",
    )
    name = "dollars until served" if planned < plan.usd else "dollars"
    note = "; ".join(filter(None, notes))
    return _compared(name, "dollars", usd, planned, paid, between, note)


def _latency(plan: Plan, records: Mapping[str, Any], spends: Sequence[Spend]) -> PlannedRow | None:
    deployment: Deployment | None = records.get("deploy")
    if deployment is None:
        return None
    elsewhere = _elsewhere(plan.roles_of("serve"), records, spends)
    load = deployment.load
    # A plan for a rate of requests counts their wait; one for requests one at a time has none.
    waited = load is not None and load.planned_per_s is not None
    measured = load.latency_p95_ms if load and waited else deployment.latency_p95_ms
    note = elsewhere or _without(None)
    return _compared("latency, p95", "latency", milliseconds, plan.latency_ms, measured, None, note)


def _hosted(plan: Plan) -> list[RoleChoice]:
    """Return the teachers that are paid by the token, and have no server."""
    return [role for role in plan.roles_of("teacher") if role.offer is None and role.usd]


def _without(between: tuple[float, float] | None) -> str:
    return "the plan has no interval for it" if between is None else ""


def _elsewhere(
    roles: Sequence[RoleChoice], records: Mapping[str, Any], spends: Sequence[Spend]
) -> str:
    """Say which roles were measured elsewhere than they were planned, and where; "" if none."""
    by_place: dict[str, dict[str, None]] = {}
    for role in roles:
        if role.offer is None or role.offer.cloud == CLOUD:
            continue
        for machine in _places(role.role, role.offer.name, records, spends):
            by_place.setdefault(machine, {})[role.offer.name] = None
    return "; ".join(
        f"planned for {', '.join(names)}, measured on {machine}"
        for machine, names in by_place.items()
    )


def _places(
    role: str, planned: str, records: Mapping[str, Any], spends: Sequence[Spend]
) -> dict[str, None]:
    """Return where stages of a role ran, other than on the planned server."""
    machines: dict[str, None] = {}
    for stage in _STAGES[role]:
        if (record := records.get(stage)) is None:
            continue
        spans = metered(spends, stage)
        # A record that counts more than the servers were held for began on this machine.
        if sum(spend.seconds for spend in spans) < record.seconds:
            machines["this machine"] = None
        for spend in spans:
            if spend.server != planned:
                machines[spend.server or "rented servers"] = None
    return machines


def _attempts(spends: Sequence[Spend]) -> list[str]:
    """Say which stages' hours are those of jobs, and of how many attempts."""
    notes = []
    for stage in ("synthesize", "distill"):
        if spans := metered(spends, stage):
            n = counted(len(spans), "attempt")
            notes.append(f"{stage} counts {n} on servers, without the wait for them")
    return notes
