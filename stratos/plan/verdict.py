"""The verdict on distilling: a value with every amount that it rests on, in words, and a table.

When distilling pays: payback and break-even of one alternative, from dollars alone.

    ahead(t) = c · N(t) + e · t − d · t − once        dollars by which the student is ahead

c dollars of an answer of a hosted model, N(t) requests until then (`Horizon`), e dollars a day of
the servers of an open model, d of the student's, which cost as much when they are idle, `once` what
teacher, data and training cost from now on. Payback is the day from which on `ahead` stays above
zero until the horizon ends. It counts from the plan on: while the student is made, the requests
are answered as before, and nothing is saved.

Traffic over months: how many requests come, and the rate and hours that servers are planned for.

    N(t) = R · m · ((1 + g)^(t/m) − 1) / ln(1 + g)        requests in t days,   R · t where g = 0

R requests a day at first, g their growth from month to month, m days of a month.

A server that is given back while nobody asks: how long it runs, and how many wait for it.

Requests come at random, r a second. One that finds no server orders it, and it answers after S
seconds. It is given back when it has answered nobody for T seconds:

    off          1 / r                            until somebody asks
    on           S + (e^(rT) - 1) / r             start, and until the first gap of T seconds
    share on     on / (off + on)
    waiting      (1 + r S) / (1 + r S + e^(rT) - 1)    the one that orders it, those of the start

The seconds of an answer are short beside T. Real traffic has nights: then it is off for longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from stratos.config import Config, TrafficConfig
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
from stratos.estimate.constants import STARTUP_HOURS
from stratos.records import Interval, ScaledToZero, Way, Worth

if TYPE_CHECKING:
    from rich.table import Table


DAYS_A_MONTH = 365.25 / 12
_SECONDS_A_DAY = 86_400.0
MAX_SERVE_HOURS = 87_600
"""Ten years: no price is valid for longer."""


@dataclass(frozen=True)
class Horizon:
    """Requests that come within some months."""

    months: float
    growth_per_month: float = 0.0

    @property
    def days(self) -> float:
        """Return its length."""
        return self.months * DAYS_A_MONTH

    def days_of_first_rate(self, days: float) -> float:
        """Return N(t) / R: in how many days of the first rate as many requests would come."""
        g = self.growth_per_month
        if abs(g) < 1e-9:
            return days
        growth = math.log1p(g)
        return DAYS_A_MONTH * math.expm1(growth * days / DAYS_A_MONTH) / growth

    def rate_at(self, days: float) -> float:
        """Return the requests a day by then, over those at first."""
        return math.exp(math.log1p(self.growth_per_month) * days / DAYS_A_MONTH)

    @property
    def most(self) -> float:
        """Return the highest rate within it, over the first."""
        return max(1.0, self.rate_at(self.days))


def horizon_of(traffic: TrafficConfig) -> Horizon:
    """Return the horizon of a config."""
    return Horizon(traffic.months, traffic.growth_per_month)


def with_horizon(config: Config) -> Config:
    """Return a config that serves for the months of its traffic, where requests a day are given."""
    traffic = config.traffic
    if traffic.requests_per_day is None:
        return config
    horizon = horizon_of(traffic)
    busiest = traffic.requests_per_day * horizon.most * traffic.peak_over_mean / _SECONDS_A_DAY
    rate = busiest if traffic.requests_per_s is None else traffic.requests_per_s
    return replace(
        config,
        traffic=replace(traffic, requests_per_s=rate),
        limits=replace(config.limits, serve_hours=min(24 * horizon.days, MAX_SERVE_HOURS)),
    )


_STEPS = 200
"""Halvings of a bisection, of which the last fifty change nothing."""

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
    other_per_day: float = 0.0
    """Dollars of the servers of an open model."""

    def ahead(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return the dollars by which the student is ahead after so many days."""
        return self.alternative(days, requests_per_day, horizon) - self.per_day * days - self.once

    def alternative(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return what the alternative costs in so many days."""
        answers = requests_per_day * horizon.days_of_first_rate(days)
        return self.per_answer * answers + self.other_per_day * days

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
        per_day = self.per_day - self.other_per_day
        if growth <= 0 or first <= 0 or per_day <= first:
            return 0.0
        return min(horizon.days, math.log(per_day / first) / growth * DAYS_A_MONTH)

    def break_even_per_day(self, horizon: Horizon) -> float:
        """Return the requests a day from which on the student is cheaper over the whole horizon."""
        costs = self.once + (self.per_day - self.other_per_day) * horizon.days
        if costs <= 0:
            return 0.0
        if self.per_answer <= 0:
            return math.inf
        return costs / (self.per_answer * horizon.days_of_first_rate(horizon.days))


@dataclass(frozen=True)
class Ends:
    """The same numbers three times."""

    mean: Money
    against: Money
    """With the ends that speak against distilling."""
    in_favour: Money

    def outcome(self, requests_per_day: float, horizon: Horizon) -> Outcome:
        """Return who is cheaper at the horizon's end, whatever the ends."""
        if self.against.ahead(horizon.days, requests_per_day, horizon) > 0:
            return "distil"
        lost = self.in_favour.ahead(horizon.days, requests_per_day, horizon) < 0
        return "stay" if lost else "open"

    def payback(
        self, requests_per_day: float, horizon: Horizon, made_days: float = 0.0
    ) -> Interval | None:
        """Return the days until it has paid; None where it does not by its expected costs.

        Args:
            requests_per_day: at first.
            horizon: for how long the student serves.
            made_days: from now on until it serves.
        """
        days = [
            one.payback_days(requests_per_day, horizon)
            for one in (self.mean, self.in_favour, self.against)
        ]
        if days[0] is None or days[1] is None:
            return None
        high = math.inf if days[2] is None else days[2]
        return Interval(made_days + days[0], made_days + days[1], made_days + high)

    def break_even(self, horizon: Horizon) -> Interval:
        """Return the requests a day from which on distilling is cheaper."""
        return Interval(
            self.mean.break_even_per_day(horizon),
            self.in_favour.break_even_per_day(horizon),
            self.against.break_even_per_day(horizon),
        )


def joint(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome against several alternatives.

    Distil only where it wins against each of them; stay where it loses against one.
    """
    if "stay" in outcomes:
        return "stay"
    return "open" if "open" in outcomes else "distil"


START_S = 3600 * STARTUP_HOURS
"""Seconds until a server answers."""
KEEP_S = 1200.0
"""SkyServe's `downscale_delay_seconds`, by default."""
_POINTS = 48
"""Moments of the horizon that the rate is taken at."""
MOST_WAITING = 0.05
"""Share of requests that wait for a start, above which the 95th percentile is that of a start."""


def share_on(per_s: float, start_s: float, keep_s: float) -> float:
    """Return the share of the time in which a server is paid.

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
    """Return what one server costs if it is given back while nobody asks.

    Args:
        usd_per_day: of the server that runs all day.
        requests_per_day: at first.
        horizon: for how long, and how they grow.
    """
    days = [horizon.days * (i + 0.5) / _POINTS for i in range(_POINTS)]
    rates = [requests_per_day * horizon.rate_at(day) / _SECONDS_A_DAY for day in days]
    on = sum(share_on(rate, START_S, KEEP_S) for rate in rates) / _POINTS
    asked = sum(rates)
    waiting = sum(rate * share_waiting(rate, START_S, KEEP_S) for rate in rates)
    return ScaledToZero(
        usd_per_day=on * usd_per_day,
        share_on=on,
        share_waiting=waiting / asked if asked else 1.0,
        start_s=START_S,
        keep_s=KEEP_S,
    )


_HEADS: dict[Outcome, str] = {"distil": "Distil", "stay": "Don't distil", "open": "Open"}
_BESIDE: dict[Outcome, str] = {
    "distil": "Beside other models it would be worth it",
    "stay": "Nor is it worth it beside other models",
    "open": "Beside other models that is open, too",
}


@dataclass(frozen=True)
class Verdict:
    """Whether distilling pays; `verdict_text` says it."""

    beside_models: Outcome
    """Whether it pays beside other models."""
    ways: tuple[Way, ...]
    """All ways to have the requests answered, the student first."""
    once_usd: Interval
    """Of teacher, training and data, from now on."""
    servers_usd_per_day: float
    """Of the student's servers, idle or not."""
    horizon: Horizon
    requests_per_day: float | None
    """At first; None where it was not given."""
    reference: Way | None = None
    """The alternative that decides; None where there is none."""
    unable: tuple[Way, ...] = ()
    """Priced ways that do not do the task; those that are only too slow are not among them."""
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
    def distilling_usd(self) -> float:
        """What the student costs within the horizon, as expected."""
        return self.once_usd.mean + self.serving_usd

    @property
    def serving_usd(self) -> float:
        """What its servers cost within the horizon."""
        return self.servers_usd_per_day * self.horizon.days


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in words, with the numbers that decide it."""
    text = " ".join([_sentence(verdict), *map(str, verdict.notes)])
    if verdict.without_model is not None:
        beside = _BESIDE[verdict.beside_models]
        return f"{_HEADS[verdict.outcome]}: {verdict.without_model} {beside}: {text}"
    # Without requests a day there is nothing to decide, and only a volume to name.
    is_decided = verdict.requests_per_day is not None or verdict.reference is None
    return f"{_HEADS[verdict.outcome]}: {text}" if is_decided else text


def _sentence(verdict: Verdict) -> str:
    reference = verdict.reference
    if reference is None:
        why = "; ".join(f"{way.name}: {way.why_not}" for way in verdict.unable)
        return f"no model that was probed does the task as well and in time{why and f' ({why})'}."
    even = verdict.break_even_per_day
    assert even is not None
    if verdict.requests_per_day is None:
        return (
            f"Against {_with_price(reference)} distilling pays within {_months(verdict.horizon)} "
            f"from {volume(even)} requests a day on. Give yours: "
            "traffic.requests_per_day=<number>."
        )
    n = _requests(verdict.requests_per_day)
    rate = f"at {n} request{'' if n == '1' else 's'} a day"
    if verdict.beside_models == "stay":
        return f"{rate} {_costs(verdict, reference)}. {_from_volume(reference, even)}"
    if reference.kind == "open":
        below = f"its servers: {reference.servers}"
    elif even.high == 0:
        below = "it pays at any number of requests"
    else:
        below = f"below {volume(even)} requests a day stay with {reference.name}"
    payback = verdict.payback_days
    if verdict.beside_models == "distil":
        assert payback is not None
        return f"{_pays(payback)} {rate} against {_with_price(reference)}; {below}."
    pays = _pays(payback) if payback else "does not pay by what is expected"
    return (
        f"{rate} distilling {pays} against {_with_price(reference)}: "
        f"{_costs(verdict, reference)}; {below}."
    )


def _from_volume(reference: Way, even: Interval) -> str:
    if reference.kind == "open":
        # Both have servers that idle: with fewer requests fewer of them, so that no number of
        # requests turns the verdict by itself.
        return "Fewer hours of servers, or a smaller student, would change that."
    return f"Against {_with_price(reference)} it pays from {volume(even)} requests a day on."


def _costs(verdict: Verdict, reference: Way) -> str:
    servers = usd(verdict.serving_usd)
    student = f"the student's servers {servers}"
    if verdict.once_usd.mean:
        student = f"distilling {usd(verdict.distilling_usd)}, {servers} of it for servers"
    within = f"within {_months(verdict.horizon)}"
    return f"{within} {reference.name} costs {usd(verdict.reference_usd)}, {student}"


def _with_price(way: Way) -> str:
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


def _months(horizon: Horizon) -> str:
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


# The ways to have the requests answered, side by side: for the terminal.


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
    for way in worth.ways:
        table.add_row(
            Text(visible(way_name(way))),
            _way_accuracy(way),
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
    if way.is_student:
        return _shown_days(worth) * worth.servers_usd_per_day
    if way.usd_per_day is not None and way.usd_per_answer is None:
        return _shown_days(worth) * way.usd_per_day
    if way.usd_per_answer is None or worth.requests_per_day is None:
        return None
    a_day = worth.requests_per_day * way.usd_per_answer.mean + (way.usd_per_day or 0.0)
    return _shown_days(worth) * a_day


def way_note(way: Way, worth: Worth) -> str:
    """Return what is to be known of a way as an alternative."""
    note = way.why_not or way.unsure
    if not way.is_student and not note:
        note = "compared with" if way.name == worth.reference else "as good"
    ends = f"ends on {way.retires}" if way.retires else ""
    return "; ".join(filter(None, (note, ends)))


def _way_accuracy(way: Way) -> str:
    accuracy = way.accuracy
    if not (accuracy.is_known and accuracy.is_share_known):
        return "unknown"
    if way.kind == "promised":
        return f"at least {percent_least(accuracy.mean)}"
    return f"{percent(accuracy.mean)} ({interval(accuracy)})"
