"""The ways to have the requests answered, side by side: for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.core.formats import (
    NOTHING,
    duration,
    interval,
    milliseconds,
    percent,
    percent_least,
    usd,
)
from stratos.core.printable import visible
from stratos.plan.break_even import DAYS_A_MONTH
from stratos.records import Way, Worth

if TYPE_CHECKING:
    from rich.table import Table


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
    for one in worth.ways:
        table.add_row(
            Text(visible(named(one))),
            _accuracy(one),
            NOTHING if one.usd_per_answer is None else usd(1000 * one.usd_per_answer.mean),
            usd(first_month_usd(one, worth)),
            usd(worth.once_usd.mean) if one.is_student else NOTHING,
            milliseconds(one.latency_ms),
            Text(visible(said(one, worth))),
            style="bold" if one.is_student else None,
        )
    return table


def named(one: Way) -> str:
    """Return what a way is called."""
    if one.is_student:
        return f"distil: {one.name}"
    if one.kind == "open":
        return f"{one.name} as it is, on {one.servers}"
    if one.kind == "hosted" and one.prompt:
        return f"{one.name}, prompt {one.prompt}"
    return one.name


def span_name(worth: Worth) -> str:
    """Return what the dollars are for: the first month, or a horizon that is shorter."""
    return "first month" if worth.months >= 1 else f"in {duration(86_400 * _days(worth))}"


def _days(worth: Worth) -> float:
    return DAYS_A_MONTH * min(1.0, worth.months)


def first_month_usd(one: Way, worth: Worth) -> float | None:
    """Return the dollars of the first month, or of a horizon that is shorter.

    None where the requests or the price are unknown.
    """
    if one.is_student:
        return _days(worth) * worth.servers_usd_per_day
    if one.usd_per_day is not None and one.usd_per_answer is None:
        return _days(worth) * one.usd_per_day
    if one.usd_per_answer is None or worth.requests_per_day is None:
        return None
    a_day = worth.requests_per_day * one.usd_per_answer.mean + (one.usd_per_day or 0.0)
    return _days(worth) * a_day


def said(one: Way, worth: Worth) -> str:
    """Return what is to be known of a way as an alternative."""
    told = one.why_not or one.unsure
    if not one.is_student and not told:
        told = "compared with" if one.name == worth.reference else "as good"
    ends = f"ends on {one.retires}" if one.retires else ""
    return "; ".join(filter(None, (told, ends)))


def _accuracy(one: Way) -> str:
    found = one.accuracy
    if not (found.is_known and found.is_share_known):
        return "unknown"
    if one.kind == "promised":
        return f"at least {percent_least(found.mean)}"
    return f"{percent(found.mean)} ({interval(found)})"
