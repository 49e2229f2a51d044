"""An exact paired test: is the candidate worse than the reference by more than δ?

    L, W of n items are right only in the reference, only in the candidate; their shares p, q

    no worse:  rejects  p - q ≥ δ        worse:  rejects  p - q ≤ δ

The p-value of a hypothesis is the probability of counts that speak against it as much as those that
were seen, or more, at the p and q of the hypothesis that make it largest. "As much" is by the score
statistic (Tango 1998): such counts are largest on the boundary p - q = δ, so that one share is
looked through (Sidik, Exact unconditional tests for testing non-inferiority in matched-pairs
design, Statistics in Medicine 22, 2003). Each of the two verdicts is thus wrong with a probability
of at most α, whatever n is.

Items are taken to be drawn at random from the task's questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["worse", "no worse", "cannot tell"]
_N_SHARES = 200
"""Shares that are looked through."""
_BETWEEN = 1.001
"""By what factor a probability between two of them may be larger, at most."""
_NEGLIGIBLE = 1e-12
"""Probability of counts that are left out, in all."""
_MOST_ITEMS = 2**20


@dataclass(frozen=True)
class Counts:
    """Items by who answers them right."""

    only_reference: int = 0
    only_candidate: int = 0
    alike: int = 0
    """Both, or neither."""

    @property
    def n(self) -> int:
        """All items."""
        return self.only_reference + self.only_candidate + self.alike

    def plus(self, reference: bool, candidate: bool) -> Counts:
        """Return the counts with another item."""
        lost, won = reference and not candidate, candidate and not reference
        return Counts(
            self.only_reference + lost,
            self.only_candidate + won,
            self.alike + (not lost and not won),
        )


@dataclass(frozen=True)
class ExactTest:
    """What the candidate may be worse by, and how often a verdict may be wrong."""

    delta: float
    """Share of the items."""
    alpha: float

    def outcome(self, counts: Counts) -> Outcome:
        """Return the verdict of all items."""
        n, lost, won = counts.n, counts.only_reference, counts.only_candidate
        if p_value(n, lost, won, self.delta) <= self.alpha:
            return "no worse"
        if p_value(n, won, lost, -self.delta) <= self.alpha:
            return "worse"
        return "cannot tell"

    def n_needed(self, counts: Counts) -> int | None:
        """Return about how many items tell, if they go on as these did; None if a million do not.

        It is so where the candidate is worse by just about `delta`.
        """
        lost, won = np.array([counts.only_reference]), np.array([counts.only_candidate])
        score = abs(float(_scores(counts.n, lost, won, self.delta)[0]))
        if not score:
            return None
        # The score of the same shares grows with the root of the number of items.
        needed = counts.n * (NormalDist().inv_cdf(1 - self.alpha) / score) ** 2
        return None if needed > _MOST_ITEMS else max(counts.n + 1, ceil(needed))


def p_value(n: int, lost: int, won: int, margin: float) -> float:
    """Return the largest probability of such counts, or clearer ones, where p - q ≥ `margin`.

    Args:
        n: items.
        lost: of them, right only in the reference.
        won: right only in the candidate.
        margin: above -1 and below 1.
    """
    from scipy.stats import binom

    if n == 0:
        return 1.0
    seen = float(_scores(n, np.array([lost]), np.array([won]), margin)[0])
    fewest = _fewest_won(n, seen, margin)
    # Of the share of items that are won; where `margin` is below 0 it is no less than that.
    low, high = max(0.0, -margin), (1 - margin) / 2
    steps = np.linspace(0, 1, _N_SHARES + 1) ** 2  # closer together where few are won
    most = 0.0
    for share_won in low + (high - low) * steps:
        share_lost = min(1.0, max(0.0, share_won + margin))
        ends = binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], n, share_lost).astype(int)
        counts = np.arange(max(0, ends[0]), min(n, ends[1]) + 1)
        share = min(1.0, share_won / (1 - share_lost)) if share_lost < 1 else 0.0
        rest = binom.sf(fewest[counts] - 1, n - counts, share)
        most = max(most, float((binom.pmf(counts, n, share_lost) * rest).sum()))
    return min(1.0, _BETWEEN * most + 2 * _NEGLIGIBLE)


def _fewest_won(n: int, seen: float, margin: float) -> NDArray[np.int64]:
    """Return, for each number of lost items, from how many won ones on the score is `seen`.

    It rises with them; n + 1 where none are enough.
    """
    lost = np.arange(n + 1)
    low, high = np.zeros(n + 1, dtype=np.int64), n - lost + 1
    while (is_open := low < high).any():
        middle = (low + high) // 2
        is_enough = _scores(n, lost, np.minimum(middle, n - lost), margin) >= seen - 1e-9
        high = np.where(is_open & is_enough, middle, high)
        low = np.where(is_open & ~is_enough, middle + 1, low)
    return np.where(low > n - lost, n + 1, low)


def _scores(
    n: int, lost: NDArray[np.int64], won: NDArray[np.int64], margin: float
) -> NDArray[np.float64]:
    """Return how clearly counts speak against p - q ≥ `margin`, in standard errors (Tango 1998)."""
    # The likeliest share of won items where p - q is `margin`.
    linear = (2 * n - lost + won) * margin - lost - won
    constant = -won * margin * (1 - margin)
    root = np.sqrt(np.maximum(0.0, linear**2 - 8 * n * constant))
    share = (root - linear) / (4 * n)
    variance = n * np.maximum(0.0, 2 * share + margin * (1 - margin))
    distance = n * margin - (lost - won)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(variance > 0, distance / np.sqrt(variance), np.sign(distance) * inf)
    return np.where(distance == 0, 0.0, scores)
