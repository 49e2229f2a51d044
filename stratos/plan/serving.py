r"""How a student is served best: one server, or the cheapest mix for a rate of requests.

Without a rate, requests come one at a time and one server answers them all. With a rate, servers of
several offers may be mixed, and each bucket of requests (those of one size) is split among them:

Sets
    J        servers: an offer at a setting (its batch); B buckets
Parameters
    λ_b      requests per second of bucket b
    μ_jb     what one server j answers of bucket b alone, at a utilisation that is safe
    ms_jb    p95 latency of bucket b on server j
    usd_j    dollars of one server for the horizon, with its egress from the place of the training
    L        latency that the mix has to keep
Variables
    n_j ∈ ℕ           servers of j
    f_jb ∈ [0, 1]     share of bucket b that they answer, 0 where ms_jb > L
Objective
    minimise Σ usd_j n_j
Constraints
    split_b           Σ_j f_jb = 1
    load_j            Σ_b λ_b / μ_jb f_jb ≤ n_j
    nodes             Σ_j n_j ≤ most servers of one role
    at_least          Σ usd_j n_j ≥ dollars of the step before, which may be slower
    quota_q           Σ_{j in q} n_j ≤ its limit
    usd_per_hour      Σ_j price_j n_j ≤ its limit

A mix is as slow as the slowest pair of server and bucket that it uses, so its latency is one of
finitely many, and going down through them gives the exact staircase of (latency, dollars). Most
steps need no solver: with n continuous each bucket goes to the server that is cheapest for it, so
Σ_b λ_b min_j usd_j/μ_jb is a lower bound, and a mix has two servers at least, so that it costs no
less than twice the cheapest one that is any use. Equal servers that cost no more than either bound
are the optimum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.errors import StratosError
from stratos.plan.option import Mix, Option, Served
from stratos.plan.pareto import kept
from stratos.plan.quotas import Caps, Quota
from stratos.plan.solver import INFEASIBLE, Solver

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UTILISATION = 0.7
"""Share of a server's capacity that is planned with. A queue in front of a server that is busy to
the share ρ grows like ρ / (1 - ρ) (Pollaczek and Khinchine): it doubles from 0.7 to 0.82 and has
no end at 1. At 0.7 the wait is of the order of two answers for a server that takes them one by one
and a small part of an answer for one that batches, whose slots are many."""

EPSILON = 1e-9
"""Relative difference below which costs and loads are equal."""


@dataclass(frozen=True)
class Step:
    """One step of the staircase: the least dollars at a latency, and what serves."""

    usd: float
    """With egress."""
    latency_ms: float
    served: Served


def single_steps(options: Sequence[Option], egress_usd: Sequence[float]) -> list[Step]:
    """Return the staircase of one server that answers one request at a time."""
    usd = np.array([o.usd for o in options]) + np.array(egress_usd)
    latency = np.array([o.latency_ms for o in options])
    zeros = np.zeros(len(options))
    names = _ranks([o.sort_name for o in options])
    found = kept(usd, latency, zeros, zeros.astype(np.int64), names)
    return [Step(float(usd[i]), options[i].latency_ms, options[i]) for i in found]


def mix_steps(
    options: Sequence[Option],
    egress_usd: Sequence[float],
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
) -> list[Step]:
    """Return the staircase of mixes that keep up with the rates, from the cheapest to the fastest.

    Args:
        options: single servers.
        egress_usd: what each of them costs beside its own dollars.
        rates: requests per second by bucket.
        caps: quotas, most servers and most dollars an hour.
        solver: what solves a step that the bounds leave open.
    """
    servers = _Servers(options, egress_usd, rates, caps)
    steps: list[Step] = []
    below = inf
    while True:
        found = servers.cheapest(below, steps[-1].usd if steps else 0.0, solver)
        if found is None:
            return steps
        step = found
        # A faster mix for the same dollars takes the place of the one before it.
        while steps and step.usd <= steps[-1].usd * (1 + EPSILON):
            steps.pop()
        steps.append(step)
        below = step.latency_ms


def useful(
    usd: Floats,
    price: Floats,
    latency: Floats,
    work: Floats,
    group: Ints,
    most: Ints,
    place: Ints,
    caps: Caps,
    slack: float,
) -> list[int]:
    """Return the servers that may be part of a best mix, in the order given.

    Server a dominates b if it answers no bucket slower and each at no lower rate, is no dearer an
    hour, counts in the same quotas, and costs no more dollars, or less by `slack` if it stands in
    another place: each b of a mix can be an a. Whatever costs more than equal servers that are as
    fast as its fastest bucket is of no use either: a mix with it is dearer and no faster.

    Args:
        usd: dollars of one server for the horizon.
        price: dollars an hour of one.
        latency: p95 by (server, bucket).
        work: servers that a whole bucket keeps busy, by (server, bucket).
        group: number of the set of quotas that a server counts in.
        most: servers of its kind that may run at once.
        place: number of the place.
        caps: most servers and most dollars an hour.
        slack: most dollars that the egress of one server can differ by between two places.
    """
    alone = alone_usd(usd + slack, price, work, most, caps)
    fastest, slowest = latency.min(axis=1), latency.max(axis=1)
    # The least dollars of equal servers that are as fast as x, as a falling staircase.
    by_speed = np.argsort(slowest, kind="stable")
    lowest = np.minimum.accumulate(alone[by_speed])
    at = np.searchsorted(slowest[by_speed], fastest, side="right")
    bound = np.where(at > 0, lowest[at - 1], inf)
    candidates = np.flatnonzero(usd <= bound * (1 + EPSILON))
    rows = np.column_stack([price, latency, work])
    order = candidates[np.lexsort((*rows[candidates].T[::-1], usd[candidates]))]
    found: list[int] = []
    for g in np.unique(group[order]).tolist():
        found += _front(order[group[order] == g], usd, rows, place, slack)
    return sorted(found)


def _front(order: Ints, usd: Floats, rows: Floats, place: Ints, slack: float) -> list[int]:
    """Return which of servers sorted by dollars no other one dominates."""
    kept_rows = np.empty((len(order), rows.shape[1]))
    kept_at = np.empty(len(order), dtype=np.int64)
    n = 0
    for i in order.tolist():
        at = kept_at[:n]
        near = (place[at] == place[i]) | (usd[at] + slack <= usd[i])
        if n and (near & (kept_rows[:n] <= rows[i]).all(axis=1)).any():
            continue
        kept_rows[n], kept_at[n] = rows[i], i
        n += 1
    return kept_at[:n].tolist()


def alone_usd(usd: Floats, price: Floats, work: Floats, most: Ints, caps: Caps) -> Floats:
    """Return the dollars of as many equal servers as all buckets need, inf if not allowed."""
    n = np.ceil(work.sum(axis=1) - EPSILON).clip(min=1)
    allowed = n <= most
    if caps.max_usd_per_hour is not None:
        allowed &= n * price <= caps.max_usd_per_hour * (1 + EPSILON)
    return np.where(allowed, n * usd, inf)


class _Servers:
    """The servers of one work as arrays, seen from one place of training."""

    def __init__(
        self,
        options: Sequence[Option],
        egress_usd: Sequence[float],
        rates: Sequence[float],
        caps: Caps,
    ) -> None:
        order = sorted(range(len(options)), key=lambda i: options[i].sort_name)
        self.options = [options[i] for i in order]
        self.usd = np.array([options[i].usd + egress_usd[i] for i in order])
        self.price = np.array([o.usd_per_hour for o in self.options])
        self.latency = np.array([o.latencies_ms for o in self.options])
        self.work = np.array(rates) / np.array([o.requests_per_s for o in self.options])
        """Servers of one kind that a whole bucket keeps busy."""
        self.most = np.array([caps.count(o.offer) for o in self.options if o.offer])
        self.rates = rates
        self.caps = caps
        groups = [caps.binding(o.offer) for o in self.options if o.offer]
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        keep = useful(
            self.usd, self.price, self.latency, self.work,
            np.array([numbers[group] for group in groups]), self.most,
            np.zeros(len(order), dtype=np.int64), caps, 0.0,
        )  # fmt: skip
        self.options = [self.options[i] for i in keep]
        self.usd, self.price, self.most = self.usd[keep], self.price[keep], self.most[keep]
        self.latency, self.work = self.latency[keep], self.work[keep]

    def _alone_usd(self) -> Floats:
        return alone_usd(self.usd, self.price, self.work, self.most, self.caps)

    def cheapest(self, below: float, least_usd: float, solver: Solver) -> Step | None:
        """Return the cheapest mix that is faster than `below`, None if there is none.

        Args:
            below: latency.
            least_usd: a bound from below, such as the dollars of a slower one.
            solver: what solves it, where the bounds do not settle it.
        """
        admitted = self.latency < below
        if not admitted.any(axis=0).all():
            return None
        useful = admitted.any(axis=1)
        per_request = np.where(admitted, self.usd[:, None] * self.work, inf)
        bound = max(least_usd, float(per_request.min(axis=0).sum()))
        alone = np.where(admitted.all(axis=1), self._alone_usd(), inf)
        # Of equals the fastest, then the first by name.
        best = int(np.lexsort((self.latency.max(axis=1), alone))[0])
        if alone[best] < inf:
            n = max(1, ceil(self.work[best].sum() - EPSILON))
            if n == 1:
                bound = max(bound, 2 * float(self.usd[useful].min()))
            if alone[best] <= bound * (1 + EPSILON):
                return self._step({best: n}, {best: (1.0,) * len(self.rates)})
        # What one server must cost beyond all that it can be worth (its reduced cost): a mix with
        # it costs at least that much more than the bound with n continuous.
        least = per_request.min(axis=0)
        worth = np.where(admitted, least / self.work, 0.0).max(axis=1)
        most_usd = min(float(alone[best]), self._rounded_usd(per_request))
        useful &= least.sum() + self.usd - worth <= most_usd * (1 + EPSILON)
        return self._solved(admitted, useful, solver, least_usd)

    def _rounded_usd(self, per_request: Floats) -> float:
        """Return the dollars of a mix: each bucket on the server that is cheapest for it.

        Counts are rounded up; inf where caps might not allow it.
        """
        cheapest = per_request.argmin(axis=0)
        load = np.zeros(len(self.usd))
        np.add.at(load, cheapest, self.work[cheapest, np.arange(len(cheapest))])
        n = np.ceil(load - EPSILON)
        price, limit = float((n * self.price).sum()), self.caps.max_usd_per_hour
        if self.caps.quotas or (n > self.most).any() or n.sum() > self.caps.max_nodes:
            return inf
        return inf if limit is not None and price > limit else float((n * self.usd).sum())

    def _solved(self, admitted: Any, useful: Any, solver: Solver, least_usd: float) -> Step | None:
        import pulp

        program = pulp.LpProblem("mix", pulp.LpMinimize)
        chosen = np.flatnonzero(useful).tolist()
        n, f = add_mix(
            program,
            "",
            [self.options[j] for j in chosen],
            self.rates,
            lambda i, b: 1 if admitted[chosen[i], b] else 0,
        )
        usd = pulp.lpSum(float(self.usd[j]) * n[i] for i, j in enumerate(chosen))
        program.setObjective(usd)
        if least_usd:
            program += usd >= least_usd * (1 - EPSILON), "at_least"
        add_caps(program, [(self.options[j], n[i]) for i, j in enumerate(chosen)], self.caps)
        if solver.run(program) == INFEASIBLE:
            return None
        counts, shares = read_mix(n, f, len(self.rates))
        return self._step(
            {chosen[i]: count for i, count in counts.items()},
            {chosen[i]: row for i, row in shares.items()},
        )

    def _step(self, counts: dict[int, int], shares: dict[int, tuple[float, ...]]) -> Step:
        served = as_served([(self.options[j], counts[j], shares[j]) for j in sorted(counts)])
        usd = sum(counts[j] * float(self.usd[j]) for j in sorted(counts) if any(shares[j]))
        return Step(usd, served.latency_ms, served)


def add_mix(
    program: Any,
    key: str,
    options: Sequence[Option],
    rates: Sequence[float],
    admitted: Callable[[int, int], Any],
    chosen: Any = 1,
) -> tuple[dict[int, Any], dict[tuple[int, int], Any]]:
    """Add the variables n and f of a mix, and its constraints `split` and `load`.

    Args:
        program: the PuLP problem.
        key: what names of variables and constraints end with.
        options: single servers.
        rates: requests per second by bucket.
        admitted: upper bound of f for (server, bucket), as a number or an expression; where it is
            0 there is no variable.
        chosen: 1 if this work is done, as a number or an expression.
    """
    import pulp

    n = {
        i: program.add_variable(f"n{key}_{i}", lowBound=0, cat=pulp.LpInteger)
        for i in range(len(options))
    }
    f = {}
    for i, option in enumerate(options):
        for b in range(len(rates)):
            most = admitted(i, b)
            if isinstance(most, int) and not most:
                continue
            f[i, b] = program.add_variable(f"f{key}_{i}_{b}", lowBound=0)
            if not isinstance(most, int):
                program += f[i, b] <= most, f"admitted{key}_{i}_{b}"
        load = pulp.lpSum(
            rate / option.requests_per_s[b] * f[i, b] for b, rate in enumerate(rates) if (i, b) in f
        )
        program += load <= n[i], f"load{key}_{i}"
    for b in range(len(rates)):
        split = pulp.lpSum(f[i, b] for i in n if (i, b) in f)
        program += split == chosen, f"split{key}_{b}"
    return n, f


def add_caps(program: Any, servers: Sequence[tuple[Option, Any]], caps: Caps) -> None:
    """Add the constraints `nodes`, `quota` and `usd_per_hour` over (server, its count)."""
    import pulp

    program += pulp.lpSum(n for _, n in servers) <= caps.max_nodes, "nodes"
    counted: dict[Quota, list[Any]] = defaultdict(list)
    for option, n in servers:
        for quota in caps.binding(option.offer) if option.offer else ():
            counted[quota].append(n)
    for i, quota in enumerate(sorted(counted, key=lambda quota: quota.pattern)):
        program += pulp.lpSum(counted[quota]) <= quota.limit, f"quota_{i}"
    if caps.max_usd_per_hour is not None:
        price = pulp.lpSum(o.usd_per_hour * n for o, n in servers)
        program += price <= caps.max_usd_per_hour, "usd_per_hour"


def read_mix(
    n: dict[int, Any], f: dict[tuple[int, int], Any], n_buckets: int
) -> tuple[dict[int, int], dict[int, tuple[float, ...]]]:
    """Return counts and shares of a solved mix; a share that is only rounding is none."""
    counts = {i: round(var.varValue) for i, var in n.items() if var.varValue > 0.5}
    shares = {
        i: [f[i, b].varValue if (i, b) in f else 0.0 for b in range(n_buckets)] for i in counts
    }
    for b in range(n_buckets):
        # Shares of servers that the solver rounded away belong to the others.
        column = {i: row[b] if row[b] > 1e-6 else 0.0 for i, row in shares.items()}
        total = sum(column.values())
        for i, share in column.items():
            shares[i][b] = share / total
    return counts, {i: tuple(row) for i, row in shares.items()}


def as_served(parts: Sequence[tuple[Option, int, tuple[float, ...]]]) -> Mix:
    """Return (server, count, shares) as what the plan keeps; idle servers are none."""
    busy = [(o, n, row) for o, n, row in parts if any(row)]
    if not busy:
        raise StratosError("The solver returned a mix without servers.")
    return Mix(
        parts=tuple(
            replace(
                option,
                count=n,
                usd=n * option.usd,
                latency_ms=max(
                    ms for ms, share in zip(option.latencies_ms, row, strict=True) if share > 0
                ),
                usd_range=None,
            )
            for option, n, row in busy
        ),
        shares=tuple(row for _, _, row in busy),
    )


def _ranks(names: Sequence[str]) -> Any:
    """Return the place of each name in their order."""
    return np.unique(np.array(names), return_inverse=True)[1] if names else np.array([])
