"""Whether distilling pays: the planned student against the other ways to have requests answered.

Every number has a range. Distilling is advised where it wins against each way that does the task as
well, with the ends that speak against it: the dearest training, the cheapest answers. Staying is
advised where it loses against one of them with the ends that speak for it. Else the verdict is
open. The arithmetic is that of `verdict`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from stratos.config import Config
from stratos.core.reasons import Reason
from stratos.plan.accuracy.predict import needs_no_model
from stratos.plan.verdict import (
    MOST_WAITING,
    Ends,
    Horizon,
    Money,
    Outcome,
    Verdict,
    horizon_of,
    joint,
    scaled_to_zero,
    verdict_text,
)
from stratos.plan.ways import hosted_ways, prompt_ways, too_slow, unsure, unweighted_slices, why_not
from stratos.plan.words import (
    AccuracyUnknown,
    AgreesTooLittle,
    Beaten,
    EndsWithin,
    EnoughUnsaid,
    IfGivenBack,
    LessAccurate,
    MissesLimit,
    NonePriced,
    NoneProbed,
    NotSure,
    OnlySlow,
    Sunk,
    free_servers,
)
from stratos.records import Interval, Plan, Probe, ScaledToZero, Way, Worth

MEASURED = "test items"
"""Source of an accuracy that is no prediction any more: that of the student on the test items."""
_HALF = 0.5
"""Agreement with logged answers below which no user can mean that it is enough."""


def verdict_of(
    config: Config,
    probe: Probe,
    plan: Plan,
    today: datetime.date | None = None,
    open_models: Sequence[Way] = (),
    beaten_by: Mapping[str, Reason] | None = None,
    beats_baselines: bool = False,
) -> Verdict | None:
    """Return whether a plan pays; None where there is no other way of a known price.

    Args:
        config: the run: its traffic, and its limit of accuracy.
        probe: what the models showed.
        plan: the student, what it costs and how accurate it is expected to be.
        today: from which on the horizon counts; None takes the date of this machine.
        open_models: as they are, on rented servers.
        beaten_by: by the name of a way that was measured to be more accurate than the student, the
            numbers that show it: distilling is not advised then.
        beats_baselines: whether the student was measured to be better than what needs no model.
    """
    hosted = hosted_ways(config, probe, plan)
    priced = (*hosted, *open_models)
    if not priced:
        return None
    student = Way(plan.student, True, plan.accuracy, None, plan.latency_ms, kind="student")
    added = [way for room in config.rooms.values() for way in room.ways(config, plan, hosted)]
    horizon = horizon_of(config.traffic)
    verdict = Verdict(
        beside_models="open",
        ways=(student, *added, *hosted, *prompt_ways(config, probe), *open_models),
        once_usd=_once(plan),
        servers_usd_per_day=plan.servers_usd_per_day,
        horizon=horizon,
        requests_per_day=config.traffic.requests_per_day,
        scaled=_scaled(config, plan, horizon),
        without_model=None if beats_baselines else needs_no_model(probe),
    )
    able = [way for way in priced if not way.why_not]
    if able:
        verdict = _compared(verdict, able, misses_limit(config, plan) is not None, plan)
    else:
        unable = tuple(way for way in priced if _only_slow(config, plan, way) is None)
        verdict = replace(verdict, beside_models="distil", unable=unable)
    doubt = doubt_of(config, plan, priced, beaten_by or {}, verdict.reference)
    if doubt is not None and verdict.beside_models == "distil":
        verdict = replace(verdict, beside_models="open")
    slow = [note for way in priced if (note := _only_slow(config, plan, way)) is not None]
    notes = _notes(
        config, probe, plan, verdict, able,
        [*slow, *([] if doubt is None else [doubt])], today or datetime.date.today(),
    )  # fmt: skip
    return replace(verdict, doubt=doubt, notes=tuple(notes))


def worth_of(verdict: Verdict) -> Worth:
    """Return the record of a verdict, with its words."""
    return Worth(
        outcome=verdict.outcome,
        text=verdict_text(verdict),
        ways=verdict.ways,
        reference="" if verdict.reference is None else verdict.reference.name,
        once_usd=verdict.once_usd,
        servers_usd_per_day=verdict.servers_usd_per_day,
        months=verdict.horizon.months,
        requests_per_day=verdict.requests_per_day,
        growth_per_month=verdict.horizon.growth_per_month,
        payback_days=verdict.payback_days,
        break_even_per_day=verdict.break_even_per_day,
        scaled=verdict.scaled,
    )


def why_no_verdict(config: Config, probe: Probe) -> Reason | None:
    """Return why there is no verdict, for a user who gave the traffic; None where none was given.

    Args:
        config: of the run.
        probe: what the models showed, none of which has a price.
    """
    if config.traffic.requests_per_day is None:
        return None
    names = tuple(teacher.teacher for teacher in probe.asked)
    return NonePriced(names) if names else NoneProbed()


def _compared(verdict: Verdict, able: Sequence[Way], misses: bool, plan: Plan) -> Verdict:
    """Return the verdict beside the alternatives, in dollars.

    Args:
        verdict: with what is known of the student.
        able: ways that do the task as well, or may.
        misses: the student does not do it.
        plan: of the student.
    """
    once, per_day, horizon = verdict.once_usd, verdict.servers_usd_per_day, verdict.horizon
    rate = verdict.requests_per_day
    if rate is None:
        reference = min(able, key=_usd_per_answer)
        even = _ends(once, per_day, reference).break_even(horizon)
        return replace(verdict, reference=reference, break_even_per_day=even)
    outcome, reference = _decided(able, misses, once, per_day, rate, horizon)
    ends = _ends(once, per_day, reference)
    made_days = 0.0 if is_measured(plan) else plan.hours / 24
    return replace(
        verdict,
        beside_models=outcome,
        reference=reference,
        break_even_per_day=ends.break_even(horizon),
        payback_days=ends.payback(rate, horizon, made_days),
        reference_usd=ends.mean.alternative(horizon.days, rate, horizon),
    )


def _notes(
    config: Config,
    probe: Probe,
    plan: Plan,
    verdict: Verdict,
    able: Sequence[Way],
    against: Sequence[Reason],
    today: datetime.date,
) -> Iterator[Reason]:
    """Yield what else is to be known of a verdict.

    Args:
        config: of the run.
        probe: what the models showed.
        plan: of the student.
        verdict: as decided.
        able: ways that do the task as well, or may.
        against: what speaks against distilling.
        today: from which on the horizon counts.
    """
    reference, rate = verdict.reference, verdict.requests_per_day
    if reference is not None and is_measured(plan):
        yield Sunk()
    if reference is not None and reference.retires:
        day = datetime.date.fromisoformat(reference.retires)
        if day <= today + datetime.timedelta(days=verdict.horizon.days):
            yield EndsWithin(reference.name, day)
    if verdict.beside_models != "stay":
        yield from against
    if reference is not None:
        if reference.unsure and (why := unsure(config, reference.accuracy)) is not None:
            yield NotSure(reference.name, why)
        if (slices := unweighted_slices(probe, reference.name)) is not None:
            yield slices
        if verdict.scaled is not None and rate is not None:
            per_day = verdict.scaled.usd_per_day
            misses = misses_limit(config, plan) is not None
            then, _ = _decided(able, misses, verdict.once_usd, per_day, rate, verdict.horizon)
            yield IfGivenBack(
                verdict.scaled, verdict.servers_usd_per_day, verdict.beside_models, then
            )
    if (free := free_servers(plan.roles_of("serve"))) is not None:
        yield free


def is_measured(plan: Plan) -> bool:
    """Return whether the student is trained, and its accuracy that on the test items."""
    return plan.accuracy.source == MEASURED


def doubt_of(
    config: Config,
    plan: Plan,
    ways: Sequence[Way],
    beaten_by: Mapping[str, Reason],
    reference: Way | None = None,
) -> Reason | None:
    """Return why distilling is not advised; None where nothing speaks against the student.

    Args:
        config: the limits.
        plan: its student.
        ways: the other ways that have a price, alternatives or not.
        beaten_by: as `verdict_of` takes it.
        reference: the way that the student is compared with; None where none is an alternative.
    """
    # Whatever they cost, if they answer in time.
    better = tuple(
        (way.name, beaten_by[way.name])
        for way in ways
        if way.name in beaten_by and too_slow(config, way.latency_ms) is None
    )
    if better:
        return Beaten(better)
    if not (plan.accuracy.is_known and plan.accuracy.is_share_known):
        return AccuracyUnknown()
    if (missed := misses_limit(config, plan)) is not None:
        return missed
    if reference is None or not reference.is_logged:
        return _less_accurate(plan, ways, reference)
    # What agrees with the logged answers is all that is known; the user says what is enough.
    if config.limits.accuracy is not None:
        return None
    if plan.accuracy.high < _HALF:
        return AgreesTooLittle(plan.accuracy, is_measured(plan))
    return EnoughUnsaid(plan.accuracy, is_measured(plan))


def misses_limit(config: Config, plan: Plan) -> MissesLimit | None:
    """Return that the student has too little for `limits.accuracy`; None where it may have enough.

    That is so if it was measured to have less, or if all of its predicted interval is below.
    """
    student, least = plan.accuracy, config.limits.accuracy
    if least is None or not (student.is_known and student.is_share_known):
        return None
    if (student.mean if is_measured(plan) else student.high) >= least:
        return None
    return MissesLimit(student, least, is_measured(plan))


def _less_accurate(plan: Plan, ways: Sequence[Way], reference: Way | None) -> LessAccurate | None:
    """Return that an alternative is surely more accurate: of several, the one compared with."""
    better = [
        way
        for way in ways
        if not way.why_not and not way.is_logged and plan.accuracy.high < way.accuracy.low
    ]
    if not better:
        return None
    most = max(better, key=lambda way: way.accuracy.low)
    if reference is not None and reference in better:
        most = reference
    return LessAccurate(plan.accuracy, is_measured(plan), most.name, most.accuracy.mean)


def _only_slow(config: Config, plan: Plan, way: Way) -> OnlySlow | None:
    """Return that a way would do the task, and is too slow; None where it is otherwise."""
    slow = too_slow(config, way.latency_ms)
    if not way.why_not or slow is None or why_not(config, way.accuracy, plan) is not None:
        return None
    return OnlySlow(way.name, slow, bool(way.unsure))


def _decided(
    able: Sequence[Way], misses: bool, once: Interval, per_day: float, rate: float, horizon: Horizon
) -> tuple[Outcome, Way]:
    """Return the verdict where ways may turn out to be no alternatives: open if they turn it.

    Args:
        able: ways that do the task as well, or may.
        misses: the student does not do it: then what may do it is an alternative.
        once: dollars of teacher, data and training.
        per_day: of the student's servers.
        rate: requests a day at first.
        horizon: for how long.
    """
    outcome, reference = decided(able, once, per_day, rate, horizon)
    sure = [way for way in able if not way.unsure]
    if misses or len(sure) == len(able):
        return outcome, reference
    without: Outcome = "distil"
    sure_reference = reference
    if sure:
        without, sure_reference = decided(sure, once, per_day, rate, horizon)
    if outcome != without:
        return "open", reference
    return outcome, sure_reference if outcome == "stay" else reference


def decided(
    able: Sequence[Way], once: Interval, per_day: float, rate: float, horizon: Horizon
) -> tuple[Outcome, Way]:
    """Return the verdict, and the alternative that decides it: the cheapest by expected costs.

    Args:
        able: ways that do the task as well.
        once: dollars of teacher, data and training.
        per_day: of the student's servers.
        rate: requests a day at first.
        horizon: for how long.
    """
    ends = [_ends(once, per_day, way) for way in able]
    outcomes = [of_way.outcome(rate, horizon) for of_way in ends]
    verdict = joint(outcomes)
    # Against the cheapest of all distilling may be open, and lose against a dearer one surely.
    costs = [of_way.mean.alternative(horizon.days, rate, horizon) for of_way in ends]
    decisive = [i for i, way in enumerate(outcomes) if way == verdict or verdict != "stay"]
    return verdict, able[min(decisive, key=lambda i: costs[i])]


def _scaled(config: Config, plan: Plan, horizon: Horizon) -> ScaledToZero | None:
    """Return what one rented server costs if it is given back while nobody asks."""
    rate, serve = config.traffic.requests_per_day, plan.roles_of("serve")
    if rate is None or len(serve) != 1 or serve[0].count != 1:
        return None
    offer = serve[0].offer
    if offer is None or not offer.is_rented:
        return None
    per_day = plan.servers_usd_per_day
    scaled = scaled_to_zero(per_day, rate, horizon)
    if config.limits.latency_ms is not None and scaled.share_waiting > MOST_WAITING:
        return None
    return scaled if scaled.usd_per_day < 0.99 * per_day else None


def _once(plan: Plan) -> Interval:
    """Return the dollars of all but serving, from now on: none once the student is trained."""
    if is_measured(plan):
        return Interval(0.0, 0.0, 0.0, "spent already")
    mean = plan.once_usd
    low, high = plan.usd_range or (plan.usd, plan.usd)
    served = [role.usd_range or (role.usd, role.usd) for role in plan.roles_of("serve")]
    low, high = low - sum(ends[0] for ends in served), high - sum(ends[1] for ends in served)
    return Interval(mean, max(0.0, min(low, mean)), max(high, mean))


def _ends(once: Interval, per_day: float, way: Way) -> Ends:
    price, servers = way.usd_per_answer or Interval(0.0, 0.0, 0.0), way.usd_per_day or 0.0
    mean = Money(once.mean, per_day, price.mean, servers)
    return Ends(
        mean=mean,
        against=replace(mean, once=once.high, per_answer=price.low),
        in_favour=replace(mean, once=once.low, per_answer=price.high),
    )


def _usd_per_answer(way: Way) -> float:
    return math.inf if way.usd_per_answer is None else way.usd_per_answer.mean
