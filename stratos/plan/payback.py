"""When distilling pays, from dollars alone: payback and break-even beside one alternative.

    ahead(t) = c · N(t) + e · t − d · t − once        dollars by which the student is ahead
    N(t) = R · m · ((1 + g)^(t/m) − 1) / ln(1 + g)    requests in t days,   R · t where g = 0

c dollars of an answer of a hosted model, e dollars a day of the servers of an open model, d of the
student's, which cost as much when they are idle, `once` what teacher, data and training cost from
now on; R requests a day at first, g their growth from month to month, m days of a month. Payback is
the day from which on `ahead` stays above zero until the horizon ends. It counts from the plan on:
while the student is made, the requests are answered as before, and nothing is saved.

A server that is given back while nobody asks. Requests come at random, r a second. One that finds
no server orders it, and it answers after S seconds. It is given back when it has answered nobody
for T seconds:

    off          1 / r                            until somebody asks
    on           S + (e^(rT) - 1) / r             start, and until the first gap of T seconds
    share on     on / (off + on)
    waiting      (1 + r S) / (1 + r S + e^(rT) - 1)    the one that orders it, those of the start

The seconds of an answer are short beside T. Real traffic has nights: then it is off for longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from stratos.config import Config, TrafficConfig
from stratos.estimate.constants import STARTUP_HOURS
from stratos.records import Interval, Plan, ScaledToZero, Way, servers_for

DAYS_A_MONTH = 365.25 / 12
MAX_SERVE_HOURS = 87_600
"""Ten years: no price is valid for longer."""
START_S = 3600 * STARTUP_HOURS
"""Seconds until a server answers."""
KEEP_S = 1200.0
"""SkyServe's `downscale_delay_seconds`, by default."""
_SECONDS_A_DAY = 86_400.0
_HALVINGS = 200
_MOMENTS = 48
"""Moments of the horizon that the rate is taken at."""

Outcome = Literal["distil", "stay", "open"]


@dataclass(frozen=True)
class Horizon:
    """Requests that come within some months."""

    months: float
    growth_per_month: float = 0.0

    @property
    def days(self) -> float:
        """Its length."""
        return self.months * DAYS_A_MONTH

    def days_of_first_rate(self, days: float) -> float:
        """Return N(t) / R: in how many days of the first rate as many requests would come."""
        growth = math.log1p(self.growth_per_month)
        if abs(growth) < 1e-9:
            return days
        return DAYS_A_MONTH * math.expm1(growth * days / DAYS_A_MONTH) / growth

    def rate_at(self, days: float) -> float:
        """Return the requests a day by then, over those at first."""
        return math.exp(math.log1p(self.growth_per_month) * days / DAYS_A_MONTH)


def horizon_of(traffic: TrafficConfig) -> Horizon:
    """Return the horizon of a config."""
    return Horizon(traffic.months, traffic.growth_per_month)


def with_horizon(config: Config) -> Config:
    """Return a config that serves for the months of its traffic, where requests a day are given."""
    traffic = config.traffic
    if traffic.requests_per_day is None:
        return config
    horizon = horizon_of(traffic)
    most = max(1.0, horizon.rate_at(horizon.days))
    busiest = traffic.requests_per_day * most * traffic.peak_over_mean / _SECONDS_A_DAY
    rate = busiest if traffic.requests_per_s is None else traffic.requests_per_s
    return replace(
        config,
        traffic=replace(traffic, requests_per_s=rate),
        limits=replace(config.limits, serve_hours=min(24 * horizon.days, MAX_SERVE_HOURS)),
    )


@dataclass(frozen=True)
class Money:
    """The dollars that decide."""

    once: float
    per_day: float
    """Of the student's servers."""
    per_answer: float
    """Of the hosted model."""
    other_per_day: float = 0.0
    """Of the servers of an open model."""
    n_servers: int = 1
    """Of the student, which cost `per_day`."""
    per_server: float = math.inf
    """Requests a day that one of them answers; infinite where one is enough for any number."""

    def alternative(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return what the alternative costs in so many days."""
        answers = requests_per_day * horizon.days_of_first_rate(days)
        return self.per_answer * answers + self.other_per_day * days

    def ahead(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return the dollars by which the student is ahead after so many days."""
        return self.alternative(days, requests_per_day, horizon) - self.per_day * days - self.once

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
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_behind = self.ahead(middle, requests_per_day, horizon) < 0
            low, high = (middle, high) if is_behind else (low, middle)
        return high

    def _lowest_day(self, requests_per_day: float, horizon: Horizon) -> float:
        """Return the day at which the student is farthest behind, of those that matter."""
        growth, first = math.log1p(horizon.growth_per_month), self.per_answer * requests_per_day
        per_day = self.per_day - self.other_per_day
        if growth <= 0 or first <= 0 or per_day <= first:
            return 0.0
        return min(horizon.days, math.log(per_day / first) / growth * DAYS_A_MONTH)

    def break_even_per_day(self, horizon: Horizon) -> float:
        """Return the requests a day from which on the student is cheaper over the whole horizon.

        It has as many servers as they take: with fewer requests fewer.
        """
        earned = self.per_answer * horizon.days_of_first_rate(horizon.days)
        each = self.per_day / self.n_servers * horizon.days
        fixed = self.once - self.other_per_day * horizon.days
        if fixed + each <= 0:
            return 0.0
        if earned <= 0:
            return math.inf
        # With k servers it pays from (fixed + k · each) / earned on, if they answer so many.
        if (gained := self.per_server * earned - each) <= 0:
            return math.inf
        k = max(1, math.ceil(fixed / gained))
        return (fixed + k * each) / earned


@dataclass(frozen=True)
class Ends:
    """The same dollars as expected, and with the ends that speak against and for distilling."""

    mean: Money
    against: Money
    in_favour: Money

    def outcome(self, requests_per_day: float, horizon: Horizon) -> Outcome:
        """Return who is cheaper at the horizon's end, whatever the ends."""
        if self.against.ahead(horizon.days, requests_per_day, horizon) > 0:
            return "distil"
        is_behind = self.in_favour.ahead(horizon.days, requests_per_day, horizon) < 0
        return "stay" if is_behind else "open"

    def payback(
        self, requests_per_day: float, horizon: Horizon, made_days: float = 0.0
    ) -> Interval | None:
        """Return the days until it has paid; None where it does not by its expected costs."""
        mean, low, high = (
            money.payback_days(requests_per_day, horizon)
            for money in (self.mean, self.in_favour, self.against)
        )
        if mean is None or low is None:
            return None
        last = math.inf if high is None else made_days + high
        return Interval(made_days + mean, made_days + low, last)

    def break_even(self, horizon: Horizon) -> Interval:
        """Return the requests a day from which on distilling is cheaper."""
        moneys = (self.mean, self.in_favour, self.against)
        mean, low, high = (money.break_even_per_day(horizon) for money in moneys)
        return Interval(mean, low, high)


_ONE, _ANY = Interval(1, 1, 1), Interval(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Servers:
    """The student's servers, idle or not: the high ends are those of slow ones."""

    usd_per_day: Interval
    n: Interval = _ONE
    per_server: Interval = _ANY
    """Requests a day that one answers, as of `Money`."""


def servers_of(plan: Plan, rate: float | None) -> Servers:
    """Return the servers of a plan for so many requests a day, with the error of what one answers.

    A mix counts as so many equal servers.
    """
    roles = plan.roles_of("serve")
    usd = Interval(plan.servers_usd_per_day, *plan.servers_usd_per_day_range)
    ends = [servers_for(role.filled, role.count) for role in roles]
    fewest, most = (sum(column) for column in zip(*ends, strict=True)) if ends else (1, 1)
    n = Interval(sum(role.count for role in roles), fewest, most)
    loads = [role.filled for role in roles if role.filled is not None]
    if rate is None or not loads:
        return Servers(usd, n)
    mean, low, high = (sum(getattr(load, end) for load in loads) for end in ("mean", "low", "high"))
    return Servers(usd, n, Interval(rate / mean, rate / high, rate / low))


def ends_of(once: Interval, servers: Servers, way: Way) -> Ends:
    """Return the dollars of a student beside one alternative."""
    price, by_day = way.usd_per_answer or Interval(0.0, 0.0, 0.0), way.usd_per_day or 0.0
    fewest, most = way.usd_per_day_range or (by_day, by_day)
    usd, n, each = servers.usd_per_day, servers.n, servers.per_server
    return Ends(
        mean=Money(once.mean, usd.mean, price.mean, by_day, round(n.mean), each.mean),
        against=Money(once.high, usd.high, price.low, fewest, round(n.high), each.low),
        in_favour=Money(once.low, usd.low, price.high, most, round(n.low), each.high),
    )


def share_on(per_s: float, start_s: float, keep_s: float) -> float:
    """Return the share of the time in which a server is paid that is given back while idle.

    Args:
        per_s: requests a second.
        start_s: seconds until it answers.
        keep_s: seconds without a request after which it is given back.
    """
    if per_s <= 0:
        return 0.0
    # All in numbers of requests: off is one, on is r times its seconds.
    on = per_s * start_s + math.expm1(min(per_s * keep_s, 700.0))
    return on / (1 + on)


def share_waiting(per_s: float, start_s: float, keep_s: float) -> float:
    """Return the share of requests that come before the server answers; see `share_on`."""
    first = 1 + per_s * start_s
    return first / (first + math.expm1(min(per_s * keep_s, 700.0)))


def scaled_to_zero(usd_per_day: float, requests_per_day: float, horizon: Horizon) -> ScaledToZero:
    """Return what one server costs if it is given back while nobody asks."""
    days = [horizon.days * (i + 0.5) / _MOMENTS for i in range(_MOMENTS)]
    rates = [requests_per_day * horizon.rate_at(day) / _SECONDS_A_DAY for day in days]
    on = sum(share_on(rate, START_S, KEEP_S) for rate in rates) / _MOMENTS
    n_requests = sum(rates)
    waiting = sum(rate * share_waiting(rate, START_S, KEEP_S) for rate in rates)
    return ScaledToZero(
        usd_per_day=on * usd_per_day,
        share_on=on,
        share_waiting=waiting / n_requests if n_requests else 1.0,
        start_s=START_S,
        keep_s=KEEP_S,
    )
