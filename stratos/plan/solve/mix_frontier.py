"""The latency-cost frontier of server mixes for a request rate.

One work is served for a training that may stand in many places, which differ in what the egress to
each server costs. Servers of one kind take each other's place in every constraint of a mix, so of a
kind each place of training takes the server that is cheapest from there: most places see the same
dollars.

A staircase goes down from the slowest latency, for all places together: the cheapest mix below it,
then the cheapest that is faster than this one, and so on. Of one and two kinds it is counted
exactly. A mix of more kinds is of use only below the dollars at which it is preferred: there the
solver is asked, for the least dollars of each kind from any of the places first, and for fewer of
them where that leaves some open. What it proves holds for all faster mixes, too, which cost no
less, so that few steps need it. `gap` is the share of dollars by which a place may take the mix of
another.

The cheapest mix of two kinds is a knapsack cover. Let w_ib servers of kind i be busy with all of
bucket b. x servers of i take the buckets at which they save most of j for their own time, those of
the highest w_jb / w_ib first; j answers the rest. So the servers of j that are needed are a convex
function g of x whose slope changes where a bucket is full:

    g(x) = Σ_b w_jb - what x saves,     least dollars = min_x c_i x + c_j ⌈g(x)⌉

With counts continuous, the least dollars of a pair are at one of these points. They bound the pair
from below, so that pairs are counted out in the order of their bounds, until no place can gain.
This stays by hand beside HiGHS: nearly every step of a staircase is such a mix, and one program a
step takes 14 ms, which makes 7 CPU s of the 90,000 rows at a rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from stratos.catalog.table import Bools, Floats, Ints
from stratos.plan.option import Caps, Mix, Option
from stratos.plan.solve.mix import Step, add_caps, add_max_kinds, add_mix, as_served, read_mix
from stratos.plan.solve.solver import INFEASIBLE, Solver

FEWER_KINDS = 0.05
"""Share of its dollars that a mix of few kinds of servers may cost beyond one of many: each kind is
another image, another driver and another way to fail."""


LEAST_WORK = 1e-5
"""Servers that a bucket of requests keeps busy at least, in a program."""


class Kinds:
    """The servers of one work as arrays: latency, work and caps of each kind."""

    def __init__(self, options: Sequence[Option], rates: Sequence[float], caps: Caps) -> None:
        self.order = sorted(range(len(options)), key=lambda i: options[i].sort_name)
        self.options = [options[i] for i in self.order]
        self.rates = rates
        self.caps = caps
        quotas: dict[Any, int] = {}
        groups = [caps.binding(o.offer) if o.offer else frozenset() for o in self.options]
        for group in groups:
            for quota in sorted(group, key=lambda quota: quota.pattern):
                quotas.setdefault(quota, len(quotas))
        member = np.zeros((len(options), len(quotas)))
        for i, group in enumerate(groups):
            member[i, [quotas[quota] for quota in group]] = 1.0
        price = np.array([o.usd_per_hour for o in self.options])
        latency = np.array([o.latencies_ms for o in self.options])
        capacity = np.array([o.requests_per_s for o in self.options])
        work = np.maximum(np.array(rates) / capacity, 1e-12)
        capped = caps.max_usd_per_hour is not None
        alike = np.column_stack([latency, work, member, price if capped else 0.0 * price])
        _, first, kind = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        self.by_kind = np.argsort(kind.reshape(-1), kind="stable")
        self.starts = np.searchsorted(kind.reshape(-1)[self.by_kind], np.arange(len(first)))
        self.latency, self.work = latency[first], work[first]
        limits = np.array([float(quota.limit) for quota in quotas])
        cap = caps.max_usd_per_hour if caps.max_usd_per_hour is not None else inf
        self.room = Room(caps.max_nodes, member[first], limits, price[first], cap)

    def seen_with(self, egress_usd: Floats) -> tuple[Floats, Ints]:
        """Return dollars of each kind and the server that stands for it, by (place, kind)."""
        own = np.array([o.usd for o in self.options])
        usd = (own + egress_usd[:, self.order])[:, self.by_kind]
        least = np.minimum.reduceat(usd, self.starts, axis=1)
        of_kind = np.repeat(least, np.diff([*self.starts, usd.shape[1]]), axis=1)
        # The first by name of those that cost the least.
        standing = np.where(usd == of_kind, self.by_kind, len(self.order))
        return least, np.minimum.reduceat(standing, self.starts, axis=1)


def staircases(
    options: Sequence[Option],
    egress_usd: Floats,
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
    gap: float = 0.0,
    max_kinds: int | None = None,
) -> list[list[Step]]:
    """Return the staircase of each place of training, from the cheapest mix to the fastest.

    Args:
        options: single servers.
        egress_usd: what each of them costs beside its own dollars, by (place, server).
        rates: requests per second by bucket.
        caps: quotas, most servers and most dollars an hour.
        solver: what finds mixes of more than two kinds.
        gap: share of dollars by which such a mix may be dearer than the optimum.
        max_kinds: kinds of servers of a mix, unless more of them are `FEWER_KINDS` cheaper.
    """
    if not options or not len(egress_usd):
        return [[] for _ in egress_usd]
    kinds = Kinds(options, rates, caps)
    usd, standing = kinds.seen_with(egress_usd)
    seen, which = np.unique(np.hstack([usd, standing]), axis=0, return_inverse=True)
    n = usd.shape[1]
    search = _Search(kinds, seen[:, :n], seen[:, n:].astype(np.int64), solver, gap, max_kinds)
    stairs = search.run()
    return [stairs[i] for i in which.reshape(-1).tolist()]


@dataclass(frozen=True, eq=False)
class _Mixed:
    """A mix that exists: how many servers of each kind, and how fast it is at best."""

    counts: Floats
    latency_ms: float
    shares: Floats

    @property
    def n_kinds(self) -> int:
        """Kinds of servers in it."""
        return int(np.count_nonzero(self.counts))


def _descending(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, by dollars, that are faster than all cheaper ones.

    The search takes every server for one that answers the buckets as the whole traffic has them;
    with the queues of what comes to each, a step may be slower than one before it.
    """
    falling: list[Step] = []
    for step in sorted(steps, key=lambda step: (step.usd, step.latency_ms)):
        if not falling or step.latency_ms < falling[-1].latency_ms:
            falling.append(step)
    return falling


class _Search:
    """Goes down the staircases of all places together."""

    def __init__(
        self,
        kinds: Kinds,
        usd: Floats,
        standing: Ints,
        solver: Solver,
        gap: float,
        max_kinds: int | None,
    ) -> None:
        self.kinds = kinds
        self.usd = usd
        self.standing = standing
        self.solver = solver
        self.gap = gap
        self.max_kinds = inf if max_kinds is None else max_kinds
        self.alone = self._alone()
        self.known = [*self.alone]
        self.proven: dict[float, Floats] = {}
        """By most kinds and place: dollars below which no mix is that is as fast."""
        self.served: dict[tuple[int, bytes], Mix] = {}
        self.useful: dict[tuple[float, bytes], tuple[Ints, Floats]] = {}

    def run(self) -> list[list[Step]]:
        """Return the staircase of every place."""
        n_places = len(self.usd)
        steps: list[list[tuple[float, _Mixed]]] = [[] for _ in range(n_places)]
        below = np.full(n_places, inf)
        is_open = np.ones(n_places, dtype=bool)
        while is_open.any():
            latency = below[is_open].max()
            places = np.flatnonzero(is_open & (below == latency))
            for p, mixed in zip(places.tolist(), self._cheapest(latency, places), strict=True):
                if mixed is None:
                    is_open[p] = False
                    continue
                usd = float(mixed.counts @ self.usd[p])
                # A faster mix for the same dollars takes the place of the one before it.
                while steps[p] and usd <= steps[p][-1][0] * (1 + TOLERANCE):
                    steps[p].pop()
                steps[p].append((usd, mixed))
                below[p] = mixed.latency_ms
        made = [[self._step(p, *step) for step in of_place] for p, of_place in enumerate(steps)]
        return [_descending(row + self._alone_below(p, row)) for p, row in enumerate(made)]

    def _alone(self) -> list[_Mixed]:
        """Return the mixes of equal servers that answer everything."""
        n = np.ceil(self.kinds.work.sum(axis=1) - TOLERANCE).clip(min=1.0)
        counts = np.diag(n)
        every = np.ones(self.kinds.work.shape[1])
        return [
            _Mixed(counts[i], float(self.kinds.latency[i].max()), (counts[i] > 0)[:, None] * every)
            for i in np.flatnonzero(self.kinds.room.holds(counts)).tolist()
        ]

    def _alone_below(self, p: int, steps: Sequence[Step]) -> list[Step]:
        """Return the mixes of equal servers that none of some steps is as cheap and as fast as.

        The search has passed over them for mixes that the queues of what comes to each server make
        slower than it took them for.
        """
        better = []
        for mixed in self.alone:
            usd = float(mixed.counts @ self.usd[p])
            if all(step.usd > usd or step.latency_ms > mixed.latency_ms for step in steps):
                better.append(self._step(p, usd, mixed))
        return better

    def _cheapest(self, below: float, places: Ints) -> list[_Mixed | None]:
        """Return the cheapest mix that is faster than `below` for each place, None if none is.

        It has at most `max_kinds` kinds, or more if that saves enough.
        """
        admitted = self.kinds.latency < below
        if not admitted.any(axis=0).all():
            return [None for _ in places]
        if self.max_kinds > 1:
            self._count_pairs(below, places)
        if self.max_kinds > 2:
            self._solve(below, places, self.max_kinds, np.full(len(places), inf))
        few, usd = self._best_known(below, places, self.max_kinds)
        if self.max_kinds == inf:
            return few
        # A mix of more kinds is only of use below these dollars.
        enough = usd / ((1 + FEWER_KINDS) * (1 + TOLERANCE))
        self._solve(below, places, inf, enough)
        more, usd = self._best_known(below, places, inf)
        return [
            many if cost < most else mixed
            for many, cost, most, mixed in zip(more, usd, enough, few, strict=True)
        ]

    def _useful(self, below: float, places: Ints) -> tuple[Ints, Floats]:
        """Return the kinds that a mix so fast may be of, and their work, inf where too slow."""
        key = (below, places.tobytes())
        if key not in self.useful:
            self.useful = {key: self._find_useful(below, places)}  # it is asked for twice in a row
        return self.useful[key]

    def _find_useful(self, below: float, places: Ints) -> tuple[Ints, Floats]:
        kinds = self.kinds
        admitted = kinds.latency < below
        useful = np.flatnonzero(admitted.any(axis=1))
        rate = np.where(admitted, 1.0 / kinds.work, 0.0)[useful]
        usd = self.usd[np.ix_(places, useful)]
        useful = useful[irreplaceable(usd, rate, kinds.room.of(useful))]
        return useful, np.where(admitted, kinds.work, inf)[useful]

    def _count_pairs(self, below: float, places: Ints) -> None:
        """Find the cheapest mix of two kinds for each place."""
        useful, work = self._useful(below, places)
        pairs = Pairs(work, self.kinds.room.of(useful))
        for pair in dict.fromkeys(pairs.cheapest(self.usd[np.ix_(places, useful)])):
            if pair is not None:
                first, n_first, second, n_second = pair
                both = useful[[first, second]]
                self._know(both, np.array([n_first, n_second], dtype=float), below)

    def _know(self, both: Ints, counts: Floats, below: float) -> None:
        """Remember a mix of two kinds, as fast as it can be."""
        latency, work = self.kinds.latency[both], self.kinds.work[both]
        shares = None
        for level in np.unique(latency[latency < below]).tolist():  # a few: kinds times buckets
            shares = split(np.where(latency <= level, work, inf), counts)
            if shares is not None:
                break
        assert shares is not None, "a pair that is counted keeps up"
        every, rows = np.zeros(len(self.kinds.latency)), np.zeros(self.kinds.latency.shape)
        used = shares.any(axis=1)
        every[both[used]], rows[both] = counts[used], shares
        self.known.append(_Mixed(every, level, rows))

    def _best_known(
        self, below: float, places: Ints, max_kinds: float
    ) -> tuple[list[_Mixed | None], Floats]:
        """Return the cheapest known mix for each place, and its dollars, inf without one."""
        fast = [
            mixed for mixed in self.known if mixed.latency_ms < below and mixed.n_kinds <= max_kinds
        ]
        if not fast:
            return [None for _ in places], np.full(len(places), inf)
        usd = self.usd[places] @ np.array([mixed.counts for mixed in fast]).T
        # Of equals the fastest.
        latency = np.array([mixed.latency_ms for mixed in fast])
        equal = usd <= usd.min(axis=1)[:, None] * (1 + TOLERANCE)
        chosen = np.where(equal, latency, inf).argmin(axis=1)
        return [fast[i] for i in chosen.tolist()], usd[np.arange(len(places)), chosen]

    def _solve(self, below: float, places: Ints, max_kinds: float, enough: Floats) -> None:
        """Ask the solver until no place can have a mix that is cheaper than what is known.

        What is cheapest with the least dollars of each server costs no more than any place's own
        optimum: a place is settled where what is known costs at most the gap more, or where no mix
        is below the dollars that are enough.
        """
        proven = self.proven.setdefault(max_kinds, np.zeros(len(self.usd)))
        limit = dict(zip(places.tolist(), enough.tolist(), strict=True))

        def most_usd(some: Ints) -> Floats:
            known = self._best_known(below, some, max_kinds)[1]
            return np.minimum(known, [limit[p] for p in some.tolist()])

        def is_open(some: Ints) -> Bools:
            most = most_usd(some)
            # The gap is for mixes that are taken, not for what is enough.
            gap = np.where(most < [limit[p] for p in some.tolist()], self.gap, 0.0)
            return most > proven[some] * (1 + gap)

        groups = [places]
        while groups:
            some = groups.pop()
            some = some[is_open(some)]
            if not len(some):
                continue
            unproven = self.solver.unproven
            least = self._solve_once(below, some, max_kinds, float(most_usd(some).max()))
            if self.solver.unproven == unproven:
                proven[some] = np.maximum(proven[some], least)
            if len(some) == 1:
                continue
            some = some[is_open(some)]
            if len(some):
                # Places that see more equal dollars leave less between them and what is proven.
                usd = self.usd[some]
                spread = np.ptp(usd, axis=0) * self.known[-1].counts
                order = np.argsort(usd[:, int(np.argmax(spread))], kind="stable")
                groups += [part for part in np.array_split(some[order], 2) if len(part)]
        sure = places[(proven[places] > 0) & (proven[places] < inf)]
        excess = most_usd(sure) / proven[sure] - 1
        self.solver.shared_gap = max(self.solver.shared_gap, float(excess.max(initial=0.0)))

    def _solve_once(self, below: float, places: Ints, max_kinds: float, most_usd: float) -> float:
        """Solve for the least dollars of each kind; return dollars below which there is no mix."""
        import pulp

        kinds = self.kinds
        useful, work = self._useful(below, places)
        usd = self.usd[np.ix_(places, useful)].min(axis=0)
        program = pulp.LpProblem("mix", pulp.LpMinimize)
        servers = [kinds.options[kinds.by_kind[kinds.starts[j]]] for j in useful.tolist()]
        admitted = np.isfinite(work)
        # Less work than that is below what the solver takes for none.
        least_rates = LEAST_WORK * np.max([o.requests_per_s for o in servers], axis=0)
        rates = np.maximum(kinds.rates, least_rates).tolist()
        n, f = add_mix(program, "", servers, rates, lambda i, b: int(admitted[i, b]))
        dollars = pulp.lpSum(float(cost) * n[i] for i, cost in enumerate(usd))
        program.setObjective(dollars)
        if np.isfinite(most_usd):
            program += dollars <= most_usd * (1 - TOLERANCE), "cheaper"
        add_caps(program, [(server, n[i]) for i, server in enumerate(servers)], kinds.caps)
        if np.isfinite(max_kinds):
            add_max_kinds(program, n, kinds.caps, int(max_kinds))
        if self.solver.run(program) == INFEASIBLE:
            return most_usd
        counts, shares = read_mix(n, f, len(kinds.rates))
        every, rows = np.zeros(len(kinds.latency)), np.zeros(kinds.latency.shape)
        for i, count in counts.items():
            every[useful[i]], rows[useful[i]] = count, shares[i]
        used = rows > 0
        every[~used.any(axis=1)] = 0.0
        self.known.append(_Mixed(every, float(kinds.latency[used].max()), rows))
        return float(every[useful] @ usd) * (1 - self.solver.gap)

    def _shares(self, mixed: _Mixed, kinds: Ints) -> Floats:
        """Return which share of each bucket the kinds of a mix answer, by (kind, bucket).

        Where they can, each kind answers all buckets alike: its queue is that of all requests then,
        and no longer than the mix was taken for.
        """
        work, shares = self.kinds.work[kinds], mixed.shares[kinds]
        if len(kinds) < 2:
            return shares
        even = mixed.counts[kinds] / work.sum(axis=1)
        if even.sum() < 1 or self.kinds.latency[kinds].max() > mixed.latency_ms:
            return shares
        return np.repeat((even / even.sum())[:, None], work.shape[1], axis=1)

    def _step(self, p: int, usd: float, mixed: _Mixed) -> Step:
        """Return a mix as it stands for one place."""
        kinds = np.flatnonzero(mixed.counts)
        shares = self._shares(mixed, kinds)
        servers = self.standing[p, kinds]
        key = (id(mixed), servers.tobytes())
        if key not in self.served:  # most places have the same servers of a mix
            parts = [
                (
                    self.kinds.options[servers[i]],
                    round(mixed.counts[kinds[i]]),
                    tuple(shares[i].tolist()),
                )
                for i in np.argsort(servers).tolist()
            ]
            self.served[key] = as_served(parts, self.kinds.rates)
        served = self.served[key]
        return Step(usd, served.latency_ms, served)


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
