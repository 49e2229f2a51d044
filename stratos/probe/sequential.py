"""A sequential test of coverage against thresholds: ask more items until it is decided.

Whoever looks at an interval again and again, and stops as soon as it lies on one side, errs more
often than its confidence says. So each of at most `n` looks is at a confidence of 1 - 0.05/n, with
which all looks together err at most as often as one at 95% (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stratos.core.intervals import wilson
from stratos.synthesize.choice import straddles

ERROR = 0.05
"""Share of tests that may end on the wrong side of a threshold."""


def looks(n_first: int, n_items: int, n_most: int) -> list[int]:
    """Return after how many items the coverage is looked at.

    Args:
        n_first: items of the first look.
        n_items: of the second; their number is then doubled each time.
        n_most: of the last.
    """
    sizes = [n_first, *([n_items] if n_items > n_first else [])]
    while sizes[-1] < n_most:
        sizes.append(min(2 * sizes[-1], n_most))
    return sizes


def surely_below(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> bool:
    """Return whether `k` right answers of `n` are surely too few for every threshold.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares; where there are none, nothing is too few.
        n_looks: how often it is looked at most.
    """
    least = min(thresholds, default=0.0)
    return wilson(k, n, 1 - ERROR / n_looks).high < least


def undecided(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> list[float]:
    """Return the thresholds that `k` right answers of `n` do not settle, at one of several looks.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares on whose side the coverage is to be known.
        n_looks: how often it is looked at most.
    """
    interval = wilson(k, n, 1 - ERROR / n_looks)
    return [threshold for threshold in thresholds if straddles(interval, threshold)]


def listed(thresholds: Sequence[float]) -> str:
    """Return thresholds as words, such as "30% and 50%"."""
    return " and ".join(f"{threshold:.0%}" for threshold in thresholds)
