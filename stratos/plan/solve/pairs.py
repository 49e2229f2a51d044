r"""The cheapest mix of two kinds of server, exact (knapsack cover).

Let w_ib servers of kind i be busy with all of bucket b. Of two kinds, x servers of i take the
buckets at which they save most of j for their own time, those of the highest w_jb / w_ib first; j
answers the rest. So the servers of j that are needed are a convex function g of x whose slope
changes where a bucket is full:

    g(x) = Σ_b w_jb - what x saves,     least dollars = min_x c_i x + c_j ⌈g(x)⌉

With counts continuous, the least dollars of a pair are at one of these points. They bound the pair
from below, so that pairs are counted out in the order of their bounds, until no place can gain.

This stays by hand beside HiGHS: nearly every step of a staircase is such a mix, and one program a
step takes 14 ms, which makes 7 CPU s of the 90,000 rows at a rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stratos.catalog.table import Bools, Floats, Ints

TOLERANCE = 1e-9
"""Relative difference below which dollars and loads are equal."""

MAX_LISTED = 200_000
"""Counts of pairs that are priced at once."""

Pair = tuple[int, int, int, int]
"""A kind and how many of it, and another kind and how many of that, which may be none."""


@dataclass
class Room:
    """What bounds the servers of a mix together."""

    n_servers: int
    member: Floats
    """1 where a server counts in a quota, by (kind, quota)."""
    limits: Floats
    """By quota."""
    price: Floats
    """Dollars an hour of a server."""
    max_usd_per_hour: float = np.inf

    def holds(self, counts: Floats) -> Bools:
        """Return which rows of counts are allowed."""
        allowed = counts.sum(axis=1) <= self.n_servers
        allowed &= (counts @ self.member <= self.limits).all(axis=1)
        return allowed & (counts @ self.price <= self.max_usd_per_hour * (1 + TOLERANCE))

    def of(self, kinds: Ints) -> Room:
        """Return the same for some of the kinds."""
        return Room(
            self.n_servers, self.member[kinds], self.limits, self.price[kinds],
            self.max_usd_per_hour,
        )  # fmt: skip


def irreplaceable(usd: Floats, rate: Floats, room: Room) -> Ints:
    """Return the kinds that no other one can stand in for, whatever the mix.

    Args:
        usd: dollars, by (place they are seen from, kind).
        rate: share of a bucket that one server answers, by (kind, bucket).
        room: quotas and prices.
    """
    better = (usd[:, :, None] <= usd[:, None, :]).all(axis=0)
    for column in rate.T:
        better &= column[:, None] >= column
    # In no quota that the other one is not in: of 0 and 1 the product counts those.
    better &= room.member @ (1.0 - room.member.T) == 0
    if np.isfinite(room.max_usd_per_hour):
        better &= room.price[:, None] <= room.price[None, :]
    equal = better & better.T
    first = np.tril(np.ones_like(better), -1).T.astype(bool)
    # Of equals the first stays.
    return np.flatnonzero(~(better & (~equal | first)).any(axis=0))


def split(work: Floats, counts: Floats) -> Floats | None:
    """Return the shares of traffic at which neither of two kinds is overrun; None without any.

    Args:
        work: servers that a whole bucket keeps busy, by (kind, bucket), inf where it must not go.
        counts: servers of each kind.
    """
    free, shares = float(counts[0]), np.zeros(work.shape[1])
    for bucket in np.argsort(-_worth(*work), kind="stable").tolist():
        if np.isfinite(work[0, bucket]):
            shares[bucket] = min(1.0, free / work[0, bucket])
            if shares[bucket] > 1 - TOLERANCE:
                shares[bucket] = 1.0
            free -= shares[bucket] * work[0, bucket]
    rest = 1.0 - shares
    needed = float((rest[rest > 0] * work[1, rest > 0]).sum())
    # As many as `Pairs` rounds down: g(x) that is above a count by rounding alone.
    holds = np.isfinite(needed) and needed - TOLERANCE * (1 + needed) <= counts[1]
    return np.stack([shares, rest]) if holds else None


def _worth(ours: Floats, theirs: Floats) -> Floats:
    """Return how much of the second kind's time one of the first saves, by bucket."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = theirs / ours
    return np.where(np.isinf(ours), -1.0, np.where(np.isinf(theirs), np.inf, ratio))


class Pairs:
    """All pairs of some kinds of servers."""

    def __init__(self, work: Floats, room: Room) -> None:
        """Find where g bends, and how many servers each pair may have.

        Args:
            work: servers that a whole bucket keeps busy, by (kind, bucket), inf where it must not
                go.
            room: what bounds the servers together.
        """
        self.room = room
        self.first, self.second = np.triu_indices(len(work), 1)
        ours, theirs = work[self.first], work[self.second]
        order = np.argsort(-_worth(ours, theirs), axis=1, kind="stable")
        ours, theirs = (np.take_along_axis(side, order, axis=1) for side in (ours, theirs))
        nothing = np.zeros((len(ours), 1))
        # Servers of the first kind at each bend, and of the second that are left, by (pair, bend).
        self.x = np.cumsum(np.hstack([nothing, ours]), axis=1)
        self.rest = np.cumsum(np.hstack([nothing, theirs[:, ::-1]]), axis=1)[:, ::-1]
        is_finite = np.isfinite(self.x) & np.isfinite(self.rest)
        self.is_possible = is_finite.any(axis=1)
        self.start = is_finite.argmax(axis=1)
        self.end = self.x.shape[1] - 1 - is_finite[:, ::-1].argmax(axis=1)
        limits = np.where(room.member > 0, room.limits, np.inf)
        self.quota = limits.min(axis=1, initial=np.inf)
        of_both = np.maximum(limits[self.first], limits[self.second])  # inf where one is not in it
        self.together = np.minimum(of_both.min(axis=1, initial=np.inf), room.n_servers)

    def cheapest(self, usd: Floats) -> list[Pair | None]:
        """Return the cheapest mix for each place, None where there is none.

        Args:
            usd: dollars of a server, by (place, kind).
        """
        best: list[Pair | None] = [None for _ in usd]
        least = np.full(len(usd), np.inf)
        bounds = self._bounds(usd)
        lowest = bounds.min(axis=0, initial=np.inf)
        low, high = self._range()
        order = np.argsort(lowest, kind="stable")
        order = order[(low <= high)[order] & np.isfinite(lowest[order])]
        n_counts = (high - low + 1)[order]
        part = (np.cumsum(n_counts) // MAX_LISTED).astype(np.int64)
        for pairs in np.split(order, np.flatnonzero(np.diff(part)) + 1):
            if not (bounds[:, pairs] <= least[:, None]).any():
                continue
            pair, first, second = self._listed(pairs, low, high)
            if not len(pair):
                continue
            i, j = self.first[pair], self.second[pair]
            for p, row in enumerate(usd):
                cost = first * row[i] + second * row[j]
                at = int(cost.argmin())
                if cost[at] < least[p] * (1 - TOLERANCE):
                    least[p] = cost[at]
                    best[p] = (int(i[at]), int(first[at]), int(j[at]), int(second[at]))
        return best

    def _bounds(self, usd: Floats) -> Floats:
        """Return the least dollars of each pair with counts continuous, by (place, pair)."""
        least = np.full((len(usd), len(self.x)), np.inf)
        for x, rest in zip(self.x.T, self.rest.T, strict=True):
            fine = np.isfinite(x) & np.isfinite(rest)
            cost = usd[:, self.first[fine]] * x[fine] + usd[:, self.second[fine]] * rest[fine]
            least[:, fine] = np.minimum(least[:, fine], cost)
        return least

    def _range(self) -> tuple[Floats, Floats]:
        """Return the fewest and most servers of the first kind, by pair."""
        rows = np.arange(len(self.x))
        start, end = (
            np.where(self.is_possible, self.x[rows, at], np.nan) for at in (self.start, self.end)
        )
        most = np.minimum(self.quota[self.first], self.room.n_servers)
        low = np.ceil(start - TOLERANCE * (1 + start))
        return low, np.minimum(np.ceil(end), most)

    def _listed(self, pairs: Ints, low: Floats, high: Floats) -> tuple[Ints, Floats, Floats]:
        """Return every count that there may be of some pairs: the pair, and both numbers."""
        n = (high - low + 1)[pairs].astype(np.int64)
        pair = np.repeat(pairs, n)
        first = low[pair] + np.arange(len(pair)) - np.repeat(np.cumsum(n) - n, n)
        second = self._second(pair, first)
        total = first + second
        allowed = (total > 0) & (total <= self.together[pair])
        allowed &= second <= self.quota[self.second[pair]]
        price = first * self.room.price[self.first[pair]]
        price += second * self.room.price[self.second[pair]]
        allowed &= price <= self.room.max_usd_per_hour * (1 + TOLERANCE)
        return pair[allowed], first[allowed], second[allowed]

    def _second(self, pair: Ints, first: Floats) -> Floats:
        """Return the servers of the second kind beside so many of the first: g(x), rounded up."""
        start, end = self.start[pair], self.end[pair]
        at = (self.x[pair] <= first[:, None]).sum(axis=1) - 1
        at = np.clip(at, start, np.maximum(end - 1, start))
        after = np.minimum(at + 1, end)
        width = self.x[pair, after] - self.x[pair, at]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(width > 0, (first - self.x[pair, at]) / width, 1.0).clip(0.0, 1.0)
        needed = self.rest[pair, at] + part * (self.rest[pair, after] - self.rest[pair, at])
        second: Floats = np.ceil(needed - TOLERANCE * (1 + needed)).clip(min=0.0)
        return second
