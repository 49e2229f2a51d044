r"""Egress between two roles as a flow: one variable per place.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stratos.plan.egress import Egress, Place

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
        paid = pulp.lpSum(far[place[0]] * amount for place, amount in leaves.items())
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
