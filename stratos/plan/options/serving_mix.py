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
finitely many, and going down through them gives the exact staircase of (latency, dollars). `cover`
counts the servers of a step, `stairs` goes down for all places of training together, and `mix` has
the program in PuLP, for steps of many servers.

ms_jb is that of a server that answers the buckets as the whole traffic has them. Where a mix gives
the long ones to some of its servers, their queue is longer: a mix that is found has its latency
from what comes to each of its servers (`routed_p95_ms`), and is left out where that makes it slower
than a cheaper one. It meets `limits.latency_ms` by this latency; among mixes that split buckets a
cheaper one that would meet it, too, may be missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.plan.option import Caps, Option, Served
from stratos.plan.pareto import kept

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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


def _ranks(names: Sequence[str]) -> Any:
    """Return the place of each name in their order."""
    return np.unique(np.array(names), return_inverse=True)[1] if names else np.array([])
