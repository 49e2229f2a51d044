"""The staircases of mixes that keep up with a rate: the least dollars at every latency.

One work is served for a training that may stand in many places, which differ in what the egress to
each server costs. Servers that answer alike are one kind, of which each place takes the cheapest,
so that most places see the same dollars; the others are searched together: what is cheapest from
any of them costs, with the least dollars of each kind, no more than the dearest of their optima.

A staircase goes down from the slowest latency: the cheapest mix below it, then the cheapest that is
faster than this one, and so on. A few servers are counted by `cover`, which is exact; many are left
to the solver, with `gap` as the share of dollars by which a place may take the mix of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from stratos.plan.cover import TOLERANCE, Pool, TooMany, bound, irreplaceable, search, split
from stratos.plan.kinds import Kinds
from stratos.plan.mix import add_caps, add_mix, as_served, read_mix
from stratos.plan.option import Mix, Option
from stratos.plan.quotas import Caps
from stratos.plan.serving import Step
from stratos.plan.solver import INFEASIBLE, Solver

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_COUNTED = 16.0
"""Servers that a mix needs at least, beyond which the solver is asked at once."""


def staircases(
    options: Sequence[Option],
    egress_usd: Floats,
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
    gap: float = 0.0,
) -> list[list[Step]]:
    """Return the staircase of each place of training, from the cheapest mix to the fastest.

    Args:
        options: single servers.
        egress_usd: what each of them costs beside its own dollars, by (place, server).
        rates: requests per second by bucket.
        caps: quotas, most servers and most dollars an hour.
        solver: what solves a step that has too many counts to try.
        gap: share of dollars by which such a step may be dearer than the optimum.
    """
    if not options or not len(egress_usd):
        return [[] for _ in egress_usd]
    kinds = Kinds(options, rates, caps)
    usd, standing = kinds.seen_with(egress_usd)
    seen, which = np.unique(np.hstack([usd, standing]), axis=0, return_inverse=True)
    n = usd.shape[1]
    search = _Search(kinds, seen[:, :n], seen[:, n:].astype(np.int64), solver, gap)
    found = search.run()
    return [found[i] for i in which.reshape(-1).tolist()]


def mix_steps(
    options: Sequence[Option],
    egress_usd: Sequence[float],
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
) -> list[Step]:
    """Return the staircase of one place, to which each server's egress is the one given."""
    return staircases(options, np.array([egress_usd], dtype=float), rates, caps, solver)[0]


@dataclass
class _Mixed:
    """A mix that exists: how many servers of each kind, and how fast it is at best."""

    counts: Floats
    latency_ms: float
    shares: Floats


class _Search:
    """Goes down the staircases of all places together."""

    def __init__(
        self, kinds: Kinds, usd: Floats, standing: Ints, solver: Solver, gap: float
    ) -> None:
        self.kinds = kinds
        self.usd = usd
        self.standing = standing
        self.solver = solver
        self.gap = gap
        self.pool = Pool([row for row in np.eye(len(kinds.rates))])
        self.known = self._alone()

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
            found = self.cheapest(latency, places, slower)
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
        return [[self._step(p, *step) for step in found] for p, found in enumerate(steps)]

    def cheapest(self, below: float, places: Ints, least_usd: float) -> list[_Mixed | None]:
        """Return the cheapest mix that is faster than `below` for each place, None if none is."""
        kinds = self.kinds
        admitted = kinds.latency < below
        if not admitted.any(axis=0).all():
            return [None for _ in places]
        rate = np.where(admitted, 1.0 / kinds.work, 0.0)
        useful = np.flatnonzero(admitted.any(axis=1))
        usd = self.usd[np.ix_(places, useful)]
        useful = useful[irreplaceable(usd, rate[useful], kinds.room.of(useful))]
        usd, rate = self.usd[np.ix_(places, useful)], rate[useful]
        with np.errstate(divide="ignore"):
            work = 1.0 / rate
        n_least = bound(np.ones(len(useful)), work, kinds.room.n_servers)[0]
        if n_least > kinds.room.n_servers + TOLERANCE:
            return [None for _ in places]
        try:
            if n_least > MAX_COUNTED:
                raise TooMany
            return self._counted(below, places, useful, usd, rate, least_usd)
        except TooMany:
            apart = float(np.ptp(usd, axis=0).max())
            if n_least > MAX_COUNTED or apart <= TOLERANCE * float(usd.max()):
                return self._solved(below, places, useful, usd)
        # Places that see more equal dollars leave fewer counts to try.
        by_dollars = usd[:, int(np.argmax(np.ptp(usd, axis=0)))]
        near = by_dollars <= (by_dollars.min() + by_dollars.max()) / 2
        found = dict(
            zip(places[near].tolist(), self.cheapest(below, places[near], 0.0), strict=True)
        )
        found |= zip(places[~near].tolist(), self.cheapest(below, places[~near], 0.0), strict=True)
        return [found[p] for p in places.tolist()]

    def _counted(
        self,
        below: float,
        places: Ints,
        useful: Ints,
        usd: Floats,
        rate: Floats,
        least_usd: float,
    ) -> list[_Mixed | None]:
        """Count the servers: with ever more dollars until every place has its optimum."""
        kinds, least = self.kinds, usd.min(axis=0)
        room = kinds.room.of(useful)
        with np.errstate(divide="ignore"):
            work = 1.0 / rate
        most = room.n_servers * float(usd.max(initial=0.0)) + 1.0
        budget = max(1.06 * bound(least, work, room.n_servers)[0], 1.02 * least_usd)
        while True:
            best, best_usd = self._best_known(below, places)
            budget = min(budget, most, float(best_usd.max()))
            counts = search(least, rate, room, self.pool, budget)
            # Those that no place would prefer to what is known need no look.
            costs = counts @ usd.T
            fresh = True
            for i in range(len(places)):
                better = np.flatnonzero(costs[:, i] < best_usd[i] * (1 - TOLERANCE))
                for at in better[np.argsort(costs[better, i], kind="stable")].tolist():
                    if costs[at, i] >= best_usd[i] * (1 - TOLERANCE):
                        break
                    fresh = self._exists(counts[at], useful, below)
                    if not fresh:
                        break
                    best, best_usd = self._best_known(below, places)
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

    def _best_known(self, below: float, places: Ints) -> tuple[list[_Mixed | None], Floats]:
        """Return the cheapest known mix of each place that is fast enough, and its dollars."""
        fast = [mixed for mixed in self.known if mixed.latency_ms < below]
        if not fast:
            return [None for _ in places], np.full(len(places), inf)
        usd = self.usd[places] @ np.array([mixed.counts for mixed in fast]).T
        # Of equals the fastest.
        latency = np.array([mixed.latency_ms for mixed in fast])
        least = usd.min(axis=1)
        equal = usd <= least[:, None] * (1 + TOLERANCE)
        chosen = np.where(equal, latency, inf).argmin(axis=1)
        return [fast[i] for i in chosen.tolist()], usd[np.arange(len(places)), chosen]

    def _alone(self) -> list[_Mixed]:
        """Return the mixes of equal servers that answer everything."""
        n = np.ceil(self.kinds.work.sum(axis=1) - TOLERANCE).clip(min=1.0)
        counts = np.diag(n)
        every = np.ones(self.kinds.work.shape[1])
        return [
            _Mixed(counts[i], float(self.kinds.latency[i].max()), (counts[i] > 0)[:, None] * every)
            for i in np.flatnonzero(self.kinds.room.holds(counts)).tolist()
        ]

    def _solved(self, below: float, places: Ints, useful: Ints, usd: Floats) -> list[_Mixed | None]:
        """Ask the solver, once for all places where this leaves none with more than the gap."""
        proven = 0.0
        if len(places) > 1:
            unproven = self.solver.unproven
            least = self._solve(below, useful, usd.min(axis=0))
            if least is None:
                return [None for _ in places]
            if self.solver.unproven == unproven:
                proven = least * (1 - self.solver.gap)
        found: list[_Mixed | None] = []
        for i in range(len(places)):
            best, best_usd = self._best_known(below, places[i : i + 1])
            if best_usd[0] > proven * (1 + self.gap):
                self._solve(below, useful, usd[i])
                best, _ = self._best_known(below, places[i : i + 1])
            found += best
        return found

    def _solve(self, below: float, useful: Ints, usd: Floats) -> float | None:
        """Solve for one place; its mix is known from now on. Return its dollars, None if none."""
        import pulp

        kinds = self.kinds
        program = pulp.LpProblem("mix", pulp.LpMinimize)
        servers = [kinds.options[kinds.by_kind[kinds.starts[j]]] for j in useful.tolist()]
        admitted = kinds.latency[useful] < below
        n, f = add_mix(program, "", servers, kinds.rates, lambda i, b: int(admitted[i, b]))
        program.setObjective(pulp.lpSum(float(cost) * n[i] for i, cost in enumerate(usd)))
        add_caps(program, [(server, n[i]) for i, server in enumerate(servers)], kinds.caps)
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

    def _step(self, place: int, usd: float, mixed: _Mixed) -> Step:
        """Return a mix as it stands for one place."""
        kinds = np.flatnonzero(mixed.counts)
        servers = self.standing[place, kinds]
        ordered = np.argsort(servers)
        served: Mix = as_served(
            [
                (
                    self.kinds.options[servers[i]],
                    round(mixed.counts[kinds[i]]),
                    tuple(mixed.shares[kinds[i]].tolist()),
                )
                for i in ordered.tolist()
            ]
        )
        return Step(usd, served.latency_ms, served)
