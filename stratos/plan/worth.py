"""Whether distilling pays: the planned student against the hosted models that the probe reached.

    ahead(t) = c · N(t) − d · t − once        dollars by which the student is ahead after t days

c dollars of an answer of the hosted model, N(t) requests until then (`horizon`), d dollars a day of
the student's servers, which cost as much when they are idle, `once` what teacher, data and training
cost from now on. Payback is the day from which on `ahead` stays above zero until the horizon ends.

Every number has a range. Distilling is advised where it wins with the ends that speak against it:
the dearest training, the cheapest answers. Staying is advised where distilling loses with the ends
that speak for it. Else the verdict is open.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any, Literal

from stratos.config import Config
from stratos.core.counted import counted
from stratos.core.formats import duration, percent, percent_range, usd
from stratos.plan.horizon import DAYS_A_MONTH, Horizon, horizon_of
from stratos.plan.options.hosted import is_hosted
from stratos.records import Interval, Plan, Probe, TeacherProbe, Way, Worth

_STEPS = 200
"""Halvings of a bisection, of which the last fifty change nothing."""
_SPREAD_UNKNOWN = 0.5
"""By what share the price of an answer may be off where the probe does not tell how they differ."""


Outcome = Literal["distil", "stay", "open"]


@dataclass(frozen=True)
class Money:
    """What decides: each number at one end of its range, or in the middle."""

    once: float
    """Dollars."""
    per_day: float
    """Dollars of the student's servers."""
    per_answer: float
    """Dollars of the hosted model."""

    def ahead(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return the dollars by which the student is ahead after so many days."""
        answers = requests_per_day * horizon.days_of_first_rate(days)
        return self.per_answer * answers - self.per_day * days - self.once

    def payback_days(self, requests_per_day: float, horizon: Horizon) -> float | None:
        """Return the day from which on the student stays ahead; None if not at the horizon's end.

        `ahead` bends one way alone, up where requests grow and down where they shrink, so that it
        rises through zero once between the day at which it is lowest and the end.
        """
        if self.ahead(horizon.days, requests_per_day, horizon) < 0:
            return None
        low, high = self._lowest_day(requests_per_day, horizon), horizon.days
        if self.ahead(low, requests_per_day, horizon) >= 0:
            return 0.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self.ahead(middle, requests_per_day, horizon) < 0:
                low = middle
            else:
                high = middle
        return high

    def _lowest_day(self, requests_per_day: float, horizon: Horizon) -> float:
        """Return the day at which the student is farthest behind, of those that matter."""
        growth, first = math.log1p(horizon.growth_per_month), self.per_answer * requests_per_day
        if growth <= 0 or first <= 0 or self.per_day <= first:
            return 0.0
        return min(horizon.days, math.log(self.per_day / first) / growth * DAYS_A_MONTH)

    def break_even_per_day(self, horizon: Horizon) -> float:
        """Return the requests a day from which on the student is cheaper over the whole horizon."""
        if self.per_answer <= 0:
            return math.inf
        costs = self.once + self.per_day * horizon.days
        return costs / (self.per_answer * horizon.days_of_first_rate(horizon.days))


@dataclass(frozen=True)
class Ends:
    """The same numbers three times."""

    mean: Money
    against: Money
    """With the ends that speak against distilling."""
    in_favour: Money

    def payback(self, requests_per_day: float, horizon: Horizon) -> Interval | None:
        """Return the days until it has paid; None where it does not by its expected costs."""
        days = [
            one.payback_days(requests_per_day, horizon)
            for one in (self.mean, self.in_favour, self.against)
        ]
        if days[0] is None or days[1] is None:
            return None
        return Interval(days[0], days[1], math.inf if days[2] is None else days[2])

    def break_even(self, horizon: Horizon) -> Interval:
        """Return the requests a day from which on distilling is cheaper."""
        return Interval(
            self.mean.break_even_per_day(horizon),
            self.in_favour.break_even_per_day(horizon),
            self.against.break_even_per_day(horizon),
        )


def worth_of(
    config: Config, probe: Probe, plan: Plan, today: datetime.date | None = None
) -> Worth | None:
    """Return whether a plan pays; None where no hosted model with a price was probed.

    Args:
        config: the run: its traffic, and its limit of accuracy.
        probe: what the hosted models showed.
        plan: the student, what it costs and how accurate it is expected to be.
        today: from which on the horizon counts; None takes the date of this machine.
    """
    probed = [*probe.teachers]
    if probe.logged is not None and all(one.logged is None for one in probed):
        probed.append(probe.logged)
    ways = [_hosted(config, one, plan) for one in probed if is_hosted(one.card)]
    # An endpoint of the user's own has no price by the token, and is paid for otherwise.
    hosted = [one for one in ways if one.usd_per_answer is not None and one.usd_per_answer.mean > 0]
    if not hosted:
        return None
    student = Way(plan.student, True, plan.accuracy, None, plan.latency_ms)
    horizon = horizon_of(config.traffic)
    once, per_day = _once(plan), _servers_usd_per_day(plan)
    able = [one for one in hosted if not one.why_not]
    reference = min(able, key=_usd_per_answer, default=None)
    rate = config.traffic.requests_per_day
    facts: dict[str, Any] = {
        "ways": (student, *hosted), "once_usd": once, "servers_usd_per_day": per_day,
        "months": horizon.months, "requests_per_day": rate,
        "growth_per_month": horizon.growth_per_month,
    }  # fmt: skip
    if reference is None:
        why = "; ".join(f"{one.name}: {one.why_not}" for one in hosted)
        known = plan.accuracy.is_known and plan.accuracy.is_share_known
        head = "Distil" if known else "Open, since the student's accuracy is not known"
        text = f"{head}: no hosted model that was probed does the task as well ({why})."
        return Worth("distil" if known else "open", text, reference="", **facts)
    ends = _ends(once, per_day, reference)
    even = ends.break_even(horizon)
    facts |= {"reference": reference.name, "break_even_per_day": even}
    doubt, end = (
        _doubt(config, plan, reference),
        _end(reference, horizon, today or datetime.date.today()),
    )
    if rate is None:
        text = (
            f"Against {_named(reference)} distilling pays within {_months(horizon)} from "
            f"{_volume(even)} requests a day on. Give yours: traffic.requests_per_day=<number>."
        )
        return Worth("open", text + doubt + end, **facts)
    payback = ends.payback(rate, horizon)
    outcome: Outcome = _outcome(ends, rate, horizon)
    if outcome == "distil" and doubt:
        outcome = "open"
    text = _text(outcome, ends, reference, rate, horizon, payback, even) + end
    return Worth(outcome, text + doubt * (outcome != "stay"), payback_days=payback, **facts)


def _hosted(config: Config, one: TeacherProbe, plan: Plan) -> Way:
    """Return a hosted model as a way, with the prompt that it did best with."""
    card = one.card
    seconds = one.seconds / one.n_items if one.n_items else None
    logged = one.logged
    return Way(
        name=one.teacher if logged is None else f"{card.name} (logged)",
        is_student=False,
        accuracy=one.exact,
        usd_per_answer=_price_of_answer(one),
        latency_ms=1000 * seconds if seconds and logged is None else None,
        why_not=_why_not(config, one, plan),
        retires=card.retires,
        is_logged=logged is not None,
    )


def _why_not(config: Config, one: TeacherProbe, plan: Plan) -> str:
    """Return why a hosted model is no alternative to the student; "" where it is one."""
    found, limits = one.exact, config.limits
    shown = f"{percent(found.mean)} ({percent_range(found.low, found.high)})"
    if one.logged is not None:
        is_below = limits.accuracy is not None and found.high < limits.accuracy
        return f"at most {shown}, below limits.accuracy" if is_below else ""
    if limits.accuracy is not None:
        counts = found.low if limits.confidence == "low" else found.mean
        return "" if counts >= limits.accuracy else f"{shown}, below limits.accuracy"
    student = plan.accuracy
    if student.is_known and student.is_share_known and found.high < student.low:
        return f"{shown}, surely less accurate"
    return ""


def _price_of_answer(one: TeacherProbe) -> Interval | None:
    """Return the dollars of an answer, with the error of a mean of so many; None without items."""
    n, card, spread = one.n_items, one.card, one.spread
    if n < 1:
        return None
    usd_in = (card.usd_per_million_input_tokens or 0.0) / 1e6
    usd_out = (card.usd_per_million_output_tokens or 0.0) / 1e6
    mean = (usd_in * one.input_tokens + usd_out * one.output_tokens) / n
    error = _SPREAD_UNKNOWN * mean
    if spread is not None and n > 1:
        deviation = usd_in * spread.input_tokens + usd_out * spread.output_tokens
        error = max(2 * deviation / math.sqrt(n), mean / n)
    return Interval(mean, max(0.0, mean - error), mean + error, counted(n, "probe answer"))


def _once(plan: Plan) -> Interval:
    """Return the dollars of all but serving, from now on."""
    serve = sum(role.usd for role in plan.roles_of("serve"))
    mean = max(0.0, plan.usd - serve)
    low, high = plan.usd_range or (plan.usd, plan.usd)
    served = [role.usd_range or (role.usd, role.usd) for role in plan.roles_of("serve")]
    low, high = low - sum(one[0] for one in served), high - sum(one[1] for one in served)
    return Interval(mean, max(0.0, min(low, mean)), max(high, mean))


def _servers_usd_per_day(plan: Plan) -> float:
    return sum(24 * role.usd / role.hours for role in plan.roles_of("serve") if role.hours > 0)


def _ends(once: Interval, per_day: float, reference: Way) -> Ends:
    price = reference.usd_per_answer
    assert price is not None
    return Ends(
        mean=Money(once.mean, per_day, price.mean),
        against=Money(once.high, per_day, price.low),
        in_favour=Money(once.low, per_day, price.high),
    )


def _outcome(ends: Ends, rate: float, horizon: Horizon) -> Outcome:
    if ends.against.ahead(horizon.days, rate, horizon) > 0:
        return "distil"
    return "stay" if ends.in_favour.ahead(horizon.days, rate, horizon) < 0 else "open"


def _doubt(config: Config, plan: Plan, reference: Way) -> str:
    """Say that the student may well be less accurate than what it takes the place of."""
    student = plan.accuracy
    if not (student.is_known and student.is_share_known):
        return " How accurate the student will be is not known: see plan.pilot=true."
    if reference.is_logged:
        # What agrees with the logged answers is all that is known; the user says what is enough.
        if config.limits.accuracy is not None:
            return ""
        return (
            f" But the student is expected to give its answer to {percent(student.mean)} "
            f"({percent_range(student.low, student.high)}) of requests: say from which share on "
            "that is enough, such as limits.accuracy=0.9."
        )
    if student.high < reference.accuracy.low:
        return (
            f" But the student is expected to be less accurate: {percent(student.mean)} "
            f"({percent_range(student.low, student.high)}) against "
            f"{percent(reference.accuracy.mean)}."
        )
    return ""


def _end(reference: Way, horizon: Horizon, today: datetime.date) -> str:
    """Say that a hosted model ends before the horizon does."""
    if not reference.retires:
        return ""
    ends = datetime.date.fromisoformat(reference.retires)
    is_within = ends <= today + datetime.timedelta(days=horizon.days)
    return f" {reference.name} ends on {reference.retires}, within the horizon." * is_within


def _text(
    outcome: str, ends: Ends, reference: Way, rate: float, horizon: Horizon,
    payback: Interval | None, even: Interval,
) -> str:  # fmt: skip
    at = f"at {rate:,.0f} requests a day"
    stays = ends.mean.per_answer * rate * horizon.days_of_first_rate(horizon.days)
    distils = ends.mean.once + ends.mean.per_day * horizon.days
    costs = (
        f"within {_months(horizon)} {reference.name} costs {usd(stays)}, distilling "
        f"{usd(distils)}, {usd(ends.mean.per_day * horizon.days)} of it for servers"
    )
    below = f"below {_volume(even)} requests a day stay with {reference.name}"
    if outcome == "distil":
        assert payback is not None
        pays = f"Distil: pays back after {_days(payback)} {at}"
        return f"{pays} against {_named(reference)}; {below}."
    if outcome == "stay":
        return (
            f"Don't distil: {at} {costs}. Against {_named(reference)} it pays from "
            f"{_volume(even)} requests a day on."
        )
    pays = f"pays back after {_days(payback)}" if payback else "does not pay by what is expected"
    return f"Open: {at} distilling {pays} against {_named(reference)}: {costs}; {below}."


def _named(way: Way) -> str:
    assert way.usd_per_answer is not None
    return f"{way.name} ({usd(1000 * way.usd_per_answer.mean)} for 1,000 answers, {_right(way)})"


def _right(way: Way) -> str:
    right = f"{percent(way.accuracy.mean)} [{percent_range(way.accuracy.low, way.accuracy.high)}]"
    if not way.is_logged:
        return f"{right} right"
    if not way.accuracy.is_known:
        return "of which the log proves nothing"
    return f"at most {right} right by what the log can prove"


def _months(horizon: Horizon) -> str:
    return f"{horizon.months:g} month{'' if horizon.months == 1 else 's'}"


def _days(days: Interval) -> str:
    def shown(value: float) -> str:
        if math.isinf(value):
            return "never"
        return duration(86_400 * value) if days.mean < 1 else f"{value:,.0f}"

    unit = "" if days.mean < 1 else f" {counted(round(days.mean), 'day').split()[1]}"
    return f"{shown(days.mean)}{unit} [{shown(days.low)}, {shown(days.high)}]"


def _volume(even: Interval) -> str:
    def shown(value: float) -> str:
        return "any number of" if math.isinf(value) else f"{float(f'{value:.2g}'):,.0f}"

    return f"{shown(even.mean)} [{shown(even.low)}, {shown(even.high)}]"


def _usd_per_answer(way: Way) -> float:
    return math.inf if way.usd_per_answer is None else way.usd_per_answer.mean
