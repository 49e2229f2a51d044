"""A mix of servers in PuLP: its variables and constraints, and how a solution of it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from stratos.core.errors import StratosError
from stratos.estimate.serving import routed_p95_ms
from stratos.plan.option import Mix, Option
from stratos.plan.quotas import Caps, Quota

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
    return replace(
        option,
        count=n,
        usd=n * option.usd,
        latencies_ms=latencies,
        latency_ms=max(ms for ms, share in zip(latencies, shares, strict=True) if share > 0),
        usd_range=None,
    )
