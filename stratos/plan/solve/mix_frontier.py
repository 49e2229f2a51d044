"""The latency-cost frontier of server mixes for a request rate.

One work is served for a training that may stand in many places, which differ in what the egress to
each server costs. Servers that answer alike are one kind, of which each place takes the cheapest,
so that most places see the same dollars; the others are searched together: what is cheapest from
any of them costs, with the least dollars of each kind, no more than the dearest of their optima.

A staircase goes down from the slowest latency: the cheapest mix below it, then the cheapest that is
faster than this one, and so on. A few servers are counted by `cover`, which is exact; many are left
to the solver, with `gap` as the share of dollars by which a place may take the mix of another.

Where mixes are to have few kinds, the cheapest of these is found first (`covering.Pairs`): one of
more kinds is of use only below the dollars at which it is preferred, which few searches reach.

The servers of one job as arrays, grouped by kind.

Servers of one kind take each other's place in every constraint of a mix, so of a kind each place of
training takes the server that is cheapest from there, with its egress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from stratos.catalog.table import Floats, Ints
from stratos.plan.option import Caps, Mix, Option
from stratos.plan.solve.covering import (
    TOLERANCE,
    Pairs,
    Pool,
    Room,
    TooMany,
    bound,
    irreplaceable,
    search,
    split,
)
from stratos.plan.solve.mix import Step, add_caps, add_max_kinds, add_mix, as_served, read_mix
from stratos.plan.solve.solver import INFEASIBLE, Solver


class Kinds:
    """Latency, work and caps of each kind."""

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


FEWER_KINDS = 0.05
"""Share of its dollars that a mix of few kinds of servers may cost beyond one of many: each kind is
another image, another driver and another way to fail."""

WEAK_BOUND = 0.75
"""Share of the dollars of what is known: where counts may be continuous for less, they say little
of whole servers. Mostly nothing is cheaper then, which the solver shows sooner if it is asked for
nothing else; of other mixes it finds the best sooner without."""

MAX_COUNTED = 16.0
"""Servers that a mix needs at least, beyond which the solver is asked at once."""


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
        solver: what solves a step that has too many counts to try.
        gap: share of dollars by which such a step may be dearer than the optimum.
        max_kinds: kinds of servers of a mix, unless more of them are `FEWER_KINDS` cheaper.
    """
    if not options or not len(egress_usd):
        return [[] for _ in egress_usd]
    kinds = Kinds(options, rates, caps)
    usd, standing = kinds.seen_with(egress_usd)
    seen, which = np.unique(np.hstack([usd, standing]), axis=0, return_inverse=True)
    n = usd.shape[1]
    search = _Search(kinds, seen[:, :n], seen[:, n:].astype(np.int64), solver, gap, max_kinds)
    found = search.run()
    return [found[i] for i in which.reshape(-1).tolist()]


@dataclass
class _Mixed:
    """A mix that exists: how many servers of each kind, and how fast it is at best."""

    counts: Floats
    latency_ms: float
    shares: Floats

    @property
    def n_kinds(self) -> int:
        """Kinds of servers in it."""
        return int(np.count_nonzero(self.counts))


@dataclass(frozen=True, eq=False)
class _Wanted:
    """The cheapest mix that is fast enough, from each of some places."""

    below: float
    """Milliseconds that it has to be faster than."""
    places: Ints
    useful: Ints
    """Kinds of servers that it may be of."""
    usd: Floats
    """Dollars of a server, by (place, useful kind)."""
    room: Room
    enough: Floats
    """Dollars that it has to be below, by place."""

    def of(self, some: Ints) -> _Wanted:
        """Return the same from some of the places alone."""
        return replace(self, places=self.places[some], usd=self.usd[some], enough=self.enough[some])


def _descending(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, by dollars, that are faster than all cheaper ones.

    The search takes every server for one that answers the buckets as the whole traffic has them;
    with the queues of what comes to each, a step may be slower than one before it.
    """
    found: list[Step] = []
    for step in sorted(steps, key=lambda one: (one.usd, one.latency_ms)):
        if not found or step.latency_ms < found[-1].latency_ms:
            found.append(step)
    return found


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
        self.max_kinds = max_kinds
        self.kinds = kinds
        self.usd = usd
        self.standing = standing
        self.solver = solver
        self.gap = gap
        self.pool = Pool([row for row in np.eye(len(kinds.rates))])
        self.alone = self._alone()
        self.known = [*self.alone]

    def run(self) -> list[list[Step]]:
        """Return the staircase of every place."""
        n_places = len(self.usd)
        steps: list[list[tuple[float, _Mixed]]] = [[] for _ in range(n_places)]
        below = np.full(n_places, inf)
        left = np.ones(n_places, dtype=bool)
        while left.any():
            latency = below[left].max()
            places = np.flatnonzero(left & (below == latency))
            slower = max((steps[p][-1][0] for p in places.tolist() if steps[p]), default=0.0)
            found = self.of_few_kinds(latency, places, slower)
            for p, mixed in zip(places.tolist(), found, strict=True):
                if mixed is None:
                    left[p] = False
                    continue
                usd = float(mixed.counts @ self.usd[p])
                # A faster mix for the same dollars takes the place of the one before it.
                while steps[p] and usd <= steps[p][-1][0] * (1 + TOLERANCE):
                    steps[p].pop()
                steps[p].append((usd, mixed))
                below[p] = mixed.latency_ms
        made = [[self._step(p, *step) for step in found] for p, found in enumerate(steps)]
        return [_descending(found + self._alone_below(p, found)) for p, found in enumerate(made)]

    def _alone_below(self, place: int, steps: Sequence[Step]) -> list[Step]:
        """Return the mixes of equal servers that none of some steps is as cheap and as fast as.

        The search has passed over them for mixes that the queues of what comes to each server make
        slower than it took them for.
        """
        found = []
        for mixed in self.alone:
            usd = float(mixed.counts @ self.usd[place])
            if all(step.usd > usd or step.latency_ms > mixed.latency_ms for step in steps):
                found.append(self._step(place, usd, mixed))
        return found

    def of_few_kinds(self, below: float, places: Ints, least_usd: float) -> list[_Mixed | None]:
        """Return the cheapest mix of at most `max_kinds` kinds, or of more if that saves enough."""
        most, room = self.max_kinds, self.kinds.room
        if not most:
            return self.cheapest(below, places, least_usd, room)
        if most > 2:
            few_kinds = replace(room, max_kinds=float(most))
            fewer = self.cheapest(below, places, least_usd, few_kinds)
        else:
            fewer = self._of_pairs(below, places, most == 1)
        # A mix of more kinds is only of use below these dollars: most searches end at once.
        enough = self._dollars(fewer, places) / ((1 + FEWER_KINDS) * (1 + TOLERANCE))
        found = self.cheapest(below, places, least_usd, room, enough)
        return [more or few for more, few in zip(found, fewer, strict=True)]

    def _dollars(self, mixes: Sequence[_Mixed | None], places: Ints) -> Floats:
        """Return the dollars of a mix for each place, inf without one."""
        return np.array(
            [
                inf if mixed is None else float(mixed.counts @ self.usd[p])
                for mixed, p in zip(mixes, places.tolist(), strict=True)
            ]
        )

    def _of_pairs(self, below: float, places: Ints, alone: bool) -> list[_Mixed | None]:
        """Return the cheapest mix of two kinds for each place."""
        kinds = self.kinds
        admitted = kinds.latency < below
        if not admitted.any(axis=0).all():
            return [None for _ in places]
        rate = np.where(admitted, 1.0 / kinds.work, 0.0)
        useful = np.flatnonzero(admitted.any(axis=1))
        usd = self.usd[np.ix_(places, useful)]
        useful = useful[irreplaceable(usd, rate[useful], kinds.room.of(useful))]
        work = np.where(admitted, kinds.work, inf)[useful]
        pairs = Pairs(work, kinds.room.of(useful), alone)
        made: dict[bytes, _Mixed | None] = {}
        found: list[_Mixed | None] = []
        for counts in pairs.best(self.usd[np.ix_(places, useful)]):
            if counts is None:
                found.append(None)
                continue
            key = counts.tobytes()
            if key not in made:
                every = np.zeros(len(kinds.latency))
                every[useful] = counts
                mixed = self._fastest(every, below)
                made[key] = mixed if isinstance(mixed, _Mixed) else None
                self.known += [mixed] if isinstance(mixed, _Mixed) else []
            found.append(made[key])
        return found

    def cheapest(
        self,
        below: float,
        places: Ints,
        least_usd: float,
        room: Room,
        enough: Floats | None = None,
    ) -> list[_Mixed | None]:
        """Return the cheapest mix that is faster than `below` for each place, None if none is.

        Args:
            below: milliseconds.
            places: numbers of the places.
            least_usd: dollars below which no place has a mix.
            room: what bounds the servers together.
            enough: for each place, dollars that its mix has to be below.
        """
        found: dict[int, _Mixed | None] = dict.fromkeys(places.tolist())
        limits = np.full(len(places), inf) if enough is None else enough
        kinds = self.kinds
        admitted = kinds.latency < below
        if not admitted.any(axis=0).all():
            return list(found.values())
        rate = np.where(admitted, 1.0 / kinds.work, 0.0)
        useful = np.flatnonzero(admitted.any(axis=1))
        usd = self.usd[np.ix_(places, useful)]
        useful = useful[irreplaceable(usd, rate[useful], room.of(useful))]
        rate = rate[useful]
        with np.errstate(divide="ignore"):
            work = 1.0 / rate
        n_least = bound(np.ones(len(useful)), work, room.n_servers)[0]
        if n_least > room.n_servers + TOLERANCE:
            return list(found.values())
        least = bound(self.usd[np.ix_(places, useful)].min(axis=0), work, room.n_servers)[0]
        open_ = limits > least
        if not open_.any():
            return list(found.values())
        places, limits = places[open_], limits[open_]
        wanted = _Wanted(below, places, useful, self.usd[np.ix_(places, useful)], room, limits)
        found |= zip(places.tolist(), self._found(wanted, rate, least_usd, n_least), strict=True)
        return list(found.values())

    def _found(
        self, wanted: _Wanted, rate: Floats, least_usd: float, n_least: float
    ) -> list[_Mixed | None]:
        """Count the servers, or leave them to the solver where they are too many."""
        try:
            if n_least > MAX_COUNTED:
                raise TooMany
            return self._counted(wanted, rate, least_usd)
        except TooMany:
            return self._solved(wanted)

    def _counted(self, wanted: _Wanted, rate: Floats, least_usd: float) -> list[_Mixed | None]:
        """Count the servers: with ever more dollars until every place has its optimum."""
        usd, useful, below = wanted.usd, wanted.useful, wanted.below
        least, room = usd.min(axis=0), wanted.room.of(useful)
        with np.errstate(divide="ignore"):
            work = 1.0 / rate
        most = room.n_servers * float(usd.max(initial=0.0)) + 1.0
        budget = max(1.06 * bound(least, work, room.n_servers)[0], 1.02 * least_usd)
        while True:
            best, best_usd = self._best_known(wanted)
            budget = min(budget, most, float(best_usd.max()))
            counts = search(least, rate, room, self.pool, budget)
            # Those that no place would prefer to what is known need no look.
            costs = counts @ usd.T
            fresh = True
            for i in range(len(usd)):
                better = np.flatnonzero(costs[:, i] < best_usd[i] * (1 - TOLERANCE))
                for at in better[np.argsort(costs[better, i], kind="stable")].tolist():
                    if costs[at, i] >= best_usd[i] * (1 - TOLERANCE):
                        break
                    fresh = self._exists(counts[at], useful, below)
                    if not fresh:
                        break
                    best, best_usd = self._best_known(wanted)
                if not fresh:
                    break
            if not fresh:
                continue  # the pool has another price: search again
            if budget >= min(most, float(best_usd.max())):
                return best
            budget = max(1.06 * budget, 1e-3 * most)

    def _exists(self, counts: Floats, useful: Ints, below: float) -> bool:
        """Put counts to the test: a mix that is known from now on, or another price."""
        everything = np.zeros(len(self.kinds.latency))
        everything[useful] = counts
        found = self._fastest(everything, below)
        if isinstance(found, _Mixed):
            self.known.append(found)
            return True
        self.pool.prices.append(found)
        return False

    def _fastest(self, counts: Floats, below: float) -> _Mixed | Floats:
        """Return the counts as a mix that is as fast as they can be, or a price that they fail."""
        busy = np.flatnonzero(counts)
        latency, work = self.kinds.latency[busy], self.kinds.work[busy]

        def within(limit: float) -> tuple[Floats | None, Floats | None]:
            return split(np.where(latency <= limit, work, inf), counts[busy])

        levels = np.unique(latency[latency < below])
        shares, price = within(levels[-1])
        if shares is None:
            assert price is not None
            return price
        low, high = 0, len(levels) - 1
        while low < high:
            middle = (low + high) // 2
            faster, _ = within(levels[middle])
            if faster is None:
                low = middle + 1
            else:
                high, shares = middle, faster
        every = np.zeros((len(counts), shares.shape[1]))
        every[busy] = shares
        return _Mixed(counts, float(levels[high]), every)

    def _best_known(self, wanted: _Wanted) -> tuple[list[_Mixed | None], Floats]:
        """Return the cheapest known mix of each place that is of use, and its dollars.

        Where none is, the dollars are those that a mix has to be below.
        """
        places, enough = wanted.places, wanted.enough
        fast = [
            mixed
            for mixed in self.known
            if mixed.latency_ms < wanted.below and mixed.n_kinds <= wanted.room.max_kinds
        ]
        if not fast:
            return [None for _ in places], enough
        usd = self.usd[places] @ np.array([mixed.counts for mixed in fast]).T
        # Of equals the fastest.
        latency = np.array([mixed.latency_ms for mixed in fast])
        least = usd.min(axis=1)
        equal = usd <= least[:, None] * (1 + TOLERANCE)
        chosen = np.where(equal, latency, inf).argmin(axis=1)
        least = usd[np.arange(len(places)), chosen]
        of_use = least < enough
        best = [fast[i] if ok else None for i, ok in zip(chosen.tolist(), of_use, strict=True)]
        return best, np.where(of_use, least, enough)

    def _alone(self) -> list[_Mixed]:
        """Return the mixes of equal servers that answer everything."""
        n = np.ceil(self.kinds.work.sum(axis=1) - TOLERANCE).clip(min=1.0)
        counts = np.diag(n)
        every = np.ones(self.kinds.work.shape[1])
        return [
            _Mixed(counts[i], float(self.kinds.latency[i].max()), (counts[i] > 0)[:, None] * every)
            for i in np.flatnonzero(self.kinds.room.holds(counts)).tolist()
        ]

    def _solved(self, wanted: _Wanted) -> list[_Mixed | None]:
        """Ask the solver, for all places at once, then for halves of those that this leaves open.

        What is cheapest with the least dollars of each server costs no more than any place's own
        optimum: a place is settled where what is known costs at most the gap more, or where what
        is enough costs no more.
        """
        usd, unproven = wanted.usd, self.solver.unproven
        best, best_usd = self._best_known(wanted)
        least = self._solve(wanted, usd.min(axis=0), float(best_usd.max()))
        if least is None:
            return best
        best, best_usd = self._best_known(wanted)
        if len(usd) == 1:
            return best
        proven = least * (1 - self.solver.gap) if self.solver.unproven == unproven else 0.0
        gaps = np.array([self.gap if mixed else 0.0 for mixed in best])
        left = np.flatnonzero(best_usd > proven * (1 + gaps))
        # Places that see more equal dollars leave less between them and what is proven.
        by_dollars = usd[left][:, int(np.argmax(np.ptp(usd[left], axis=0)))] if len(left) else left
        order = left[np.argsort(by_dollars, kind="stable")]
        for some in np.array_split(order, 2):
            if len(some):
                found = self._solved(wanted.of(some))
                best = [*best]
                for i, mixed in zip(some.tolist(), found, strict=True):
                    best[i] = mixed
        return best

    def _solve(self, wanted: _Wanted, usd: Floats, most_usd: float) -> float | None:
        """Solve for one place; its mix is known from now on. Return its dollars.

        None if there is none, or none that costs less than `most_usd` where that is asked for.
        """
        import pulp

        kinds, useful, below, room = self.kinds, wanted.useful, wanted.below, wanted.room
        program = pulp.LpProblem("mix", pulp.LpMinimize)
        servers = [kinds.options[kinds.by_kind[kinds.starts[j]]] for j in useful.tolist()]
        admitted = kinds.latency[useful] < below
        n, f = add_mix(program, "", servers, kinds.rates, lambda i, b: int(admitted[i, b]))
        dollars = pulp.lpSum(float(cost) * n[i] for i, cost in enumerate(usd))
        program.setObjective(dollars)
        work = np.where(admitted, kinds.work[useful], inf)
        if np.isfinite(most_usd) and bound(usd, work, room.n_servers)[0] < WEAK_BOUND * most_usd:
            program += dollars <= most_usd * (1 - TOLERANCE), "cheaper"
        add_caps(program, [(server, n[i]) for i, server in enumerate(servers)], kinds.caps)
        if np.isfinite(room.max_kinds):
            add_max_kinds(program, n, kinds.caps, int(room.max_kinds))
        if self.solver.run(program) == INFEASIBLE:
            return None
        counts, shares = read_mix(n, f, len(kinds.rates))
        every = np.zeros(len(kinds.latency))
        rows = np.zeros(kinds.latency.shape)
        for i, count in counts.items():
            every[useful[i]], rows[useful[i]] = count, shares[i]
        used = rows > 0
        every[~used.any(axis=1)] = 0.0
        self.known.append(_Mixed(every, float(kinds.latency[used].max()), rows))
        return float(every[useful] @ usd)

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

    def _step(self, place: int, usd: float, mixed: _Mixed) -> Step:
        """Return a mix as it stands for one place."""
        kinds = np.flatnonzero(mixed.counts)
        shares = self._shares(mixed, kinds)
        servers = self.standing[place, kinds]
        ordered = np.argsort(servers)
        served: Mix = as_served(
            [
                (
                    self.kinds.options[servers[i]],
                    round(mixed.counts[kinds[i]]),
                    tuple(shares[i].tolist()),
                )
                for i in ordered.tolist()
            ],
            self.kinds.rates,
        )
        return Step(usd, served.latency_ms, served)
