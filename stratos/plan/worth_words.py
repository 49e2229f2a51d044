"""What the verdict of `worth` says, in words."""

from __future__ import annotations

import datetime
import math

from stratos.core.counted import counted
from stratos.core.formats import duration, percent, percent_range, usd
from stratos.plan.break_even import Ends, Outcome
from stratos.plan.horizon import Horizon
from stratos.records import Interval, Way, Worth

HEADS: dict[Outcome, str] = {"distil": "Distil", "stay": "Don't distil", "open": "Open"}
"""What a verdict begins with."""
_BESIDE: dict[Outcome, str] = {
    "distil": "Beside other models it would be worth it",
    "stay": "Nor is it worth it beside other models",
    "open": "Beside other models that is open, too",
}


def beside_models(found: Worth) -> str:
    """Say a verdict behind another one: without a head of its own."""
    return f"{_BESIDE[found.outcome]}: {found.text.removeprefix(f'{HEADS[found.outcome]}: ')}"


def ended(reference: Way, horizon: Horizon, today: datetime.date) -> str:
    """Say that a hosted model ends before the horizon does."""
    if not reference.retires:
        return ""
    ends = datetime.date.fromisoformat(reference.retires)
    is_within = ends <= today + datetime.timedelta(days=horizon.days)
    return f" {reference.name} ends on {reference.retires}, within the horizon." * is_within


def in_words(
    outcome: Outcome, ends: Ends, reference: Way, rate: float, horizon: Horizon,
    payback: Interval | None, even: Interval,
) -> str:  # fmt: skip
    """Return a verdict with the numbers that decide it.

    Args:
        outcome: the verdict.
        ends: dollars, each at three ends.
        reference: the way that it is compared with.
        rate: requests a day at first.
        horizon: for how long.
        payback: days, as `Ends.payback` gives them.
        even: requests a day, as `Ends.break_even` gives them.
    """
    at = f"at {_requests(rate)} requests a day"
    stays = ends.mean.alternative(horizon.days, rate, horizon)
    distils = ends.mean.once + ends.mean.per_day * horizon.days
    servers = ends.mean.per_day * horizon.days
    costs = f"within {months(horizon)} {reference.name} costs {usd(stays)}, "
    costs += (
        f"distilling {usd(distils)}, {usd(servers)} of it for servers"
        if ends.mean.once
        else f"the student's servers {usd(servers)}"
    )
    if reference.kind == "open":
        # Both have servers that idle: with fewer requests fewer of them, so that no number of
        # requests turns the verdict by itself.
        below = f"its servers: {reference.servers}"
        from_on = "Fewer hours of servers, or a smaller student, would change that."
    else:
        below = f"below {volume(even)} requests a day stay with {reference.name}"
        if even.high == 0:
            below = "it pays at any number of requests"
        from_on = f"Against {with_price(reference)} it pays from {volume(even)} requests a day on."
    if outcome == "distil":
        assert payback is not None
        pays = f"Distil: {_pays(payback)} {at}"
        return f"{pays} against {with_price(reference)}; {below}."
    if outcome == "stay":
        return f"Don't distil: {at} {costs}. {from_on}"
    pays = _pays(payback) if payback else "does not pay by what is expected"
    return f"Open: {at} distilling {pays} against {with_price(reference)}: {costs}; {below}."


def with_price(way: Way) -> str:
    """Name a way with its dollars and its accuracy."""
    if way.usd_per_answer is None:
        return f"{way.name} as it is ({usd(way.usd_per_day)} a day, {_right(way)})"
    return f"{way.name} ({usd(1000 * way.usd_per_answer.mean)} for 1,000 answers, {_right(way)})"


def _right(way: Way) -> str:
    right = f"{percent(way.accuracy.mean)} [{percent_range(way.accuracy.low, way.accuracy.high)}]"
    if not way.is_logged:
        return f"{right} right"
    if not way.accuracy.is_known:
        return "of which the log proves nothing"
    return f"at most {right} right by what the log can prove"


def months(horizon: Horizon) -> str:
    """Return how long the horizon is."""
    return f"{horizon.months:g} month{'' if horizon.months == 1 else 's'}"


def _pays(payback: Interval) -> str:
    if payback.high == 0:
        return "pays from the first day on"
    return f"pays back after {_days(payback)}"


def _days(days: Interval) -> str:
    def shown(value: float) -> str:
        if math.isinf(value):
            return "never"
        return duration(86_400 * value) if days.mean < 1 else f"{value:,.0f}"

    unit = "" if days.mean < 1 else f" {counted(round(days.mean), 'day').split()[1]}"
    return f"{shown(days.mean)}{unit}{_ends(*map(shown, (days.mean, days.low, days.high)))}"


def _ends(mean: str, low: str, high: str) -> str:
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
    return f"{mean}{_ends(mean, low, high)}"
