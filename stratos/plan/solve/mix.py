r"""Serving options: one server, or the cheapest mix for a request rate.

Without a rate, requests come one at a time and one server answers them all. With a rate, servers of
several offers may be mixed, and each bucket of requests (those of one size) is split among them:

Sets
    J        servers: an offer at a setting (engine, answers at once, utilisation); B buckets
Parameters
    λ_b      requests per second of bucket b
    μ_jb     what one server j answers of bucket b alone, at its utilisation
    ms_jb    p95 latency of bucket b on server j at that utilisation, the wait for others included
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
    quota_q           Σ_{j in q} n_j ≤ its limit
    usd_per_hour      Σ_j price_j n_j ≤ its limit

A mix is as slow as the slowest pair of server and bucket that it uses, so its latency is one of
finitely many, and going down through them gives the exact staircase of (latency, dollars).
`mix_frontier` goes down for all places of training together: `pairs` counts mixes of two kinds of
servers, and `add_mix` has the program in PuLP, for mixes of more.

ms_jb is that of a server that answers the buckets as the whole traffic has them. Where a mix gives
the long ones to some of its servers, their queue is longer: a mix that is found has its latency
from what comes to each of its servers (`routed_p95_ms`), and is left out where that makes it slower
than a cheaper one. It meets `limits.latency_ms` by this latency; among mixes that split buckets a
cheaper one that would meet it, too, may be missed.

Egress between two roles as a flow: one variable per place.

A GB costs nothing within its place, the near price of its cloud between places of that cloud and
its far price, which is no less, to all others. So a plan pays the far price of where the GB come
from for all that moves, and gets back, for what stays in its cloud, far less near, and for what
stays in its place, near. For each work w of one side, with o_p of it done at place p and i_q of
what it is linked to at place q:

    t_q ≥ 0                      what goes through q            Σ_q t_q = Σ_p o_p,  t_q ≤ most · i_q
    h_p ≥ 0                      what stays in place p          h_p ≤ o_p,  h_p ≤ t_p
    c_k ≥ 0                      what stays in cloud k          c_k ≤ Σ_{p in k} o_p, Σ_{q in k} t_q

Dollars are minimised or bounded from above, so that h and c are as large as they may be. They say
the same as a flow u_pq for each pair of places, and no less where choices are relaxed to shares: a
flow that stays in its place where it can, then in its cloud, reaches all of these bounds at once.
But there are as many of them as places, and not as pairs of places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from stratos.catalog.table import Floats, Ints
from stratos.core.errors import StratosError
from stratos.estimate.serving import routed_p95_ms
from stratos.plan.option import Caps, Egress, Mix, Option, Place, Quota, Served
from stratos.plan.pareto import pareto_front

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
    steps = pareto_front(usd, latency, zeros, zeros.astype(np.int64), names)
    return [Step(float(usd[i]), options[i].latency_ms, options[i]) for i in steps]


def useful(
    usd: Floats,
    price: Floats,
    latency: Floats,
    work: Floats,
    group: Ints,
    most: Ints,
    places: Ints,
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
        places: number of the place.
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
    front: list[int] = []
    for g in np.unique(group[order]).tolist():
        front += _front(order[group[order] == g], usd, rows, places, slack)
    return sorted(front)


def _front(order: Ints, usd: Floats, rows: Floats, places: Ints, slack: float) -> list[int]:
    """Return which of servers sorted by dollars no other one dominates."""
    front_rows = np.empty((len(order), rows.shape[1]))
    front_at = np.empty(len(order), dtype=np.int64)
    n = 0
    for i in order.tolist():
        at = front_at[:n]
        near = (places[at] == places[i]) | (usd[at] + slack <= usd[i])
        if n and (near & (front_rows[:n] <= rows[i]).all(axis=1)).any():
            continue
        front_rows[n], front_at[n] = rows[i], i
        n += 1
    return front_at[:n].tolist()


def alone_usd(usd: Floats, price: Floats, work: Floats, most: Ints, caps: Caps) -> Floats:
    """Return the dollars of as many equal servers as all buckets need, inf if not allowed."""
    n = np.ceil(work.sum(axis=1) - EPSILON).clip(min=1)
    allowed = n <= most
    if caps.max_usd_per_hour is not None:
        allowed &= n * price <= caps.max_usd_per_hour * (1 + EPSILON)
    return np.where(allowed, n * usd, inf)


def _ranks(names: Sequence[str]) -> Any:
    """Return the place of each name in their order."""
    return np.unique(np.array(names), return_inverse=True)[1] if names else np.array([])


# Parts of a program in PuLP: a mix of servers with its caps, and egress as a flow.


# A mix of servers in PuLP: its variables and constraints, and how a solution of it is read.


_ALIKE = 1e-9
"""Difference of shares below which a server answers the buckets as the whole traffic has them."""


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


def add_max_kinds(program: Any, n: dict[int, Any], caps: Caps, max_kinds: int) -> None:
    """Add the constraints `used` and `kinds`: servers of at most so many kinds."""
    import pulp

    z = {i: program.add_variable(f"z_{i}", cat=pulp.LpBinary) for i in n}
    for i, var in n.items():
        program += var <= caps.max_nodes * z[i], f"used_{i}"
    program += pulp.lpSum(z.values()) <= max_kinds, "kinds"


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


def as_served(
    parts: Sequence[tuple[Option, int, tuple[float, ...]]], rates: Sequence[float]
) -> Mix:
    """Return a mix as what the plan keeps, each server with the queue of what comes to it.

    Args:
        parts: server, count, and share of each bucket; idle servers are none.
        rates: requests per second by bucket.
    """
    busy = [(o, n, row) for o, n, row in parts if any(row)]
    if not busy:
        raise StratosError("The solver returned a mix without servers.")
    return Mix(
        parts=tuple(_of_mix(option, n, row, rates) for option, n, row in busy),
        shares=tuple(row for _, _, row in busy),
    )


def _of_mix(option: Option, n: int, shares: tuple[float, ...], rates: Sequence[float]) -> Option:
    """Return n equal servers that answer such shares of the buckets."""
    latencies = option.latencies_ms
    if option.run is not None and max(shares) - min(shares) > _ALIKE:
        routed = [share * rate for share, rate in zip(shares, rates, strict=True)]
        latencies = routed_p95_ms(latencies, option.requests_per_s, rates, routed, option.run)
    filled = sum(
        share * rate / answered
        for share, rate, answered in zip(shares, rates, option.requests_per_s, strict=True)
    )
    return replace(
        option,
        count=n,
        usd=n * option.usd,
        latencies_ms=latencies,
        latency_ms=max(ms for ms, share in zip(latencies, shares, strict=True) if share > 0),
        usd_range=None,
    ).loaded(filled)


Places = Mapping[Any, Sequence[Any]]
"""Place to the variables that say what is done there; None is a place from where all is free."""


@dataclass(frozen=True)
class Link:
    """What one kind of egress is called in a program, and whose price it has."""

    variable: str
    side: str
    """Constraints of the works of a side."""
    hub: str
    """Constraints of what they are linked to."""
    leaves_side: bool
    """Whether the GB leave the side; else they leave the hub."""


def add_egress(
    program: Any,
    link: Link,
    sides: Mapping[str, Places],
    hubs: Places,
    most: int,
    order: Sequence[str],
    gb: Mapping[str, float],
    egress: Egress,
) -> Any:
    """Add what moves between the works of one side and the hubs; return its dollars.

    Args:
        program: the PuLP problem.
        link: names, and whose price it is.
        sides: for each work, its places.
        hubs: the places on the other side, of all works together.
        most: the most that goes through a hub that is chosen.
        order: all works; their numbers are in the names.
        gb: what one unit of a work moves.
        egress: the prices.
    """
    import pulp

    usd = pulp.LpAffineExpression()
    through: list[list[Any]] = [[] for _ in hubs]
    for work, places in sides.items():
        done = {p: pulp.lpSum(chosen) for p, chosen in places.items() if p is not None}
        if not any(any(egress.of(cloud)) for cloud, _ in (done if link.leaves_side else hubs)):
            continue
        number = order.index(work)
        t = {
            q: program.add_variable(f"{link.variable}_{number}_{j}", lowBound=0)
            for j, q in enumerate(hubs)
        }
        program += pulp.lpSum(t.values()) == pulp.lpSum(done.values()), f"{link.side}_{number}"
        for of_hub, var in zip(through, t.values(), strict=True):
            of_hub.append(var)
        far = {cloud: egress.of(cloud)[1] for cloud, _ in (*done, *t)}
        leaves = done if link.leaves_side else t
        paid = pulp.lpSum(far[region[0]] * amount for region, amount in leaves.items())
        usd += gb[work] * (paid - _saved(program, link, number, done, t, egress))
    for j, (of_hub, chosen) in enumerate(zip(through, hubs.values(), strict=True)):
        if of_hub:
            program += pulp.lpSum(of_hub) <= most * pulp.lpSum(chosen), f"{link.hub}_{j}"
    return usd


def _saved(
    program: Any,
    link: Link,
    number: int,
    done: Mapping[Place, Any],
    through: Mapping[Place, Any],
    egress: Egress,
) -> Any:
    """Add h and c of one work; return the dollars a GB that staying in place or cloud saves."""
    import pulp

    saved = pulp.LpAffineExpression()
    for i, p in enumerate(done):
        near, _ = egress.of(p[0])
        if near and p in through:
            h = program.add_variable(f"{link.variable}h_{number}_{i}", lowBound=0)
            program += h <= done[p], f"{link.side}_stays_{number}_{i}"
            program += h <= through[p], f"{link.hub}_stays_{number}_{i}"
            saved += near * h
    clouds = dict.fromkeys(cloud for cloud, _ in done)
    for k, cloud in enumerate(clouds):
        near, far = egress.of(cloud)
        assert near <= far, f"{cloud} asks more between its own places than to the internet"
        there = [var for q, var in through.items() if q[0] == cloud]
        if near < far and there:
            c = program.add_variable(f"{link.variable}c_{number}_{k}", lowBound=0)
            here = pulp.lpSum(amount for p, amount in done.items() if p[0] == cloud)
            program += c <= here, f"{link.side}_near_{number}_{k}"
            program += c <= pulp.lpSum(there), f"{link.hub}_near_{number}_{k}"
            saved += (far - near) * c
    return saved
