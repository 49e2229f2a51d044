"""Egress between two tasks as a flow: what is done at p and goes on at q pays the way once.

For every pair of places a flow u_pq says how much goes from p to q. With each side choosing exactly
one place, the flow is forced to 1 on the pair that was chosen, and its relaxation is the convex
hull of these choices (a transport polytope), so a solver needs no branching for it. A product of
two choices, linearised pair by pair of options, needs as many binaries as there are pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Places = Mapping[Any, Sequence[Any]]
"""Place to the variables that say what is done there."""


def add_flow(
    program: Any,
    names: tuple[str, str, str],
    sides: Mapping[str, Places],
    hubs: Places,
    most: int,
    order: Sequence[str],
    usd: Callable[[str, Any, Any], float],
) -> Any:
    """Add the flows between the works of one side and the hubs; return their dollars.

    Args:
        program: the PuLP problem.
        names: of the variables, of the constraints of a side, and of those of the hubs.
        sides: for each work, its places.
        hubs: the places on the other side, of all works together.
        most: the most that flows at a hub that is chosen.
        order: all works; their numbers are in the names.
        usd: dollars of one unit of flow, of (work, place, hub).
    """
    import pulp

    costs = {
        (w, p, q): usd(w, p, q)
        for w, places in sides.items()
        for p in places
        for q in hubs
        if p is not None
    }
    if not any(costs.values()):
        return pulp.LpAffineExpression()
    variable, side, hub = names
    flow = {}
    hub_number = {q: j for j, q in enumerate(hubs)}
    for w, places in sides.items():
        number = order.index(w)
        for i, (p, chosen) in enumerate(places.items()):
            if p is None or not any(costs[w, p, q] for q in hubs):
                continue
            for q, j in hub_number.items():
                flow[w, p, q] = program.add_variable(f"{variable}_{number}_{i}_{j}", lowBound=0)
            out = pulp.lpSum(flow[w, p, q] for q in hubs)
            program += out == pulp.lpSum(chosen), f"{side}_{number}_{i}"
    for q, j in hub_number.items():
        through = pulp.lpSum(var for (_, _, other), var in flow.items() if other == q)
        program += through <= most * pulp.lpSum(hubs[q]), f"{hub}_{j}"
    return pulp.lpSum(costs[key] * var for key, var in flow.items())
