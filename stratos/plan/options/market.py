r"""The rentable servers as arrays, without dominated ones.

Estimates depend on an offer only through its hardware: of a server with GPUs these alone, of one
without its vCPUs and memory, of which more are never worse. So within one place, an offer is
dominated by another one of the same GPUs, or without GPUs and with no less of either, that costs no
more and counts in the same quotas: whatever a role does on the first it does on the second as fast
and as cheaply, in the same place, with as many servers. Spot and on-demand prices are two servers,
since a job takes longer on spot.

Expected hours and dollars on spot, with interruptions.

Interruptions of one server are a Poisson process of rate μ; a job on n servers is interrupted when
any of them is, so at rate nμ. Work is saved every τ hours; an interruption loses what was done
since, and s hours pass until a new server has started and read the checkpoint, which may be
interrupted in turn. The expected time of a job of W hours is then (Daly 2006, "A higher order
estimate of the optimum checkpoint interval", equation 20, with the writing of a checkpoint in W)

    E[T] = W/τ · e^{nμs} · (e^{nμτ} - 1) / (nμ)

and dollars are E[T] times the spot price: the restart is paid, waiting for capacity is not. The
expected number of interruptions is nμ·E[T].

Groups of equal servers (same kind, quotas, spot), sorted by price.

Of so many servers of a shelf, each takes a job as long as the other, so that their dollars are in
the order of their prices, whatever the job is. A million servers stand on a few thousand shelves:
an estimate is made for the shelves, their cheapest servers say what can be had for how much, and
each is looked at only down to the price that may still be of use.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, expm1

import numpy as np

from stratos.catalog import Catalog, Table, rows_of
from stratos.catalog.table import Bools, Codes, Floats, Ints, combine, estimate_kinds
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError
from stratos.estimate.fleet import Fleet
from stratos.plan.option import Caps, counts
from stratos.plan.pareto import Staircase
from stratos.records import Offer

INTERRUPTIONS_PER_HOUR = 0.1
"""μ of one server: the lowest hourly rate of preemption that Bamboo replays from recorded GPU
clusters (Thorpe et al., NSDI 2023: 10%, 16% and 33%). Assumption: clouds publish no such rate."""

CHECKPOINT_HOURS = 0.25
"""τ: a quarter of an hour of training between checkpoints; answers of a teacher are kept one by
one, so that for them it is an upper bound."""

RESTART_HOURS = 10 / 60
"""s: order, boot, packages and checkpoint of the next server."""


def spot_factor(n_servers: int = 1) -> float:
    """Return expected hours on spot over hours on demand, for a job on `n_servers`."""
    rate = INTERRUPTIONS_PER_HOUR * n_servers
    saved = rate * CHECKPOINT_HOURS
    return exp(rate * RESTART_HOURS) * expm1(saved) / saved


@dataclass(frozen=True)
class Market:
    """Servers as arrays of equal length, sorted by place, then name."""

    row: Ints
    """Row of the catalog."""
    spot: Bools
    usd_per_hour: Floats
    most: Ints
    """Servers of this offer that a role may have at once, by quotas and dollars an hour."""
    kind: Ints
    """Number of the hardware, from 0 on: all that an estimate depends on."""
    region: Ints
    group: Ints
    """Number of the set of quotas that it counts in."""
    caps: Caps
    offer: Callable[[int], Offer]
    wait_hours: Floats
    """Until a job of it would start; NaN where that is not known, and of what waits for nothing."""

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def kinds(self) -> tuple[Offer, ...]:
        """One offer of every kind, by its number: what an estimate needs."""
        _, first = np.unique(self.kind, return_index=True)
        return tuple(self.offer(row) for row in self.row[first].tolist())


def open_market(catalog: Catalog, cloud: CloudConfig, spot: bool) -> Market:
    """Return the servers that `cloud` allows.

    Raises:
        CatalogError: it allows none.
    """
    table = catalog.table
    caps = Caps.of(cloud.quotas, cloud.max_nodes, cloud.max_usd_per_hour)
    group, most = _quotas_of(table, caps)
    n = len(table.usd_per_hour)
    rows = np.arange(n)
    price, is_spot = table.usd_per_hour, np.zeros(n, dtype=bool)
    if spot:
        priced = np.flatnonzero(~np.isnan(table.usd_per_hour_spot))
        rows = np.concatenate([rows, priced])
        price = np.concatenate([price, table.usd_per_hour_spot[priced]])
        is_spot = np.concatenate([is_spot, np.ones(len(priced), dtype=bool)])
    most = most[rows]
    if cloud.max_usd_per_hour is not None:
        # Up to rounding: a server of exactly the cap is allowed.
        bound = cloud.max_usd_per_hour * (1 + 1e-12)
        with np.errstate(divide="ignore"):
            affordable = np.where(price > 0, np.floor(bound / price), caps.max_nodes)
        most = np.minimum(most, affordable.astype(np.int64))
    some = np.flatnonzero(most > 0)
    if not len(some):
        raise CatalogError(
            f"None of the {n} allowed servers can be had: {', '.join(cloud.quotas)}. Allow more "
            "with cloud.providers=[…] or cloud.regions=[…]."
        )
    rows, price, is_spot, most = rows[some], price[some], is_spot[some], most[some]
    wait_hours = _waits_of(catalog)[rows]
    # A server that is waited for longer is no worse otherwise, and no better either.
    alike = combine(group[rows], ranks(wait_hours)) if catalog.wait_hours else group[rows]
    keep = _undominated(table, rows, price, is_spot, alike)
    rows = rows[keep]
    few = np.unique(rows[table.max_count[rows] < cloud.max_nodes])
    stock = {catalog.offer(row): int(table.max_count[row]) for row in few.tolist()}
    return Market(
        row=rows,
        spot=is_spot[keep],
        usd_per_hour=price[keep],
        most=most[keep],
        kind=np.unique(estimate_kinds(table)[rows], return_inverse=True)[1].astype(np.int64),
        region=table.location[rows],
        group=group[rows],
        caps=replace(caps, stock=stock),
        offer=catalog.offer,
        wait_hours=wait_hours[keep],
    )


def _waits_of(catalog: Catalog) -> Floats:
    """Return for every row the hours until a job of it would start; NaN where they are unknown."""
    table, known = catalog.table, catalog.wait_hours
    waits = np.full(len(table), np.nan)
    clouds = {cloud for cloud, _, _ in known}
    for row in np.flatnonzero(table.cloud.where(clouds.__contains__)).tolist() if known else []:
        offer = catalog.offer(row)
        waits[row] = known.get((offer.cloud, offer.region, offer.instance_type), np.nan)
    return waits


def ranks(wait_hours: Floats) -> Ints:
    """Return numbers that are equal where waits are, unknown ones among them."""
    filled = np.nan_to_num(wait_hours, nan=-1.0)
    return np.unique(filled, return_inverse=True)[1].astype(np.int64)


def _quotas_of(table: Table, caps: Caps) -> tuple[Ints, Ints]:
    """Return for every row the number of its set of quotas, and the servers that they allow.

    Rows of which there are a few only are a set each, whatever their names: an instance type may be
    there so often at one price, and so often more at another.
    """
    n = len(table)
    most = np.minimum(table.max_count, caps.max_nodes)
    few = np.flatnonzero(most < caps.max_nodes)
    if not caps.quotas and not caps.own and not len(few):
        return np.zeros(n, dtype=np.int64), most
    limits = [(quota.pattern, quota.limit) for quota in caps.quotas]
    limits += [("/".join(name), limit) for name, limit in caps.own.items()]
    member = np.full((n, len(limits) + 1), -1, dtype=np.int64)
    for j, (pattern, limit) in enumerate(limits):
        mask = rows_of(table, pattern)
        member[mask, j] = j
        most[mask] = np.minimum(most[mask], limit)
    member[few, -1] = few
    return np.unique(member, axis=0, return_inverse=True)[1].reshape(-1), most


def _undominated(table: Table, rows: Ints, price: Floats, spot: Bools, group: Ints) -> Ints:
    """Return which servers no other of their place dominates, sorted by place, then name."""
    names = table.instance_type.codes[rows]
    count = table.accelerator_count[rows]
    region = table.location[rows]
    alike = combine(region, table.accelerator.codes[rows], count, spot.astype(np.int64), group)
    with_gpu, without = np.flatnonzero(count > 0), np.flatnonzero(count == 0)
    order = with_gpu[np.lexsort((names[with_gpu], price[with_gpu], alike[with_gpu]))]
    cheapest = order[np.diff(alike[order], prepend=-1) != 0]
    vcpus, memory = -table.vcpus[rows[without]], -table.memory_gib[rows[without]]
    largest = _staircases(alike[without], price[without], vcpus, memory, names[without])
    keep = np.concatenate([cheapest, without[largest]])
    return keep[np.lexsort((spot[keep], names[keep], region[keep]))]


def _staircases(alike: Ints, price: Floats, vcpus: Floats, memory: Floats, names: Codes) -> Ints:
    """Return which rows no other one that is alike is as good as in all three figures.

    From the cheapest on, the best of the other two figures are a staircase: `vcpus` rises, `memory`
    falls. A row that is not below the staircase is dominated by one that is no dearer.
    """
    order = np.lexsort((names, memory, vcpus, price, alike))
    front: list[int] = []
    before = -1
    stairs = Staircase()
    columns = (column[order].tolist() for column in (alike, vcpus, memory))
    for i, number, cpus, gib in zip(order.tolist(), *columns, strict=True):
        if number != before:
            before, stairs = number, Staircase()
        if stairs.add(cpus, gib):
            front.append(i)
    return np.array(front, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class OfferGroups:
    """The servers of a market, sorted once for all jobs."""

    market: Market
    fleet: Fleet
    """A server of each kind."""
    kind: Ints
    """By shelf."""
    spot: Bools
    group: Ints
    """Number of the set of quotas."""
    most: Ints
    """Servers that a role may have at once."""
    usd_per_hour: Floats
    """Price of the cheapest."""
    wait_hours: Floats
    """Until a job of any of its servers would start; NaN as in `Market`."""
    servers: Ints
    """Of the market: shelf by shelf, each from the cheapest on."""
    keys: Ints
    """Shelf and price of each of these as one number, which ascends."""
    prices: Floats
    """All prices, ascending."""

    @classmethod
    def of(cls, market: Market, fleet: Fleet) -> OfferGroups:
        """Put the servers of a market on shelves."""
        alike = combine(
            market.kind,
            market.spot.astype(np.int64),
            market.group,
            market.most,
            ranks(market.wait_hours),
        )
        shelf = np.unique(alike, return_inverse=True)[1].astype(np.int64)
        prices, rank = np.unique(market.usd_per_hour, return_inverse=True)
        keys = shelf * len(prices) + rank
        servers = np.argsort(keys, kind="stable")
        cheapest = servers[np.flatnonzero(np.diff(shelf[servers], prepend=-1))]
        return cls(
            market=market,
            fleet=fleet,
            kind=market.kind[cheapest],
            spot=market.spot[cheapest],
            group=market.group[cheapest],
            most=market.most[cheapest],
            usd_per_hour=market.usd_per_hour[cheapest],
            wait_hours=market.wait_hours[cheapest],
            servers=servers,
            keys=keys[servers],
            prices=prices,
        )

    @cached_property
    def lots(self) -> Lots:
        """Every shelf with every number of servers that a role may have of it."""
        return self._lots({n for most in np.unique(self.most).tolist() for n in counts(most)})

    def lots_of(self, count: int | None) -> Lots:
        """Return every shelf with so many servers of it; None for any number."""
        return self.lots if count is None else self._lots({count})

    def _lots(self, allowed: Set[int]) -> Lots:
        numbers = sorted(allowed)
        shelf, count = np.nonzero(self.most[:, None] >= np.array(numbers, dtype=np.int64))
        count = np.array(numbers, dtype=np.int64)[count]
        alike = combine(self.kind[shelf], count)
        _, first, pair = np.unique(alike, return_index=True, return_inverse=True)
        factors = {n: spot_factor(n) for n in numbers}
        return Lots(
            shelf=shelf,
            count=count,
            spot_factor=np.where(self.spot[shelf], [factors[n] for n in count.tolist()], 1.0),
            usd_per_hour=count * self.usd_per_hour[shelf],
            pair=pair,
            pair_fleet=self.fleet.take(self.kind[shelf[first]]),
            pair_count=count[first],
        )

    def up_to(self, shelf: Ints, usd_per_hour: Floats) -> tuple[Ints, Ints]:
        """Return the servers of some shelves that cost no more than a price each.

        Args:
            shelf: the shelves; one may be there many times.
            usd_per_hour: the price, for each of them.

        Returns:
            For every server found: where in `shelf` it was asked for, and its number.
        """
        cheap = np.searchsorted(self.prices, usd_per_hour, side="right")
        start = np.searchsorted(self.keys, shelf * len(self.prices))
        stop = np.searchsorted(self.keys, shelf * len(self.prices) + cheap)
        n = stop - start
        at = np.repeat(np.arange(len(shelf)), n)
        within = np.arange(len(at)) - np.repeat(np.cumsum(n) - n, n)
        return at, self.servers[start[at] + within]


@dataclass(frozen=True, eq=False)
class Lots:
    """So many servers of a shelf together, by number of the lot."""

    shelf: Ints
    count: Ints
    spot_factor: Floats
    """Hours over those on demand."""
    usd_per_hour: Floats
    """Of all its servers, for the cheapest of the shelf."""
    pair: Ints
    """Number of its kind and count: all that an estimate depends on."""
    pair_fleet: Fleet
    """By pair: one of the servers."""
    pair_count: Ints
