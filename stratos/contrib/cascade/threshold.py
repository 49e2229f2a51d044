"""The threshold of a cascade, with a promise of its accuracy that holds with a stated probability.

    escalate an item if its confidence < t         the log-probability of the student's answer
    R(t)    share of wrong answers of the cascade  the teacher's where it is asked
    promise: R(t) ≤ 1 - A for the t that is chosen, with a probability of at least 1 - δ

over draws of the n items that choose it. For every threshold of a fixed list, the hypothesis
"R(t) > 1 - A" is tested: with k wrong of n its p-value is P(Binomial(n, 1 - A) ≤ k), which is
exact. The list is gone through from both ends, from "ask the teacher always" and from "never", each
up to the first threshold whose p-value is above δ/2 (fixed-sequence testing). Those before it pass,
so that the probability that any of them breaks the promise is at most δ. The one that escalates
least is taken. (Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test, 2021: conformal risk
control for a risk that need not fall with t. Here it may rise, where the teacher is wrong and the
student right.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ALWAYS, UNREADABLE_ONLY = math.inf, -math.inf
_LEAST, _MOST = 1e-5, 30.0
"""Ends of the thresholds between, as minus the logarithm of a probability."""
_N_BETWEEN = 40
MOST_ITEMS = 1_000_000


@dataclass(frozen=True)
class Pair:
    """One item that both have answered."""

    confidence: float
    """Log-probability of the student's answer; minus infinity where the task cannot read it."""
    student: bool
    """Whether its answer is right."""
    teacher: bool
    teacher_usd: float | None = None
    """Of its answer; None where that is not known."""
    teacher_seconds: float | None = None


@dataclass(frozen=True)
class Chosen:
    """A threshold that passes."""

    threshold: float
    n_items: int
    """That chose it."""
    n_escalated: int
    n_right: int
    """Of the cascade, on the items that chose it."""


@lru_cache(maxsize=1)
def thresholds() -> tuple[float, ...]:
    """Return the list, from "ask the teacher always" on: it depends on no item."""
    ratio = (_MOST / _LEAST) ** (1 / (_N_BETWEEN - 1))
    between = (-_LEAST * ratio**i for i in range(_N_BETWEEN))
    return (ALWAYS, *between, UNREADABLE_ONLY)


def is_escalated(confidence: float, threshold: float) -> bool:
    """Return whether the teacher is asked; always where the answer cannot be read."""
    return confidence < threshold or confidence == -math.inf


def is_right(pair: Pair, threshold: float) -> bool:
    """Return whether the cascade answers an item right."""
    return pair.teacher if is_escalated(pair.confidence, threshold) else pair.student


def choose(pairs: Sequence[Pair], accuracy: float, delta: float) -> Chosen | None:
    """Return the passing threshold that escalates least; None if none passes.

    Args:
        pairs: items that nothing else of the cascade was chosen by.
        accuracy: that is promised.
        delta: probability with which the promise may be broken.
    """
    # From either end: in the order in which they are tested, and which of them escalates less.
    down, up = list(thresholds()), list(reversed(thresholds()))
    passed = [
        *_passing(pairs, down, accuracy, delta / 2),
        *_passing(pairs, up, accuracy, delta / 2),
    ]
    if not passed:
        return None
    threshold = min(passed)
    return Chosen(
        threshold,
        len(pairs),
        sum(is_escalated(one.confidence, threshold) for one in pairs),
        sum(is_right(one, threshold) for one in pairs),
    )


def _passing(
    pairs: Sequence[Pair], ordered: Sequence[float], accuracy: float, delta: float
) -> list[float]:
    found = []
    for threshold in ordered:
        wrong = sum(not is_right(one, threshold) for one in pairs)
        if p_value(wrong, len(pairs), accuracy) > delta:
            break
        found.append(threshold)
    return found


def p_value(wrong: int, n: int, accuracy: float) -> float:
    """Return how often so few of n answers are wrong where 1 - `accuracy` of all are."""
    from scipy.stats import binom

    return float(binom.cdf(wrong, n, 1 - accuracy)) if n else 1.0


def n_needed(right: float, accuracy: float, delta: float) -> int | None:
    """Return how many items would show the promise for who is right so often; None: no number.

    Args:
        right: share of right answers of the better of the two, or of the cascade.
        accuracy: that is to be promised.
        delta: as of `choose`.
    """
    if right <= accuracy:
        return None
    low, high = 0, 8
    while p_value(_expected(right, high), high, accuracy) > delta / 2:
        low, high = high, 2 * high
        if high > MOST_ITEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        is_short = p_value(_expected(right, middle), middle, accuracy) > delta / 2
        low, high = (middle, high) if is_short else (low, middle)
    return high


def _expected(right: float, n: int) -> int:
    return math.ceil((1 - right) * n - 1e-9)
