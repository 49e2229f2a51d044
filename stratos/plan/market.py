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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stratos.catalog import Catalog, Table, rows_of
from stratos.catalog.table import LOCAL
from stratos.catalog.words import combine
from stratos.config import CloudConfig
from stratos.plan.quotas import Caps, Name
from stratos.records import Offer


@dataclass(frozen=True)
class Market:
    """Servers as arrays of equal length, sorted by place, then name."""

    row: NDArray[np.int64]
    """Row of the catalog."""
    spot: NDArray[np.bool_]
    usd_per_hour: NDArray[np.float64]
    most: NDArray[np.int64]
    """Servers of this offer that a role may have at once, by quotas and dollars an hour."""
    kind: NDArray[np.int64]
    """Number of the hardware, from 0 on: all that an estimate depends on."""
    place: NDArray[np.int64]
    group: NDArray[np.int64]
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
    caps = _caps(table, cloud)
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
    return Market(
        row=rows,
        spot=is_spot[keep],
        usd_per_hour=price[keep],
        most=most[keep],
        kind=np.unique(_hardware(table)[rows], return_inverse=True)[1].astype(np.int64),
        place=table.place[rows],
        group=group[rows],
        caps=caps,
        offer=catalog.offer,
    )


def _caps(table: Table, cloud: CloudConfig) -> Caps:
    """Return the caps of the config, with those of offers that exist a few times only."""
    own = {
        _name(table, row): int(table.max_count[row])
        for row in np.flatnonzero(table.max_count < cloud.max_nodes).tolist()
    }
    return Caps.of(cloud.quotas, cloud.max_nodes, cloud.max_usd_per_hour, own)


def _name(table: Table, row: int) -> Name:
    return table.cloud[row], table.region[row], table.instance_type[row]


def _rows_named(table: Table, names: Mapping[Name, int]) -> list[int]:
    """Return the rows of some offers; those of one name are one offer in several sizes."""
    types = {name[2] for name in names}
    mask = table.instance_type.where(lambda name: name in types)
    return [row for row in np.flatnonzero(mask).tolist() if _name(table, row) in names]


def _quotas_of(table: Table, caps: Caps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for every row the number of its set of quotas, and the servers that they allow."""
    n = len(table.usd_per_hour)
    most = np.full(n, caps.max_nodes, dtype=np.int64)
    if not caps.quotas and not caps.own:
        return np.zeros(n, dtype=np.int64), most
    member = np.full((n, len(caps.quotas) + 1), -1, dtype=np.int64)
    for j, quota in enumerate(caps.quotas):
        mask = rows_of(table, quota.pattern)
        member[mask, j] = j
        most[mask] = np.minimum(most[mask], quota.limit)
    for row in _rows_named(table, caps.own) if caps.own else ():
        member[row, -1] = row
        most[row] = min(most[row], caps.own[_name(table, row)])
    return np.unique(member, axis=0, return_inverse=True)[1].reshape(-1), most


def _hardware(table: Table) -> NDArray[np.int64]:
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
    rows: NDArray[np.int64],
    price: NDArray[np.float64],
    spot: NDArray[np.bool_],
    group: NDArray[np.int64],
) -> NDArray[np.int64]:
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
