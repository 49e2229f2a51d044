"""The servers that may be rented, as arrays: the catalog without what is dominated in its place.

Estimates depend on an offer only through its hardware: of a server with GPUs these alone, of one
without its vCPUs and memory, of which more are never worse. So within one place, an offer is
dominated by another one of the same GPUs, or without GPUs and with no less of either, that costs no
more and counts in the same quotas: whatever a role does on the first it does on the second as fast
and as cheaply, in the same place, with as many servers. Spot and on-demand prices are two servers,
since a job takes longer on spot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stratos.catalog import Catalog, Table, rows_of
from stratos.catalog.table import LOCAL
from stratos.catalog.words import Bools, Floats, Ints, combine
from stratos.config import CloudConfig
from stratos.plan.quotas import Caps
from stratos.records import Offer


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
    place: Ints
    group: Ints
    """Number of the set of quotas that it counts in."""
    caps: Caps
    offer: Callable[[int], Offer]

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self.row)

    @cached_property
    def kinds(self) -> tuple[Offer, ...]:
        """One offer of every kind, by its number: what an estimate needs."""
        _, first = np.unique(self.kind, return_index=True)
        return tuple(self.offer(row) for row in self.row[first].tolist())


def open_market(catalog: Catalog, cloud: CloudConfig, spot: bool) -> Market:
    """Return the servers that `cloud` allows.

    Args:
        catalog: the offers.
        cloud: quotas, most servers and most dollars an hour.
        spot: whether spot prices are among them.
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
    left = np.flatnonzero(most > 0)
    rows, price, is_spot, most = rows[left], price[left], is_spot[left], most[left]
    keep = _undominated(table, rows, price, is_spot, group[rows])
    rows = rows[keep]
    few = np.unique(rows[table.max_count[rows] < cloud.max_nodes])
    stock = {catalog.offer(row): int(table.max_count[row]) for row in few.tolist()}
    return Market(
        row=rows,
        spot=is_spot[keep],
        usd_per_hour=price[keep],
        most=most[keep],
        kind=np.unique(_hardware(table)[rows], return_inverse=True)[1].astype(np.int64),
        place=table.place[rows],
        group=group[rows],
        caps=replace(caps, stock=stock),
        offer=catalog.offer,
    )


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


def _hardware(table: Table) -> Ints:
    """Return the number of what an estimate reads of each row."""
    here = table.cloud.where(lambda name: name == LOCAL).astype(np.int64)
    with_gpu = table.accelerator_count > 0
    read = combine(
        np.where(with_gpu, table.accelerator.codes + 1, 0),
        np.where(with_gpu, table.accelerator_count, table.kind),
        here,
    )
    return np.unique(read, return_inverse=True)[1].astype(np.int64)


def _undominated(
    table: Table,
    rows: Ints,
    price: Floats,
    spot: Bools,
    group: Ints,
) -> Ints:
    """Return which servers no other of their place dominates, sorted by place, then name."""
    names = table.instance_type.codes[rows]
    without_gpu = table.accelerator_count[rows] == 0
    vcpus, memory = table.vcpus[rows] * without_gpu, table.memory_gib[rows] * without_gpu
    gpus = table.accelerator.codes[rows]
    count = table.accelerator_count[rows]
    alike = combine(table.place[rows], gpus, count, spot.astype(np.int64), group)
    order = np.lexsort((names, -memory, -vcpus, price, alike))
    found: list[int] = []
    before = -1
    more_vcpus: list[float] = []
    more_memory: list[float] = []
    for i, one, cpus, gib in zip(
        order.tolist(),
        alike[order].tolist(),
        (-vcpus[order]).tolist(),
        (-memory[order]).tolist(),
        strict=True,
    ):
        # A staircase of negated vCPUs and memory: what is there is no dearer.
        if one != before:
            before, more_vcpus, more_memory = one, [], []
        at = bisect_left(more_vcpus, cpus)
        if at < len(more_vcpus) and more_vcpus[at] == cpus and more_memory[at] <= gib:
            continue
        if at and more_memory[at - 1] <= gib:
            continue
        end = at
        while end < len(more_memory) and more_memory[end] >= gib:
            end += 1
        more_vcpus[at:end] = [cpus]
        more_memory[at:end] = [gib]
        found.append(i)
    keep = np.array(found, dtype=np.int64)
    return keep[np.lexsort((spot[keep], names[keep], table.place[rows][keep]))]
