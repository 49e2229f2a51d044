"""Confidence intervals for proportions: k of n."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil, exp, hypot, lgamma, log, log1p, sqrt
from statistics import NormalDist

from stratos.core.formats import counted
from stratos.records import Interval


def on_items(accuracy: Interval, n: int) -> Interval:
    """Return where the share that is right of `n` items is expected, for a predicted accuracy.

    The prediction's own doubt and the sampling of the items are independent, so that their
    distances from the mean are added as squares.
    """
    mean = accuracy.mean
    fewest, most = (k / n for k in _binomial(n, mean))
    low = mean - hypot(mean - accuracy.low, mean - fewest)
    high = mean + hypot(accuracy.high - mean, most - mean)
    return Interval(mean, max(0.0, low), min(1.0, high), accuracy.source)


def _binomial(n: int, share: float, confidence: float = 0.95) -> tuple[int, int]:
    """Return the numbers of successes between which a binomial lies so often."""
    if not 0 < share < 1:
        return (n, n) if share >= 1 else (0, 0)
    tail, below = (1 - confidence) / 2, 0.0
    fewest = None
    for k in range(n + 1):
        log_choose = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        below += exp(log_choose + k * log(share) + (n - k) * log1p(-share))
        if fewest is None and below > tail:
            fewest = k
        if below >= 1 - tail:
            return fewest or 0, k
    return fewest or 0, n


def by_shares(parts: Mapping[str, Interval], shares: Mapping[str, float]) -> Interval | None:
    """Return the accuracy over slices that have given shares, as requests come.

    The errors of independent slices add up as squares, to each side by itself (MOVER: Zou and
    Donner 2008). So the interval stays inside [0, 1].

    Args:
        parts: accuracy of each slice.
        shares: of each slice, with a sum of 1; empty where they are not known.

    Returns:
        None where shares are not known, or a slice that has one was not measured.
    """
    if not shares or not shares.keys() <= parts.keys():
        return None
    weighted = [(share, parts[name]) for name, share in shares.items()]
    mean = sum(share * part.mean for share, part in weighted)
    below = hypot(*(share * (part.mean - part.low) for share, part in weighted))
    above = hypot(*(share * (part.high - part.mean) for share, part in weighted))
    n = counted(len(shares), "slice")
    return Interval(mean, mean - below, mean + above, f"{n} by their shares")


def wilson(k: float, n: float, confidence: float = 0.95, source: str = "") -> Interval:
    """Return the Wilson score interval of a share, without continuity correction.

    Unlike the textbook interval it stays inside [0, 1] and keeps its coverage for shares near 0
    and 1 (Wilson 1927; Newcombe 1998, method 3).

    Args:
        k: number of successes.
        n: number of trials, of dependent ones how many independent ones they are worth; with none
            the share may be anything.
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


def n_independent(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Return how many independent values those of groups are worth for their mean.

    The number over the design effect 1 + (m - 1) ρ (Kish 1965), with the mean size m of a group
    that a value is of, and the correlation ρ within groups by an analysis of variance (Donner and
    Klar 2000). With Wilson's interval it covers about as often as it says from a dozen groups on,
    also for shares near 1, where a bootstrap of groups covers too rarely. Where values do not
    differ, nothing tells ρ, and it is taken to be 1.

    Args:
        values: such as 1 for a right answer, and 0 for a wrong one.
        groups: that of each value.
    """
    by_group: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        by_group.setdefault(group, []).append(value)
    n, n_groups = len(values), len(by_group)
    if n_groups == n:
        return float(n)
    sizes = [len(some) for some in by_group.values()]
    mean_size = sum(size**2 for size in sizes) / n
    if n_groups == 1:
        return n / mean_size
    means = [sum(some) / len(some) for some in by_group.values()]
    mean = sum(values) / n
    between = sum(size * (own - mean) ** 2 for size, own in zip(sizes, means, strict=True))
    within = sum(
        (value - own) ** 2
        for some, own in zip(by_group.values(), means, strict=True)
        for value in some
    )
    between, within = between / (n_groups - 1), within / (n - n_groups)
    size = (n - mean_size) / (n_groups - 1)
    total = between + (size - 1) * within
    correlation = min(1.0, max(0.0, (between - within) / total)) if total > 0 else 1.0
    return n / (1 + (mean_size - 1) * correlation)


def n_above(share: float, least: float, confidence: float = 0.95) -> int | None:
    """Return after how many trials the Wilson interval of a share lies above another share.

    It does where the score test refutes that share: (p - q) ≥ z √(q (1 - q) / n).

    Args:
        share: of successes, as in the trials so far.
        least: which the low end is to reach.
        confidence: two-sided level of confidence.

    Returns:
        None where no number of trials is enough: the share itself is no higher.
    """
    if share <= least:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return max(1, ceil(z * z * least * (1 - least) / (share - least) ** 2))
