"""Exact dominance pruning: what is nowhere better than something else never reaches the solver.

Two options of one work differ for the rest of a plan in nothing but their dollars, hours, latency
and place. Every limit and every objective is non-decreasing in the first three. The place matters
through egress alone, and no choice of the other roles makes the egress of two places differ by more
than `slack`. So if a costs no more hours and latency than b, and either stands in the same place
and costs no more dollars, or costs less than b's dollars by `slack` or more, then putting a in the
place of b keeps every plan feasible and makes it no worse: b may be dropped. Of equals the first by
name stays, which is the one that the tie-break would take.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.plan.option import Option

Floats = NDArray[np.float64]


class Staircase:
    """The lower-left staircase of the points seen so far: x rises, y falls."""

    def __init__(self) -> None:
        """Begin without points."""
        self.x: list[float] = []
        self.y: list[float] = []

    def covers(self, x: float, y: float) -> bool:
        """Return whether a point that was seen is nowhere worse."""
        at = bisect_left(self.x, x)
        if at < len(self.x) and self.x[at] == x and self.y[at] <= y:
            return True
        return at > 0 and self.y[at - 1] <= y

    def add(self, x: float, y: float) -> bool:
        """Add a point; return False if one that is seen already is nowhere worse."""
        at = bisect_left(self.x, x)
        if at < len(self.x) and self.x[at] == x and self.y[at] <= y:
            return False
        if at and self.y[at - 1] <= y:
            return False
        end = at
        while end < len(self.x) and self.y[end] >= y:
            end += 1
        self.x[at:end] = [x]
        self.y[at:end] = [y]
        return True


def kept(
    usd: Floats, x: Floats, y: Floats, place: NDArray[np.int64], names: Any, slack: float = 0.0
) -> list[int]:
    """Return which points are dominated by no other, in the order of (usd, x, y, name).

    Args:
        usd: dollars, to which `slack` applies.
        x: a second cost, such as hours.
        y: a third, such as latency.
        place: number of the place that a point belongs to.
        names: what breaks ties, one sortable value for each point; None leaves the order given.
        slack: by how much a point in another place must be cheaper.
    """
    keys = (y, x, usd) if names is None else (np.asarray(names), y, x, usd)
    order = np.lexsort(keys)
    if not slack:
        place = np.zeros_like(place)
    rows = list(
        zip(
            order.tolist(),
            usd[order].tolist(),
            x[order].tolist(),
            y[order].tolist(),
            place[order].tolist(),
            strict=True,
        )
    )
    near: dict[int, Staircase] = defaultdict(Staircase)
    far = Staircase()
    behind = 0
    found = []
    for i, (at, cost, first, second, where) in enumerate(rows):
        # All that is cheaper by the slack counts wherever it stands, all that is cheaper here.
        while slack and behind < i and rows[behind][1] + slack <= cost:
            far.add(rows[behind][2], rows[behind][3])
            behind += 1
        if near[where].add(first, second) and not (slack and far.covers(first, second)):
            found.append(at)
    return found


def unbeaten(bounds: Floats, exist: Floats, slack: float) -> list[int]:
    """Return the lower bounds that no point that exists dominates.

    Args:
        bounds: rows of (usd, x, y, place).
        exist: rows of the same.
        slack: by how much a point in another place must be cheaper.
    """
    rows = [(*row, 0, i) for i, row in enumerate(exist.tolist())]
    rows += [(*row, 1, i) for i, row in enumerate(bounds.tolist())]
    rows.sort(key=lambda row: (row[0], row[4]))
    near: dict[float, Staircase] = defaultdict(Staircase)
    far = Staircase()
    behind = 0
    found = []
    for at, (usd, x, y, place, is_bound, i) in enumerate(rows):
        while behind < at and rows[behind][0] + slack <= usd:
            if not rows[behind][4]:
                far.add(rows[behind][1], rows[behind][2])
            behind += 1
        if not is_bound:
            near[place].add(x, y)
        elif not (near[place].covers(x, y) or far.covers(x, y)):
            found.append(i)
    return found


def prune(options: Iterable[Option], slack: float = 0.0) -> tuple[Option, ...]:
    """Drop every option that another of the same work dominates, by the rule of this module."""
    ordered = sorted(options, key=lambda o: (o.usd, o.hours, o.latency_ms, o.sort_name))
    if not ordered:
        return ()
    places: dict[Any, int] = {}
    numbers = np.array([places.setdefault(o.place, len(places)) for o in ordered])
    usd, hours, latency = np.array([(o.usd, o.hours, o.latency_ms) for o in ordered]).T
    return tuple(ordered[i] for i in kept(usd, hours, latency, numbers, None, slack))


def cheap_enough(usd: Floats, x: Floats, slack: float) -> NDArray[np.bool_]:
    """Return which points are dearer by at most `slack` than the cheapest with as small an x.

    It drops no more than the rule of this module allows, in one sort of large arrays.
    """
    order = np.lexsort((usd, x))
    lowest = np.minimum.accumulate(usd[order])
    # Points of one x see each other, whatever their order.
    last = np.searchsorted(x[order], x[order], side="right") - 1
    mask = np.empty(len(usd), dtype=bool)
    mask[order] = usd[order] <= lowest[last] + slack
    return mask
