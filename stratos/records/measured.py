"""What records are said in: quantities with their range, and the cards of models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """What a training showed that was too short to predict from."""

    n_right: int
    """Validation items with the right answer."""
    n_items: int
    train_tokens: int

    @property
    def share(self) -> float:
        """Share of the items with the right answer."""
        return self.n_right / self.n_items if self.n_items else 0.0


@dataclass(frozen=True)
class Interval:
    """A quantity with the range that it may be trusted to (95% unless `source` says otherwise)."""

    mean: float
    low: float
    high: float
    source: str = ""
    """Where it comes from, as a phrase: "64 validation items, Wilson"."""
    is_known: bool = True
    """False where nothing was measured that it could rest on: its ends are bounds then, and its
    mean is no estimate."""
    tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""

    @property
    def is_share_known(self) -> bool:
        """Return False for a share that may be anything, as after no trials."""
        return (self.low, self.high) != (0.0, 1.0)


MOST_TRUNCATED = 0.05
"""Share of a model's answers that may end at the longest length before its accuracy is doubted."""


def is_cut_short(n_truncated: int, n_answers: int) -> bool:
    """Return whether so many answers were cut that what was measured of them is doubtful."""
    return n_truncated > MOST_TRUNCATED * n_answers
