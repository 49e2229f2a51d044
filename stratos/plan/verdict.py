"""The verdict on distilling: a value with every amount that it rests on, in words, and a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stratos.core.counted import counted
from stratos.core.formats import (
    NOTHING,
    duration,
    interval,
    milliseconds,
    percent,
    percent_least,
    percent_range,
    usd,
)
from stratos.core.printable import visible
from stratos.core.reasons import Reason
from stratos.plan.break_even import DAYS_A_MONTH, Horizon, Outcome
from stratos.records import Interval, ScaledToZero, Way, Worth

if TYPE_CHECKING:
    from rich.table import Table

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
