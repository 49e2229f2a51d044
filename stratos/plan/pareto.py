"""Exact Pareto dominance pruning before the solver.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.plan.option import Egress, Option, Place

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FIRST_BLOCK, LAST_BLOCK = 32, 256
"""Points that `Staircase.add_all` takes at once: few at first, while nothing covers them."""


class Staircase:
    """The lower-left staircase of the points seen so far: x rises, y falls."""

    def __init__(self) -> None:
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

    def add_all(self, x: Floats, y: Floats) -> Bools:
        """Add points in their order; return what `add` says of each.

        What the steps before a block of points cover is found for the whole block at once. Only the
        rest, which is little of a large set, is added point by point.
        """
        added = np.zeros(len(x), dtype=bool)
        start, size = 0, FIRST_BLOCK
        while start < len(x):
            end = start + size
            block_x, block_y = x[start:end], y[start:end]
            step = np.searchsorted(self.x, block_x, side="right") - 1
            covered = (step >= 0) & (np.array([*self.y, np.inf])[step] <= block_y)
            for i in np.flatnonzero(~covered).tolist():
                added[start + i] = self.add(float(block_x[i]), float(block_y[i]))
            start, size = end, min(2 * size, LAST_BLOCK)
        return added


def ranks(names: Sequence[str]) -> Ints:
    """Return the place of each name in their order; equal names share one."""
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def pareto_front(
    usd: Floats, x: Floats, y: Floats, places: NDArray[np.int64], names: Any, slack: float = 0.0
) -> list[int]:
    """Return which points are dominated by no other, in the order of (usd, x, y, name).

    Args:
        usd: dollars, to which `slack` applies.
        x: a second cost, such as hours.
        y: a third, such as latency.
        places: number of the place that a point belongs to.
        names: what breaks ties, one sortable value for each point; None leaves the order given.
        slack: by how much a point in another place must be cheaper.
    """
    keys = (y, x, usd) if names is None else (np.asarray(names), y, x, usd)
    order = np.lexsort(keys)
    if not slack:
        return order[Staircase().add_all(x[order], y[order])].tolist()
    rows = list(
        zip(
            order.tolist(),
            usd[order].tolist(),
            x[order].tolist(),
            y[order].tolist(),
            places[order].tolist(),
            strict=True,
        )
    )
    near: dict[int, Staircase] = defaultdict(Staircase)
    far = Staircase()
    behind = 0
    front = []
    for i, (at, cost, first, second, where) in enumerate(rows):
        # All that is cheaper by the slack counts wherever it stands, all that is cheaper here.
        while behind < i and rows[behind][1] + slack <= cost:
            far.add(rows[behind][2], rows[behind][3])
            behind += 1
        if near[where].add(first, second) and not far.covers(first, second):
            front.append(at)
    return front


def prune(options: Iterable[Option], slack: float = 0.0) -> tuple[Option, ...]:
    """Drop every option that another of the same work dominates, by the rule of this module."""
    ordered = sorted(options, key=lambda o: (o.usd, o.hours, o.latency_ms, o.sort_name))
    if not ordered:
        return ()
    places: dict[Any, int] = {}
    numbers = np.array([places.setdefault(o.location, len(places)) for o in ordered])
    usd, hours, latency = np.array([(o.usd, o.hours, o.latency_ms) for o in ordered]).T
    return tuple(ordered[i] for i in pareto_front(usd, hours, latency, numbers, None, slack))


@dataclass(frozen=True, eq=False)
class Slack:
    """Most dollars by which another place can be the dearer one to move data to and from.

    Let an option at q take the place of one at p, in another cloud. What comes in from t was priced
    t to p and is now t to q. Where t is in the cloud of p, that is more by the price of this cloud
    to the internet at most; else the price to p was that of t's cloud to the internet, and the one
    to q is more only where t and q are of one cloud that asks more between its own regions. What
    goes out to t was priced p to t and is now q to t: that is more by the highest price of q's
    cloud at most. If p and q are of one cloud, only t = p makes a difference: that of their price.
    """

    cloud: Ints
    """By place: number of its cloud."""
    same: Floats
    """By place: dollars of a GB to other places of its cloud."""
    away: Floats
    """By place: the same, to anywhere at most."""
    inverted: float = 0.0
    """Dollars of a GB that a cloud asks between its places beyond those to the internet, at most:
    0 for every price list that we know."""
    gb_in: float = 0.0
    """GB that come in."""
    gb_out: float = 0.0
    """GB that go out."""

    @classmethod
    def of(cls, places: Sequence[Place], egress: Egress) -> Slack:
        """Return the slack of a work that moves nothing yet: see `moving`."""
        numbers = {cloud: i for i, cloud in enumerate(dict.fromkeys(cloud for cloud, _ in places))}
        cloud = np.array([numbers[cloud] for cloud, _ in places], dtype=np.int64)
        prices = np.array([egress.of(cloud) for cloud in numbers]).reshape(-1, 2)
        inverted = float((prices[:, 0] - prices[:, 1]).max(initial=0.0))
        return cls(cloud, prices[cloud, 0], prices[cloud].max(axis=1), inverted)

    def moving(self, gb_in: float = 0.0, gb_out: float = 0.0) -> Slack:
        """Return the slack of a work that so many GB move into and out of."""
        return replace(self, gb_in=gb_in, gb_out=gb_out)

    @cached_property
    def near(self) -> Floats:
        """By place: dollars by which another place of its cloud can be the dearer one."""
        return (self.gb_in + self.gb_out) * self.same

    @cached_property
    def inward(self) -> Floats:
        """By place that is given up: dollars by which what comes in can be dearer elsewhere."""
        return self.gb_in * np.maximum(self.away, self.inverted)

    @cached_property
    def outward(self) -> Floats:
        """By place that is taken: dollars by which what goes out can be dearer from here."""
        return self.gb_out * self.away

    @cached_property
    def most(self) -> float:
        """The most of all pairs of places."""
        return float(self.inward.max(initial=0.0) + self.outward.max(initial=0.0))


def undominated(usd: Floats, x: Floats, places: Ints, slack: Slack) -> Ints:
    """Return which points the rule of this module leaves, where dollars and x are all that counts.

    Of points that are equal in both, all stay: names are for the caller to compare. Everything is a
    sort and a running minimum, for a place, its cloud and all clouds in turn.

    Args:
        usd: dollars.
        x: hours, or latency.
        places: number of the place that a point belongs to.
        slack: what moves, by place.
    """
    rank = _dense_ranks(usd, x)
    remaining = np.flatnonzero(rank[_first_as_fast(rank, x, places)] == rank)
    for level in ("cloud", "anywhere"):
        there = places[remaining]
        shifted, lowered = usd[remaining], usd[remaining] - slack.near[there]
        group = slack.cloud[there]
        if level == "anywhere":
            shifted, lowered = (
                usd[remaining] + slack.outward[there],
                usd[remaining] - slack.inward[there],
            )
            group = np.zeros_like(group)
        first = _first_as_fast(_dense_ranks(shifted, x[remaining]), x[remaining], group)
        beaten = (shifted[first] <= lowered) & (rank[remaining][first] < rank[remaining])
        remaining = remaining[~beaten]
    return remaining


def _dense_ranks(first: Floats, second: Floats) -> Ints:
    """Return the place of each pair in their order; equal pairs share one."""
    order = np.lexsort((second, first))
    new = np.ones(len(order), dtype=np.int64)
    new[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(new)
    return ranks


def _first_as_fast(rank: Ints, x: Floats, group: Ints) -> Ints:
    """Return for each point the first by rank of its group that has no greater x."""
    order = np.lexsort((rank, x, group))
    # A later group is lower as a whole, so that the running minimum begins anew with each.
    room = len(order) + 1
    keys = (rank[order] - group[order] * room) * room + np.arange(len(order))
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.minimum.accumulate(keys) % room] if len(order) else order
    return first


def lowest_as_fast(usd: Floats, x: Floats) -> Floats:
    """Return for each point the least dollars of those that have no greater x."""
    order = np.lexsort((usd, x))
    lowest = np.empty(len(order))
    lowest[order] = np.minimum.accumulate(usd[order])
    return lowest
