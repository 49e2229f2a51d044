r"""The cheapest mix of one or two kinds of server, exact (knapsack cover).

Let w_ib servers of kind i be busy with all of bucket b. Of two kinds, x servers of i take the
buckets at which they save most of j for their own time, those of the highest w_jb / w_ib first; j
answers the rest. So the servers of j that are needed are a convex function g of x whose slope
changes where a bucket is full:

    g(x) = Σ_b w_jb - what x saves,     least dollars = min_x c_i x + c_j ⌈g(x)⌉

With counts continuous, the least dollars of a pair are at one of these points. They bound the pair
from below; where the pairs have too many counts to price them all, only pairs whose bound is below
the best one so far are counted out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stratos.plan.options.covering import TOLERANCE, Room

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_LISTED = 200_000
"""Counts of all pairs that are priced at once."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of some kinds of servers, with each kind beside itself."""

    work: Floats
    """Servers that a whole bucket keeps busy, by (kind, bucket); inf where it must not go."""
    room: Room
    """What bounds the servers together."""
    alone: bool = False
    """Whether a mix may be of one kind only."""

    @cached_property
    def first(self) -> Ints:
        """First kind, by pair."""
        return self._both[0]

    @cached_property
    def second(self) -> Ints:
        """Second kind, by pair: the first again for a kind alone."""
        return self._both[1]

    @cached_property
    def _both(self) -> tuple[Ints, Ints]:
        n = len(self.work)
        if self.alone:
            return np.arange(n), np.arange(n)
        return np.triu_indices(n)

    @cached_property
    def most(self) -> Floats:
        """Servers of each kind that a mix may have."""
        most = np.minimum(self._quota, self.room.n_servers)
        if np.isfinite(self.room.max_usd_per_hour):
            with np.errstate(divide="ignore"):
                affordable = self.room.max_usd_per_hour * (1 + TOLERANCE) / self.room.price
            most = np.minimum(most, np.floor(affordable))
        return most

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """Where g bends: servers of the first kind, and of the second that are left, by (pair, b).

        Both are inf where a bucket has no server.
        """
        ours, theirs = self.work[self.first], self.work[self.second]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(
                np.isinf(ours), -1.0, np.where(np.isinf(theirs), np.inf, theirs / ours)
            )
        order = np.argsort(-worth, axis=1, kind="stable")
        ours = np.take_along_axis(ours, order, axis=1)
        theirs = np.take_along_axis(theirs, order, axis=1)
        nothing = np.zeros((len(ours), 1))
        x = np.cumsum(np.hstack([nothing, ours]), axis=1)
        rest = np.cumsum(np.hstack([nothing, theirs[:, ::-1]]), axis=1)[:, ::-1]
        return x, rest

    def bounds(self, usd: Floats) -> Floats:
        """Return the least dollars of each pair with counts continuous, by (row of usd, pair).

        Args:
            usd: dollars of a server, by (place, kind).
        """
        x, rest = self.points
        least = np.full((len(usd), len(x)), np.inf)
        for k in range(x.shape[1]):  # one for each bucket: few
            fine = np.isfinite(x[:, k]) & np.isfinite(rest[:, k])
            cost = usd[:, self.first[fine]] * x[fine, k] + usd[:, self.second[fine]] * rest[fine, k]
            least[:, fine] = np.minimum(least[:, fine], cost)
        return least

    def best(self, usd: Floats) -> list[Floats | None]:
        """Return the counts of the cheapest mix for each place, None where there is none.

        Args:
            usd: dollars of a server, by (place, kind).
        """
        low, high = self._range
        if (high - low + 1).clip(min=0).sum() <= MAX_LISTED:
            return self._best_listed(usd)
        found: list[Floats | None] = []
        for row, bound in zip(usd, self.bounds(usd), strict=True):
            best: Floats | None = None
            least = np.inf
            for pair in np.argsort(bound, kind="stable").tolist():
                if bound[pair] > least or np.isinf(bound[pair]):
                    break
                n = np.arange(low[pair], high[pair] + 1)
                first, second = self._counts(np.full(len(n), pair), n)
                cost = first * row[self.first[pair]] + second * row[self.second[pair]]
                cost = np.where(self._allowed(np.full(len(n), pair), first, second), cost, np.inf)
                if len(n) and np.isfinite(cost.min()) and cost.min() <= least:
                    at = int(cost.argmin())
                    best = self._counted(pair, first[at], second[at])
                    least = float(cost[at]) * (1 - TOLERANCE)
            found.append(best)
        return found

    def _best_listed(self, usd: Floats) -> list[Floats | None]:
        """Price all counts of all pairs at once, where these are not too many."""
        low, high = self._range
        n = (high - low + 1).clip(min=0).astype(np.int64)
        pair = np.repeat(np.arange(len(n)), n)
        first = low[pair] + np.arange(len(pair)) - np.repeat(np.cumsum(n) - n, n)
        first, second = self._counts(pair, first)
        allowed = self._allowed(pair, first, second)
        pair, first, second = pair[allowed], first[allowed], second[allowed]
        if not len(pair):
            return [None for _ in usd]
        i, j = self.first[pair], self.second[pair]
        found: list[Floats | None] = []
        for row in usd:
            at = int((first * row[i] + second * row[j]).argmin())
            found.append(self._counted(pair[at], first[at], second[at]))
        return found

    @cached_property
    def _range(self) -> tuple[Floats, Floats]:
        """Fewest and most servers of the first kind, by pair; none where the most are fewer."""
        x, rest = self.points
        fine = np.isfinite(x) & np.isfinite(rest)
        from_, to = self._ends
        rows = np.arange(len(x))
        most = self.most[self.first]
        is_one = fine.any(axis=1)
        start, end = (np.where(is_one, x[rows, at], 0.0) for at in (from_, to))
        low = np.ceil(start - TOLERANCE * (1 + start))
        high = np.minimum(np.ceil(end), most)
        alone = self.first == self.second
        low = np.where(alone, np.ceil(end - TOLERANCE * (1 + end)), low)
        high = np.where(alone, np.where(low <= most, low, -np.inf), high)
        is_one &= low <= high
        return np.where(is_one, low, 0.0), np.where(is_one, high, -1.0)

    @cached_property
    def _ends(self) -> tuple[Ints, Ints]:
        """First and last point that is finite, by pair."""
        x, rest = self.points
        fine = np.isfinite(x) & np.isfinite(rest)
        return fine.argmax(axis=1), x.shape[1] - 1 - fine[:, ::-1].argmax(axis=1)

    def _counts(self, pair: Ints, first: Floats) -> tuple[Floats, Floats]:
        """Return the counts of both kinds, with so many of the first: g(x) rounded up."""
        x, rest = self.points
        from_, to = self._ends
        last = to[pair]
        at = (x[pair] <= first[:, None]).sum(axis=1) - 1
        at = np.clip(at, from_[pair], np.maximum(last - 1, from_[pair]))
        after = np.minimum(at + 1, last)
        width = x[pair, after] - x[pair, at]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(width > 0, (first - x[pair, at]) / width, 1.0).clip(0.0, 1.0)
        second = rest[pair, at] + part * (rest[pair, after] - rest[pair, at])
        second = np.ceil(second - TOLERANCE * (1 + second)).clip(min=0.0)
        return first, np.where(self.first[pair] == self.second[pair], 0.0, second)

    def _allowed(self, pair: Ints, first: Floats, second: Floats) -> Bools:
        """Return which counts there may be."""
        room, i, j = self.room, self.first[pair], self.second[pair]
        total = first + second
        allowed = (total > 0) & (total <= self._most_together[pair])
        allowed &= (first <= self._quota[i]) & (second <= self._quota[j])
        if np.isfinite(room.max_usd_per_hour):
            usd_per_hour = first * room.price[i] + second * room.price[j]
            allowed &= usd_per_hour <= room.max_usd_per_hour * (1 + TOLERANCE)
        return allowed

    @cached_property
    def _quota(self) -> Floats:
        """Servers of each kind that its quotas allow."""
        limits = np.where(self.room.member > 0, self.room.limits, np.inf)
        return limits.min(axis=1, initial=np.inf)

    @cached_property
    def _most_together(self) -> Floats:
        """Servers of both kinds that the quotas of both allow, by pair."""
        of_both = (self.room.member[self.first] > 0) & (self.room.member[self.second] > 0)
        quota = np.where(of_both, self.room.limits, np.inf).min(axis=1, initial=np.inf)
        return np.minimum(quota, self.room.n_servers)

    def _counted(self, pair: int, first: float, second: float) -> Floats:
        """Return the counts of every kind."""
        counts = np.zeros(len(self.work))
        counts[self.second[pair]] += second
        counts[self.first[pair]] += first
        return counts
