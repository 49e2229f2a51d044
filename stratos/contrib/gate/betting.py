"""A paired test that may be looked at after every item, and stops as soon as it is sure.

    d_i = right_i of the reference - right_i of the candidate        -1, 0 or 1, mean μ

    worse:     the candidate is worse by more than δ;  against it, μ ≤ δ
    no worse:  it is not;                              against it, μ ≥ δ

Somebody who bets a share λ on every next item has the capital

    K_λ = Π (1 + λ (d_i - δ))   against μ ≤ δ,   Π (1 - λ (d_i - δ))   against μ ≥ δ

which on average never grows while what is bet against holds, whatever λ is. So does the mean of the
capitals of many λ. By Ville's inequality it ever reaches 1/α with a probability of at most α: that
is the probability of a false verdict, however often one looks, and wherever one stops. (Waudby-
Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 2024, section 4.)

Items are taken to be drawn at random from the task's questions. Only how often each of the three
values came matters, so that the capital is computed from counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log, log1p
from typing import Literal

_N_BETS = 16
"""Shares that are bet: large ones are fast where the two differ much, small ones where little."""
_MOST_BET, _LEAST_BET = 0.98, 0.05
"""Of the most that may be bet. That itself would be lost with a single item that speaks against
it."""
Outcome = Literal["worse", "no worse", "cannot tell"]
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

    def scaled(self, n: int) -> Counts:
        """Return the counts of n items with the same shares, rounded."""
        lost, won = (
            round(part * n / self.n) for part in (self.only_reference, self.only_candidate)
        )
        return Counts(lost, won, n - lost - won)


@dataclass(frozen=True)
class BettingTest:
    """What the candidate may be worse by, and how often the verdict may be wrong."""

    delta: float
    """Share of the items."""
    alpha: float

    def outcome(self, counts: Counts) -> Outcome:
        """Return the verdict after so many items."""
        enough = log(1 / self.alpha)
        if log_capital(counts, self.delta, is_worse=True) >= enough:
            return "worse"
        if log_capital(counts, self.delta, is_worse=False) >= enough:
            return "no worse"
        return "cannot tell"

    def n_if_alike(self) -> int:
        """Return how many items, all answered alike, show that the candidate is no worse."""
        needed = self.n_needed(Counts(alike=1))
        assert needed is not None, "each adds to the capital"
        return needed

    def n_needed(self, counts: Counts) -> int | None:
        """Return about how many items tell, if they go on as these did; None if a million do not.

        It is so where the candidate is worse by just about `delta`.
        """
        low, high = 0, 1
        while self._is_open(counts, high):
            low, high = high, 2 * high
            if high > _MOST_ITEMS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_open(counts, middle) else (low, middle)
        return high

    def _is_open(self, counts: Counts, n: int) -> bool:
        """Return whether so many items leave it open, with the shares of the counts."""
        return self.outcome(counts.scaled(n)) == "cannot tell"


def log_capital(counts: Counts, delta: float, *, is_worse: bool) -> float:
    """Return the logarithm of the mean capital after so many items.

    Args:
        counts: of the items.
        delta: what the candidate may be worse by, from 0 to below 1.
        is_worse: bet on "worse by more than `delta`", or against it.
    """
    sign = 1.0 if is_worse else -1.0
    logs = []
    for part in _bets():
        bet = part / (1 + sign * delta)  # the most that leaves no item with less than nothing
        logs.append(
            counts.only_reference * _log1p(sign * bet * (1 - delta))
            + counts.only_candidate * _log1p(sign * bet * (-1 - delta))
            + counts.alike * _log1p(sign * bet * -delta)
        )
    most = max(logs)
    return most + log(sum(exp(log_value - most) for log_value in logs) / len(logs))


@lru_cache(maxsize=1)
def _bets() -> tuple[float, ...]:
    """Return what is bet, in equal steps of its logarithm."""
    ratio = _LEAST_BET / _MOST_BET
    return tuple(_MOST_BET * ratio ** (i / (_N_BETS - 1)) for i in range(_N_BETS))


def _log1p(value: float) -> float:
    return -inf if value <= -1 else log1p(value)
