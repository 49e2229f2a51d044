"""One quantity, as planned and as measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stratos.core.formats import percent_range
from stratos.records import Interval

Outcome = Literal["inside", "outside", "open"]
Kind = Literal["accuracy", "hours", "dollars", "latency", "rate", "memory"]
"""What rows of many runs are counted together by."""


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
