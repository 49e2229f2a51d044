"""Two models on the same items: McNemar's exact test, and intervals of the difference."""

from __future__ import annotations

from math import comb, copysign, inf, sqrt
from statistics import NormalDist


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    If neither model is better, an item that just one of them gets right is as likely to be the
    one's as the other's: twice the smaller tail of a binomial with share 1/2, at most 1.
    """
    n = only_first + only_second
    tail = sum(comb(n, k) for k in range(min(only_first, only_second) + 1))
    # Whole numbers until the division: 2 to the n overflows a float from 1,024 items on.
    return min(1.0, 2 * tail / 2**n)


def difference_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of one share right minus another, for matched pairs.

    The differences that a score test would not reject (Tango 1998). It has a width also where no
    item tells the two apart.

    Raises:
        ValueError: the counts are negative or more than `n`.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n or n < 1:
        raise ValueError(f"Counts {only_first} and {only_second} do not fit into {n} items.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def score(difference: float) -> float:
        # Maximum-likelihood share of "only the second" where the difference is given.
        linear = (2 * n - only_first + only_second) * difference - only_first - only_second
        constant = -only_second * difference * (1 - difference)
        # The root of a sum of two products of which neither is negative, but for rounding.
        share = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = max(0.0, n * (2 * share + difference * (1 - difference)))
        distance = only_first - only_second - n * difference
        if variance > 0 or distance == 0:
            return distance / sqrt(variance or 1.0)
        return copysign(inf, distance)

    def crossing(level: float) -> float:
        low, high = -1.0, 1.0  # the score falls as the difference rises
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > level else (low, middle)
        return (low + high) / 2

    return crossing(z), crossing(-z)


def paired_difference(only_first: int, only_second: int, n: int) -> tuple[float, float, float]:
    """Return the p-value of McNemar's exact test, and a 95% interval of the difference.

    The interval is `difference_interval`, but that of no difference the exact test decides, which
    rejects it less often on few items. So 0 is outside exactly where the p-value is below 0.05.

    Raises:
        ValueError: the counts are negative or more than `n`.
    """
    p_value = mcnemar_exact(only_first, only_second)
    low, high = difference_interval(only_first, only_second, n)
    if p_value >= 0.05:
        return p_value, min(low, 0.0), max(high, 0.0)
    return p_value, low, high
