"""One quantity, as planned and as measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from stratos.core.formats import percent_range
from stratos.records import Interval

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
    def said(self) -> str:
        """The outcome in words."""
        if self.outcome == "open":
            return "not judged"
        if self.figures.is_bound:
            return "not exceeded" if self.outcome == "inside" else "exceeded"
        return "in the interval" if self.outcome == "inside" else "missed"

    @property
    def interval_with_width(self) -> str:
        """The interval, and how many times its low end the high one is."""
        if not self.interval or self.width is None or self.kind == "accuracy":
            return self.interval
        return f"{self.interval} ({written_width(self.width, self.kind)})"


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
