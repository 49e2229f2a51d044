"""Intervals for shares that were counted: what may be said after k of n."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from stratos.records import Interval
from stratos.words import counted


def wilson(k: float, n: int, confidence: float = 0.95, source: str = "") -> Interval:
    """Return the Wilson score interval of a share, without continuity correction.

    Unlike the textbook interval it stays inside [0, 1] and keeps its coverage for shares near 0
    and 1 (Wilson 1927; Newcombe 1998, method 3).

    Args:
        k: number of successes.
        n: number of trials; with none the share may be anything.
        confidence: two-sided level of confidence.
        source: phrase for `Interval.source`; by default "n items, Wilson".

    Raises:
        ValueError: `k` is not between 0 and `n`, or `confidence` not between 0 and 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must lie between 0 and n, but k={k} and n={n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, but is {confidence}.")
    source = source or f"{counted(n, 'item')}, Wilson"
    if n == 0:
        return Interval(0.0, 0.0, 1.0, source)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = k / n
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / denominator
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(share, low, high, source)
