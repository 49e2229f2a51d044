"""The reasons of the report."""

from __future__ import annotations

from stratos.core.formats import percent, percent_range
from stratos.core.reasons import Reason
from stratos.records import Interval


class BetterByShares(Reason):
    """Another model is surely more accurate than the student, as requests come."""

    student: Interval
    model: Interval

    def __str__(self) -> str:
        ours, theirs = (
            f"{percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})"
            for accuracy in (self.student, self.model)
        )
        return f"{ours} against {theirs}, each slice by its share of the rows"


class BetterOnItems(Reason):
    """Another model is more accurate than the student on the same test items."""

    student: float
    model: float
    n_items: int
    p_value: float

    def __str__(self) -> str:
        return (
            f"{percent(self.student)} against {percent(self.model)} of the same {self.n_items:,} "
            f"test items (McNemar's exact test: p = {self.p_value:.2g})"
        )
