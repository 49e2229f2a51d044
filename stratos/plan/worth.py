"""Whether distilling pays: the planned student against the other models that could answer.

Every number has a range. Distilling is advised where it wins against each model that does the task
as well, with the ends that speak against it: the dearest training, the cheapest answers. Staying is
advised where it loses against one of them with the ends that speak for it. Else the verdict is
open. `verdict_of` returns it with all amounts (the arithmetic is that of `payback`), `verdict_text`
words it, and `ways_table` shows the models side by side.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stratos.config import Config, LimitsConfig, TrafficConfig
from stratos.core.formats import (
    NOTHING,
    counted,
    duration,
    interval,
    milliseconds,
    percent,
    percent_least,
    percent_range,
    usd,
    visible,
)
from stratos.core.reasons import Reason
from stratos.plan.accuracy.predict import needs_no_model
from stratos.plan.alternatives import (
    hosted_models,
    is_share,
    other_prompts,
    too_slow,
    unsure,
    unweighted_slices,
    why_not,
)
from stratos.plan.payback import (
    DAYS_A_MONTH,
    Horizon,
    Outcome,
    Servers,
    ends_of,
    horizon_of,
    scaled_to_zero,
    servers_of,
)
from stratos.plan.words import (
    FALLS_SHORT,
    AccuracyUnknown,
    AgreesTooLittle,
    Beaten,
    Behind,
    EndsWithin,
    EnoughUnsaid,
    IfGivenBack,
    LessAccurate,
    MayBeBehind,
    MissesLimit,
    NonePriced,
    NoneProbed,
    NotSure,
    OnlySlow,
    Sunk,
    free_servers,
)
from stratos.records import Interval, Plan, Probe, ScaledToZero, Way, Worth

if TYPE_CHECKING:
    from rich.table import Table

MEASURED = "test items"
"""Source of an accuracy that is no prediction any more: that of the student on the test items."""
MOST_WAITING = 0.05
"""Share of requests that wait for a start, above which the 95th percentile is that of a start."""
MOST_BEHIND = 0.01
"""By how much a student may be less accurate than what it replaces, and still pay back."""
MOST_UNSURE = 0.05
"""By how much it may turn out to be so at the bad ends of both intervals, and be advised."""
_HALF = 0.5
"""Agreement with logged answers below which no user can mean that it is enough."""


@dataclass(frozen=True)
class Verdict:
    """Whether distilling pays; `verdict_text` says it."""

    beside_models: Outcome
    """Whether it pays beside other models."""
    models: tuple[Way, ...]
    """All that could answer the requests, the student first."""
    once_usd: Interval
    """Of teacher, training and data, from now on."""
    servers: Servers
    """Of the student."""
    horizon: Horizon
    requests_per_day: float | None
    """At first; None where it was not given."""
    reference: Way | None = None
    """The alternative that decides; None where there is none."""
    unable: tuple[Way, ...] = ()
    """Priced models that do not do the task; those that are only too slow are not among them."""
    break_even_per_day: Interval | None = None
    """Requests a day from which on the student is cheaper than the reference."""
    payback_days: Interval | None = None
    reference_usd: float = 0.0
    """What the reference costs within the horizon, as expected."""
    scaled: ScaledToZero | None = None
    """What the student's server costs if it is given back while nobody asks."""
    doubt: Reason | None = None
    """Why distilling is not advised however well it pays."""
    notes: tuple[Reason, ...] = ()
    """What else is to be known of it, in the order in which it is said; the doubt among it."""
    without_model: Reason | None = None
    """What does the task without any model."""

    @property
    def outcome(self) -> Outcome:
        """The verdict: where something does the task without a model, it is never "distil"."""
        if self.without_model is None or self.beside_models == "stay":
            return self.beside_models
        return "open"

    @property
    def servers_usd_per_day(self) -> float:
        """Of the student's servers, idle or not."""
        return self.servers.usd_per_day.mean

    @property
    def serving_usd(self) -> float:
        """What the student's servers cost within the horizon."""
        return self.servers_usd_per_day * self.horizon.days

    @property
    def distilling_usd(self) -> float:
        """What the student costs within the horizon, as expected."""
        return self.once_usd.mean + self.serving_usd


def verdict_of(
    config: Config,
    probe: Probe,
    plan: Plan,
    today: datetime.date | None = None,
    open_models: Sequence[Way] = (),
    beaten_by: Mapping[str, Reason] | None = None,
    beats_baselines: bool = False,
    better_free: Mapping[str, Reason] | None = None,
    on_same_items: Collection[str] = (),
) -> Verdict | None:
    """Return whether a plan pays; None where there is no other model of a known price.

    Args:
        config: the run: its traffic, and its limit of accuracy.
        probe: what the models showed.
        plan: the student, what it costs and how accurate it is expected to be.
        today: from which on the horizon counts; None takes the date of this machine.
        open_models: as they are, on rented servers.
        beaten_by: by the name of a model that was measured to be more accurate than the student,
            the numbers that show it: distilling is not advised then.
        beats_baselines: whether the student was measured to be better than what needs no model.
        better_free: by the name of what needs no model and was measured to be ahead of the student,
            the numbers that show it.
        on_same_items: names of models that were measured on the student's own test items: of those
            `beaten_by` has all that speaks against the student.
    """
    hosted = hosted_models(config.limits, probe, plan)
    priced = (*hosted, *open_models)
    if not priced:
        return None
    student = Way(plan.student, True, plan.accuracy, None, plan.latency_ms, kind="student")
    added = [
        way for room in config.rooms.values() for way in room.alternatives(config, plan, hosted)
    ]
    verdict = Verdict(
        beside_models="distil",
        models=(student, *added, *hosted, *other_prompts(config.task, probe), *open_models),
        once_usd=_once(plan),
        servers=servers_of(plan, config.traffic.requests_per_day),
        horizon=horizon_of(config.traffic),
        requests_per_day=config.traffic.requests_per_day,
        scaled=_scaled(config.traffic, config.limits, plan),
        without_model=None if beats_baselines else needs_no_model(probe),
    )
    able = [way for way in priced if not way.why_not]
    slow = [_only_slow(config.limits, plan, way) for way in priced]
    if able:
        verdict = _compared(verdict, config.limits, plan, able)
    else:
        unable = [way for way, why in zip(priced, slow, strict=True) if why is None]
        verdict = replace(verdict, unable=tuple(unable))
        mute = {teacher.teacher for teacher in probe.real_teachers if not teacher.parsable}
        if all(way.name in mute for way in priced):
            verdict = replace(verdict, beside_models="open")
    doubt: Reason | None = Beaten(tuple(better_free.items())) if better_free else None
    doubt = doubt or doubt_of(
        config.limits, plan, priced, beaten_by or {}, verdict.reference, on_same_items
    )
    if doubt is not None and verdict.beside_models == "distil":
        verdict = replace(verdict, beside_models="open")
    if isinstance(doubt, FALLS_SHORT):
        verdict = replace(verdict, payback_days=None)
    against = [reason for reason in (*slow, doubt) if reason is not None]
    notes = _notes(
        config.limits, probe, plan, verdict, able, against, today or datetime.date.today()
    )
    return replace(verdict, doubt=doubt, notes=tuple(notes))


def worth_of(verdict: Verdict) -> Worth:
    """Return the record of a verdict, with its words."""
    return Worth(
        outcome=verdict.outcome,
        text=verdict_text(verdict),
        alternatives=verdict.models,
        reference="" if verdict.reference is None else verdict.reference.name,
        once_usd=verdict.once_usd,
        servers_usd_per_day=verdict.servers_usd_per_day,
        months=verdict.horizon.months,
        requests_per_day=verdict.requests_per_day,
        growth_per_month=verdict.horizon.growth_per_month,
        payback_days=verdict.payback_days,
        break_even_per_day=verdict.break_even_per_day,
        scaled=verdict.scaled,
        headline=verdict_text(
            replace(verdict, notes=() if verdict.doubt is None else (verdict.doubt,))
        ),
    )


def why_no_verdict(traffic: TrafficConfig, probe: Probe) -> Reason | None:
    """Return why there is no verdict, for a user who gave the traffic; None where none was given.

    Args:
        traffic: of the run.
        probe: what the models showed, none of which has a price.
    """
    if traffic.requests_per_day is None:
        return None
    names = tuple(teacher.teacher for teacher in probe.real_teachers)
    return NonePriced(names) if names else NoneProbed()


# The comparison in dollars.


def _compared(verdict: Verdict, limits: LimitsConfig, plan: Plan, able: Sequence[Way]) -> Verdict:
    """Return the verdict beside the alternatives: models that do the task as well, or may."""
    once, servers, horizon = verdict.once_usd, verdict.servers, verdict.horizon
    rate = verdict.requests_per_day
    if rate is None:
        reference = min(able, key=_usd_per_answer)
        even = ends_of(once, servers, reference).break_even(horizon)
        return replace(verdict, beside_models="open", reference=reference, break_even_per_day=even)
    outcome, reference = _decided(verdict, limits, plan, able, servers)
    ends = ends_of(once, servers, reference)
    return replace(
        verdict,
        beside_models=outcome,
        reference=reference,
        break_even_per_day=ends.break_even(horizon),
        payback_days=ends.payback(rate, horizon, 0.0 if is_measured(plan) else plan.hours / 24),
        reference_usd=ends.mean.alternative(horizon.days, rate, horizon),
    )


def _decided(
    verdict: Verdict, limits: LimitsConfig, plan: Plan, able: Sequence[Way], servers: Servers
) -> tuple[Outcome, Way]:
    """Return the verdict where models may turn out to be no alternatives: open if that turns it.

    Where the student does not do the task, what may do it is an alternative.
    """
    rate = verdict.requests_per_day
    assert rate is not None, "without requests nothing is decided"
    paid = (verdict.once_usd, servers, rate, verdict.horizon)
    outcome, reference = decided(able, *paid)
    sure = [way for way in able if not way.unsure]
    if len(sure) == len(able) or misses_limit(limits, plan) is not None:
        return outcome, reference
    if not sure:
        return ("distil" if outcome == "distil" else "open"), reference
    without, sure_reference = decided(sure, *paid)
    if outcome != without:
        return "open", reference
    return outcome, sure_reference if outcome == "stay" else reference


def decided(
    able: Sequence[Way], once: Interval, servers: Servers, rate: float, horizon: Horizon
) -> tuple[Outcome, Way]:
    """Return the verdict, and the alternative that decides it: the cheapest by expected costs.

    Distil only where the student wins against each of them; stay where it loses against one.
    """
    ends = [ends_of(once, servers, way) for way in able]
    outcomes = [of_way.outcome(rate, horizon) for of_way in ends]
    costs = [of_way.mean.alternative(horizon.days, rate, horizon) for of_way in ends]
    decisive: Sequence[int] = range(len(able))
    verdict: Outcome = "open" if "open" in outcomes else "distil"
    if "stay" in outcomes:
        # Against the cheapest of all distilling may be open, and lose against a dearer one surely.
        verdict, decisive = "stay", [i for i in decisive if outcomes[i] == "stay"]
    return verdict, able[min(decisive, key=lambda i: costs[i])]


def _usd_per_answer(way: Way) -> float:
    return math.inf if way.usd_per_answer is None else way.usd_per_answer.mean


def _once(plan: Plan) -> Interval:
    """Return the dollars of all but serving, from now on: none once the student is trained."""
    if is_measured(plan):
        return Interval(0.0, 0.0, 0.0, "spent already")
    mean = plan.once_usd
    low, high = plan.usd_range or (plan.usd, plan.usd)
    for role in plan.roles_of("serve"):
        ends = role.usd_range or (role.usd, role.usd)
        low, high = low - ends[0], high - ends[1]
    return Interval(mean, max(0.0, min(low, mean)), max(high, mean))


def _scaled(traffic: TrafficConfig, limits: LimitsConfig, plan: Plan) -> ScaledToZero | None:
    """Return what one rented server costs if it is given back while nobody asks."""
    rate, serve = traffic.requests_per_day, plan.roles_of("serve")
    if rate is None or len(serve) != 1 or serve[0].count != 1:
        return None
    offer, per_day = serve[0].offer, plan.servers_usd_per_day
    if offer is None or not offer.is_rented:
        return None
    scaled = scaled_to_zero(per_day, rate, horizon_of(traffic))
    is_late = limits.latency_ms is not None and scaled.share_waiting > MOST_WAITING
    return None if is_late or scaled.usd_per_day >= 0.99 * per_day else scaled


# What speaks against the student, and what else is to be known.


def is_measured(plan: Plan) -> bool:
    """Return whether the student is trained, and its accuracy that on the test items."""
    return plan.accuracy.source == MEASURED


def doubt_of(
    limits: LimitsConfig,
    plan: Plan,
    models: Sequence[Way],
    beaten_by: Mapping[str, Reason],
    reference: Way | None = None,
    on_same_items: Collection[str] = (),
) -> Reason | None:
    """Return why distilling is not advised; None where nothing speaks against the student.

    Args:
        limits: of the run.
        plan: its student.
        models: those that have a price, alternatives or not.
        beaten_by: as `verdict_of` takes it.
        reference: the model that the student is compared with; None where none is an alternative.
        on_same_items: as `verdict_of` takes it.
    """
    # Whatever they cost, if they answer in time.
    better = tuple(
        (way.name, beaten_by[way.name])
        for way in models
        if way.name in beaten_by and too_slow(limits, way.latency_ms) is None
    )
    if better:
        return Beaten(better)
    if not is_share(plan.accuracy):
        return AccuracyUnknown()
    if (missed := misses_limit(limits, plan)) is not None:
        return missed
    if reference is None or not reference.is_logged:
        less = _less_accurate(plan, models, reference)
        if less is not None or reference is None or reference.name in on_same_items:
            return less
        return _behind(limits, plan, reference)
    # What agrees with the logged answers is all that is known; the user says what is enough.
    if limits.accuracy is not None:
        return None
    doubt = AgreesTooLittle if plan.accuracy.high < _HALF else EnoughUnsaid
    return doubt(plan.accuracy, is_measured(plan))


def misses_limit(limits: LimitsConfig, plan: Plan) -> MissesLimit | None:
    """Return that the student has too little for `limits.accuracy`; None where it may have enough.

    That is so if it was measured to have less, or if all of its predicted interval is below.
    """
    student, least = plan.accuracy, limits.accuracy
    if least is None or not is_share(student):
        return None
    if (student.mean if is_measured(plan) else student.high) >= least:
        return None
    return MissesLimit(student, least, is_measured(plan))


def _less_accurate(plan: Plan, models: Sequence[Way], reference: Way | None) -> LessAccurate | None:
    """Return that an alternative is surely more accurate: of several, the reference."""
    better = [
        way
        for way in models
        if not way.why_not and not way.is_logged and plan.accuracy.high < way.accuracy.low
    ]
    if not better:
        return None
    most = max(better, key=lambda way: (way == reference, way.accuracy.low))
    return LessAccurate(plan.accuracy, is_measured(plan), most.name, most.accuracy.mean)


def _behind(limits: LimitsConfig, plan: Plan, reference: Way) -> Behind | MayBeBehind | None:
    """Return that the reference has more, or may have, where nobody has said how much is enough.

    That two intervals meet shows of neither model that it is as accurate as the other: at the bad
    end of their difference (Newcombe 1998, method 10) the student may be far behind.
    """
    student, model = plan.accuracy, reference.accuracy
    if limits.accuracy is not None or not is_share(model):
        return None
    ahead = model.mean - student.mean
    if ahead > MOST_BEHIND:
        return Behind(student, is_measured(plan), reference.name, model.mean)
    worst = ahead + math.hypot(model.high - model.mean, student.mean - student.low)
    if worst <= MOST_UNSURE:
        return None
    return MayBeBehind(student, is_measured(plan), reference.name, model, 100 * worst)


def _only_slow(limits: LimitsConfig, plan: Plan, way: Way) -> OnlySlow | None:
    """Return that a model would do the task, and is too slow; None where it is otherwise."""
    slow = too_slow(limits, way.latency_ms)
    if not way.why_not or slow is None or why_not(limits, way.accuracy, plan) is not None:
        return None
    return OnlySlow(way.name, slow, bool(way.unsure))


def _notes(
    limits: LimitsConfig,
    probe: Probe,
    plan: Plan,
    verdict: Verdict,
    able: Sequence[Way],
    against: Sequence[Reason],
    today: datetime.date,
) -> Iterator[Reason]:
    """Yield what else is to be known of a verdict, in the order in which it is said."""
    reference = verdict.reference
    if reference is not None and is_measured(plan):
        yield Sunk()
    if reference is not None and reference.retires:
        day = datetime.date.fromisoformat(reference.retires)
        if day <= today + datetime.timedelta(days=verdict.horizon.days):
            yield EndsWithin(reference.name, day)
    if verdict.beside_models != "stay":
        yield from against
    if reference is not None:
        if reference.unsure and (why := unsure(limits, reference.accuracy)) is not None:
            yield NotSure(reference.name, why)
        if (slices := unweighted_slices(probe, reference.name)) is not None:
            yield slices
        falls_short = any(isinstance(reason, FALLS_SHORT) for reason in against)
        if (scaled := verdict.scaled) is not None and not falls_short:
            paid = scaled.usd_per_day
            then, _ = _decided(verdict, limits, plan, able, Servers(Interval(paid, paid, paid)))
            outcome = verdict.beside_models
            yield IfGivenBack(scaled, verdict.servers_usd_per_day, outcome, then)
    if (free := free_servers(plan.roles_of("serve"))) is not None:
        yield free


# The verdict in words.

_HEADS: dict[Outcome, str] = {"distil": "Distil", "stay": "Don't distil", "open": "Open"}
_BESIDE: dict[Outcome, str] = {
    "distil": "Beside other models it would be worth it",
    "stay": "Nor is it worth it beside other models",
    "open": "Beside other models that is open, too",
}


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in words, with the numbers that decide it."""
    text = " ".join(
        filter(None, [_sentence(verdict), _of_student(verdict), *map(str, verdict.notes)])
    )
    if verdict.without_model is not None:
        beside = _BESIDE[verdict.beside_models]
        return f"{_HEADS[verdict.outcome]}: {verdict.without_model} {beside}: {text}"
    # Without requests a day there is nothing to decide, and only a volume to name.
    is_decided = verdict.requests_per_day is not None or verdict.reference is None
    doubt = verdict.doubt
    is_wide = isinstance(doubt, MayBeBehind) or (
        isinstance(doubt, Behind) and not doubt.is_measured
    )
    if verdict.outcome == "open" and is_wide:  # their intervals meet
        return f"Open, measure first: {text}"
    return f"{_HEADS[verdict.outcome]}: {text}" if is_decided else text


def _of_student(verdict: Verdict) -> str:
    """Return how accurate the student is, where no doubt says it."""
    student = next((way.accuracy for way in verdict.models if way.is_student), None)
    if student is None or not is_share(student) or verdict.doubt in verdict.notes:
        return ""
    right = f"{percent(student.mean)} [{percent_range(student.low, student.high)}] right"
    if student.source == MEASURED:
        return f"The student has {right}."
    return f"The student is expected to have {right}."


def _sentence(verdict: Verdict) -> str:
    reference, even = verdict.reference, verdict.break_even_per_day
    if reference is None or even is None:
        why = "; ".join(f"{way.name}: {way.why_not}" for way in verdict.unable)
        if verdict.beside_models == "open" and verdict.doubt is None:
            return f"there is nothing to compare its cost with ({why})."
        return f"no model that was probed does the task as well and in time{why and f' ({why})'}."
    named = _with_price(reference)
    if isinstance(verdict.doubt, FALLS_SHORT):
        return _sentence_of_worse(verdict, named, even)
    if verdict.requests_per_day is None:
        return (
            f"Against {named} distilling pays within {_months(verdict.horizon)} from "
            f"{volume(even)} requests a day on. Give yours: traffic.requests_per_day=<number>."
        )
    n = _requests(verdict.requests_per_day)
    rate = f"at {n} request{'' if n == '1' else 's'} a day"
    if verdict.beside_models == "stay":
        turns = f"Against {named} it pays from {volume(even)} requests a day on."
        if reference.kind == "open":
            # Both have servers that idle: with fewer requests fewer of them, so that no number of
            # requests turns the verdict by itself.
            turns = "Fewer hours of servers, or a smaller student, would change that."
        return f"{rate} {_costs(verdict, reference)}. {turns}"
    below = f"below {volume(even)} requests a day stay with {reference.name}"
    if reference.kind == "open":
        below = f"its servers: {reference.servers}"
    elif even.high == 0:
        below = "it pays at any number of requests"
    pays = _pays(verdict.payback_days)
    if verdict.beside_models == "distil":
        return f"{pays} {rate} against {named}; {below}."
    return f"{rate} distilling {pays} against {named}: {_costs(verdict, reference)}; {below}."


def _sentence_of_worse(verdict: Verdict, named: str, even: Interval) -> str:
    """Return what a student costs that is worse than what it would replace, and no more."""
    reference, rate = verdict.reference, verdict.requests_per_day
    assert reference is not None
    if rate is None:
        return (
            f"Against {named} the student is cheaper within {_months(verdict.horizon)} from "
            f"{volume(even)} requests a day on."
        )
    n = _requests(rate)
    return f"at {n} request{'' if n == '1' else 's'} a day {_costs(verdict, reference)}."


def _costs(verdict: Verdict, reference: Way) -> str:
    servers = usd(verdict.serving_usd)
    student = f"the student's servers {servers}"
    if verdict.once_usd.mean:
        student = f"distilling {usd(verdict.distilling_usd)}, {servers} of it for servers"
    within = f"within {_months(verdict.horizon)}"
    return f"{within} {reference.name} costs {usd(verdict.reference_usd)}, {student}"


def _with_price(way: Way) -> str:
    """Name a model with its dollars and its accuracy."""
    accuracy = way.accuracy
    right = f"{percent(accuracy.mean)} [{percent_range(accuracy.low, accuracy.high)}] right"
    if way.is_logged:
        right = f"at most {right} by what the log can prove"
        right = right if accuracy.is_known else "of which the log proves nothing"
    if way.usd_per_answer is None:
        return f"{way.name} as it is ({usd(way.usd_per_day)} a day, {right})"
    return f"{way.name} ({usd(1000 * way.usd_per_answer.mean)} for 1,000 answers, {right})"


def _months(horizon: Horizon) -> str:
    return f"{horizon.months:g} month{'' if horizon.months == 1 else 's'}"


def _pays(payback: Interval | None) -> str:
    if payback is None:
        return "does not pay by what is expected"
    if payback.high == 0:
        return "pays from the first day on"

    def shown(value: float) -> str:
        if math.isinf(value):
            return "never"
        return duration(86_400 * value) if payback.mean < 1 else f"{value:,.0f}"

    unit = "" if payback.mean < 1 else f" {counted(round(payback.mean), 'day').split()[1]}"
    mean, low, high = map(shown, (payback.mean, payback.low, payback.high))
    return f"pays back after {mean}{unit}{_brackets(mean, low, high)}"


def _brackets(mean: str, low: str, high: str) -> str:
    """Return the ends of a number as they are written; "" where both read as the number does."""
    return "" if low == mean == high else f" [{low}, {high}]"


def _requests(rate: float) -> str:
    """Return requests a day: whole ones, or two digits where they are fewer than ten."""
    return f"{rate:,.0f}" if rate >= 10 or rate == round(rate) else f"{rate:.2g}"


def volume(even: Interval) -> str:
    """Return requests a day with their ends, each of two digits."""

    def shown(value: float) -> str:
        return "any number of" if math.isinf(value) else _requests(float(f"{value:.2g}"))

    mean, low, high = map(shown, (even.mean, even.low, even.high))
    return f"{mean}{_brackets(mean, low, high)}"


# The ways to have the requests answered, side by side.


def ways_table(worth: Worth) -> Table:
    """Return each way with accuracy, dollars and latency, and why it is no alternative."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Ways to have the requests answered", title_justify="left", header_style="bold"
    )
    table.add_column("way", overflow="fold")
    for title in ("accuracy", "1,000 answers", span_name(worth), "once", "latency"):
        table.add_column(title, justify="right")
    table.add_column("", overflow="fold", min_width=16)
    for way in worth.alternatives:
        table.add_row(
            Text(visible(way_name(way))),
            _accuracy(way),
            NOTHING if way.usd_per_answer is None else usd(1000 * way.usd_per_answer.mean),
            usd(first_month_usd(way, worth)),
            usd(worth.once_usd.mean) if way.is_student else NOTHING,
            milliseconds(way.latency_ms),
            Text(visible(way_note(way, worth))),
            style="bold" if way.is_student else None,
        )
    return table


def way_name(way: Way) -> str:
    """Return what a way is called."""
    if way.is_student:
        return f"distil: {way.name}"
    if way.kind == "open":
        return f"{way.name} as it is, on {way.servers}"
    if way.kind == "hosted" and way.prompt:
        return f"{way.name}, prompt {way.prompt}"
    return way.name


def span_name(worth: Worth) -> str:
    """Return what the dollars are for: the first month, or a horizon that is shorter."""
    return "first month" if worth.months >= 1 else f"in {duration(86_400 * _shown_days(worth))}"


def _shown_days(worth: Worth) -> float:
    return DAYS_A_MONTH * min(1.0, worth.months)


def first_month_usd(way: Way, worth: Worth) -> float | None:
    """Return the dollars of the first month, or of a horizon that is shorter.

    None where the requests or the price are unknown.
    """
    servers, price = way.usd_per_day or 0.0, way.usd_per_answer
    if way.is_student:
        return _shown_days(worth) * worth.servers_usd_per_day
    if price is None:
        return None if way.usd_per_day is None else _shown_days(worth) * servers
    if worth.requests_per_day is None:
        return None
    return _shown_days(worth) * (worth.requests_per_day * price.mean + servers)


def way_note(way: Way, worth: Worth) -> str:
    """Return what is to be known of a way as an alternative."""
    note = way.why_not or way.unsure
    if not way.is_student and not note:
        note = "compared with" if way.name == worth.reference else "an alternative"
    ends = f"ends on {way.retires}" if way.retires else ""
    return "; ".join(filter(None, (note, ends)))


def _accuracy(way: Way) -> str:
    accuracy = way.accuracy
    if not is_share(accuracy):
        return "unknown"
    if way.kind == "promised":
        return f"at least {percent_least(accuracy.mean)}"
    return f"{percent(accuracy.mean)} ({interval(accuracy)})"
