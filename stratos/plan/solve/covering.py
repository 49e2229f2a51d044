r"""Knapsack covering: the cheapest server counts that meet a request rate, exact for few kinds.

The program is that of `mix`: min Σ c_j n_j, where the servers n answer all buckets at once. By
duality n answers them all exactly if, for every price π_b ≥ 0 of a whole bucket,

    Σ_j n_j max_b π_b / w_jb  ≥  Σ_b π_b         (w_jb servers of j are busy with all of bucket b)

since the left side is the most that the servers can earn. So a share of traffic needs no variable:
counts are tried column by column, cheapest for its worth first, and given up by two rules.

- A price of every bucket that no server left can beat, π_b = min_j (c_j + ν) w_jb for any ν ≥ 0,
  bounds what the rest costs: Σ_b π_b less what the servers so far earn, less ν for every server
  that may still be added. The same holds for the prices of some buckets alone.
- With c_j = 1 and ν = 0 it bounds the servers that are needed, of which there may be few.

Counts that pass every price in a growing pool are put to the test by a linear program of their own
(`split`), which gives shares of traffic, or a price that they fail and that joins the pool.

The cheapest mix of one or two kinds of server, exact (knapsack cover).

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

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from stratos.catalog.table import Bools, Floats, Ints

TOLERANCE = 1e-9
"""Relative difference below which dollars and loads are equal."""

MAX_STATES = 2_000
"""Counts that are tried at once before the search gives up."""

N_PRICES = 24
"""Values of ν that the best one is sought among."""


class TooMany(Exception):
    """The search would take more than `MAX_STATES`."""


@dataclass
class Room:
    """What bounds the servers of a mix together."""

    n_servers: int
    member: Floats
    """1 where a server counts in a quota, by (server, quota)."""
    limits: Floats
    """By quota."""
    price: Floats
    """Dollars an hour of a server."""
    max_usd_per_hour: float = np.inf
    max_kinds: float = np.inf
    """Kinds of servers that a mix may have."""

    def holds(self, counts: Floats) -> Bools:
        """Return which rows of counts are allowed."""
        allowed = counts.sum(axis=1) <= self.n_servers
        allowed &= (counts @ self.member <= self.limits).all(axis=1)
        if np.isfinite(self.max_kinds):
            allowed &= (counts > 0).sum(axis=1) <= self.max_kinds
        return allowed & (counts @ self.price <= self.max_usd_per_hour * (1 + TOLERANCE))

    def of(self, servers: Ints) -> Room:
        """Return the same for some of the servers."""
        return Room(
            self.n_servers, self.member[servers], self.limits, self.price[servers],
            self.max_usd_per_hour, self.max_kinds,
        )  # fmt: skip


@dataclass
class Pool:
    """Prices of buckets that counts have failed; each sums to 1."""

    prices: list[Floats] = field(default_factory=list)

    def worth(self, rate: Floats) -> Floats:
        """Return what one server earns by each price, by (server, price).

        Args:
            rate: share of a bucket that one server answers, by (server, bucket).
        """
        prices = np.array(self.prices).reshape(len(self.prices), -1)
        return (rate[:, None, :] * prices[None, :, :]).max(axis=2)


def split(work: Floats, counts: Floats) -> tuple[Floats | None, Floats | None]:
    """Return the shares of traffic at which no server is overrun, or a price that shows none.

    The simplex method by Bland's rule, from the basis in which nothing is answered: minimise the
    share of traffic without a server.

    Args:
        work: servers that a whole bucket keeps busy, by (server, bucket), inf where it must not go.
        counts: servers of each kind.
    """
    n, n_buckets = work.shape
    rows, columns = np.nonzero(np.isfinite(work))
    n_shares = len(rows)
    # Columns: shares, idle servers, unanswered traffic, the right side.
    table = np.zeros((n_buckets + n + 1, n_shares + n + n_buckets + 1))
    at = np.arange(n_shares)
    table[columns, at] = 1.0
    table[n_buckets + rows, at] = work[rows, columns]
    table[n_buckets : n_buckets + n, n_shares : n_shares + n] = np.eye(n)
    table[:n_buckets, n_shares + n : -1] = np.eye(n_buckets)
    table[:n_buckets, -1] = 1.0
    table[n_buckets : n_buckets + n, -1] = counts
    table[-1] = -table[:n_buckets].sum(axis=0)
    table[-1, n_shares + n : -1] = 0.0
    basis = np.concatenate([np.arange(n_shares + n, n_shares + n + n_buckets),
                            np.arange(n_shares, n_shares + n)])  # fmt: skip
    while True:
        entering = np.flatnonzero(table[-1, : n_shares + n] < -1e-11)
        if not len(entering):
            break
        column = int(entering[0])
        up = table[:-1, column]
        positive = np.flatnonzero(up > 1e-11)
        ratio = table[positive, -1] / up[positive]
        ties = positive[ratio <= ratio.min() + 1e-13]
        row = int(ties[np.argmin(basis[ties])])
        table[row] /= table[row, column]
        others = table[:, column].copy()
        others[row] = 0.0
        table -= np.outer(others, table[row])
        basis[row] = column
    if -table[-1, -1] > TOLERANCE:
        price = np.maximum(1.0 - table[-1, n_shares + n : -1], 0.0)
        return None, price / price.sum()
    values = np.zeros(n_shares + n + n_buckets)
    values[basis] = table[:-1, -1]
    shares = np.zeros((n, n_buckets))
    shares[rows, columns] = values[:n_shares]
    shares[shares < TOLERANCE] = 0.0
    return shares / shares.sum(axis=0), None


def bound(usd: Floats, work: Floats, n_servers: int) -> tuple[float, float, Floats]:
    """Return a lower bound of the dollars with counts continuous, its ν, and its reduced costs.

    Args:
        usd: dollars of one server.
        work: as in `split`.
        n_servers: most servers.
    """
    nu = np.concatenate([[0.0], usd.max() * np.geomspace(1e-3, 1e2, N_PRICES)])
    with np.errstate(invalid="ignore"):
        prices = (usd[None, :, None] + nu[:, None, None]) * work[None, :, :]
    prices = np.where(np.isfinite(work), prices, np.inf).min(axis=1)
    bounds = prices.sum(axis=1) - nu * n_servers
    best = int(np.argmax(bounds))
    reduced = usd + nu[best] - (prices[best] / work).max(axis=1)
    return float(bounds[best]), float(nu[best]), reduced


def irreplaceable(usd: Floats, rate: Floats, room: Room) -> Ints:
    """Return the servers that no other one can stand in for, whatever the mix.

    Args:
        usd: dollars, by (place they are seen from, server).
        rate: share of a bucket that one server answers, by (server, bucket).
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


def search(usd: Floats, rate: Floats, room: Room, pool: Pool, most_usd: float) -> Floats:
    """Return counts of at most so many dollars that pass every price of the pool.

    Every mix of at most `most_usd` that keeps up is among them, or has one of them as a part.

    Args:
        usd: dollars of one server.
        rate: share of a bucket that one server answers, by (server, bucket), 0 if it must not.
        room: what bounds the servers together.
        pool: prices.
        most_usd: dollars.

    Raises:
        TooMany: there are too many counts to try.
    """
    n = len(usd)
    with np.errstate(divide="ignore"):
        work = 1.0 / rate
    least, nu, reduced = bound(usd, work, room.n_servers)
    most_usd += TOLERANCE * max(1.0, most_usd)
    left = np.flatnonzero(least + reduced <= most_usd)
    if least > most_usd or not len(left):
        return np.zeros((0, n))
    left = left[np.argsort(reduced[left], kind="stable")]
    usd, rate, work, inner = usd[left], rate[left], work[left], room.of(left)
    worth = pool.worth(rate)
    lines = _Lines(usd, rate, work, np.unique([0.0, nu / 2, nu, 2 * nu]), inner, most_usd)
    states = np.zeros((1, len(left)))
    used = lines.used(0, states)
    found = []
    for i in range(len(left)):
        alive, one_more = [states], states
        while len(one_more):
            one_more = one_more.copy()
            one_more[:, i] += 1
            used = used + lines.by_server[i, i]
            ok = lines.allow(used)
            if np.isfinite(room.max_kinds):
                ok &= (one_more > 0).sum(axis=1) <= room.max_kinds
            one_more, used = one_more[ok], used[ok]
            if not len(one_more):
                break
            done = np.logical_and.reduce(one_more @ worth >= 1 - TOLERANCE, axis=1)
            found.append(one_more[done])
            one_more, used = one_more[~done], used[~done]
            alive.append(one_more)
        states = np.concatenate(alive) if len(alive) > 1 else states
        used = lines.used(i + 1, states)
        ok = lines.allow(used)
        states, used = states[ok], used[ok]
        if len(states) > MAX_STATES:
            raise TooMany
        if not len(states):
            break
    counts = np.concatenate([np.zeros((0, len(left))), *found])
    result = np.zeros((len(counts), n))
    result[:, left] = counts
    return result


class _Lines:
    """What bounds states from above, each line a sum over their servers.

    The prices of the servers still to come bound what these cost, and how many they are: for each ν
    and each set of buckets, the dollars so far and what is still asked for are at most the budget.
    The caps are lines too, so that one addition and one comparison tell which states are allowed.
    """

    def __init__(
        self, usd: Floats, rate: Floats, work: Floats, nu: Floats, room: Room, most_usd: float
    ) -> None:
        n, n_buckets = rate.shape
        every = np.ones((1, n_buckets))
        subsets = np.concatenate([every, np.eye(n_buckets)] if n_buckets > 1 else [every])
        if n_buckets == 3:
            subsets = np.concatenate([subsets, 1.0 - np.eye(3)])
        # Lines of dollars by (ν, set of buckets), then of servers by set of buckets.
        costs = np.concatenate([usd[None, :] + nu[:, None], np.ones((1, n))])
        # The least price of a bucket among the servers from i on, by (i, ν, bucket).
        prices = np.full((n + 1, len(costs), n_buckets), np.inf)
        finite = np.where(np.isfinite(work), work, 0.0)
        own = np.where(rate[:, None, :] > 0, costs.T[:, :, None] * finite[:, None, :], np.inf)
        prices[:n] = np.minimum.accumulate(own[::-1], axis=0)[::-1]
        # Where no server is left for a bucket, those so far have to answer it.
        prices = np.minimum(prices, 2.0 * (costs.max() + 1) * (room.n_servers + 1))
        by_subset = prices[:, :, None, :] * subsets[None, None, :, :]
        by_subset = by_subset.reshape(n + 1, -1, n_buckets)
        worth = (by_subset[:, None, :, :] * rate[None, :, None, :]).max(axis=3)
        costs = np.repeat(costs, len(subsets), axis=0)
        caps = np.column_stack([usd, np.ones(n), room.price, room.member])
        self.by_server = np.concatenate(
            [costs.T - worth, np.broadcast_to(caps, (n + 1, *caps.shape))], axis=2
        )
        """What a server adds to each line, by (i, server, line)."""
        self.asked = by_subset.sum(axis=2)
        """What is asked for by each line of prices, by (i, line)."""
        most = most_usd + np.repeat(nu, len(subsets)) * room.n_servers
        n_most = np.full(len(subsets), room.n_servers + TOLERANCE)
        most_per_hour = room.max_usd_per_hour * (1 + TOLERANCE)
        self.most = np.array(
            [*most, *n_most, most_usd, room.n_servers, most_per_hour, *room.limits]
        )

    def used(self, i: int, states: Floats) -> Floats:
        """Return the lines of states that servers from i on are still to come to."""
        used = states @ self.by_server[i]
        used[:, : self.asked.shape[1]] += self.asked[i]
        return used

    def allow(self, used: Floats) -> Bools:
        """Return which states may still be completed."""
        return np.logical_and.reduce(used <= self.most, axis=1)


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
