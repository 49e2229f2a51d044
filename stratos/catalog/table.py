"""The cleaned catalog as numpy columns; an `Offer` object is made only on request.

A row is one offer. Text is kept as `Words` (a code a row, the names once), numbers as numpy arrays.
Two indexes say what a plan needs to know of a row beside its price:

    kind    the hardware: is it this machine, GPU, number of GPUs, vCPUs, memory. An estimate of
            time depends on nothing else, so that it is made once a kind.
    place   (cloud, region): what residency, quotas and egress depend on.

Rows are in the order of place, instance type, kind and price, whatever order they were read in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, overload

import numpy as np

from stratos.catalog.text_column import Bools, Floats, Ints, Words, combine
from stratos.records import Offer

LOCAL = "local"
"""Name of the cloud that is this machine."""

UNLIMITED = 2**31 - 1
"""`max_count` of what a cloud rents out in any number."""

_CHUNK = 8192
"""Rows that are made into offers at a time when all are iterated."""


@dataclass(frozen=True, eq=False)
class Table:
    """Offers by column; all columns are of the same length.

    Make one with `Table.build`, which sorts the rows and numbers kinds and places.
    """

    cloud: Words
    region: Words
    instance_type: Words
    accelerator: Words
    """Canonical GPU name; "" for a CPU server."""
    accelerator_count: Ints
    vcpus: Floats
    memory_gib: Floats
    vram_gib: Floats
    """Memory of ONE accelerator; 0 for a CPU server."""
    usd_per_hour: Floats
    usd_per_hour_spot: Floats
    """NaN where there is no spot price."""
    price_date: Words
    source: Words
    max_count: Ints
    """How many such servers exist: `UNLIMITED` unless the catalog has a `Count`; one local."""
    kind: Ints
    """Index of the hardware, 0 … `n_kinds` - 1."""
    place: Ints
    """Index into `places`."""

    def __len__(self) -> int:
        return len(self.usd_per_hour)

    @staticmethod
    def build(
        *,
        cloud: Words,
        region: Words,
        instance_type: Words,
        accelerator: Words,
        accelerator_count: Ints,
        vcpus: Floats,
        memory_gib: Floats,
        vram_gib: Floats,
        usd_per_hour: Floats,
        usd_per_hour_spot: Floats,
        price_date: Words,
        source: Words,
        max_count: Ints,
    ) -> Table:
        """Return the table of these columns: rows sorted, kinds and places numbered."""
        kind = hardware_kinds(cloud, accelerator, accelerator_count, vcpus, memory_gib)
        place = _dense(combine(cloud.codes, region.codes))
        key = combine(place, instance_type.codes, kind)
        table = Table(
            cloud=cloud,
            region=region,
            instance_type=instance_type,
            accelerator=accelerator,
            accelerator_count=accelerator_count,
            vcpus=vcpus,
            memory_gib=memory_gib,
            vram_gib=vram_gib,
            usd_per_hour=usd_per_hour,
            usd_per_hour_spot=usd_per_hour_spot,
            price_date=price_date,
            source=source,
            max_count=max_count,
            kind=kind,
            place=place,
        )
        if (np.diff(key) > 0).all():
            return table
        return table._take(np.lexsort((usd_per_hour_spot, usd_per_hour, key)))

    @staticmethod
    def of(offers: Iterable[Offer], counts: Sequence[int] | None = None) -> Table:
        """Return the table of these offers.

        Args:
            offers: its rows.
            counts: how many there are of each; None is one local machine, any number of others.
        """
        rows = list(offers)
        if counts is None:
            counts = [1 if row.cloud == LOCAL else UNLIMITED for row in rows]

        def numbers(name: str) -> Floats:
            return np.array([getattr(row, name) for row in rows], float)

        return Table.build(
            cloud=Words.of(row.cloud for row in rows),
            region=Words.of(row.region for row in rows),
            instance_type=Words.of(row.instance_type for row in rows),
            accelerator=Words.of(row.accelerator or "" for row in rows),
            accelerator_count=numbers("accelerator_count").astype(np.int64),
            vcpus=numbers("vcpus"),
            memory_gib=numbers("memory_gib"),
            vram_gib=numbers("vram_gib"),
            usd_per_hour=numbers("usd_per_hour"),
            usd_per_hour_spot=numbers("usd_per_hour_spot"),  # None becomes NaN
            price_date=Words.of(row.price_date for row in rows),
            source=Words.of(row.source for row in rows),
            max_count=np.array(counts, np.int64),
        )

    @staticmethod
    def concat(tables: Sequence[Table]) -> Table:
        """Return the offers of all tables as one."""
        columns: dict[str, Any] = {}
        for field in fields(Table):
            if field.name not in ("kind", "place"):
                parts = [getattr(table, field.name) for table in tables]
                is_words = isinstance(parts[0], Words)
                columns[field.name] = Words.concat(parts) if is_words else np.concatenate(parts)
        return Table.build(**columns)

    def take(self, rows: Bools | Ints) -> Table:
        """Return some rows (ascending, or a mask), with kinds and places numbered anew."""
        table = self._take(rows)
        return replace(table, kind=_dense(table.kind), place=_dense(table.place))

    def _take(self, rows: Bools | Ints) -> Table:
        columns: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            columns[field.name] = column.take(rows) if isinstance(column, Words) else column[rows]
        return Table(**columns)

    @cached_property
    def places(self) -> tuple[tuple[str, str], ...]:
        """(cloud, region) by index of place."""
        return tuple((self.cloud[row], self.region[row]) for row in _first_rows(self.place))

    @cached_property
    def kind_rows(self) -> Ints:
        """A row of each kind, by index of kind: the offer to make an estimate with."""
        return _first_rows(self.kind)

    @property
    def n_kinds(self) -> int:
        """Number of kinds of hardware."""
        return len(self.kind_rows)

    def offer(self, row: int) -> Offer:
        """Return one row as a record."""
        return next(self._offers(row, row + 1))

    def _offers(self, start: int, stop: int) -> Iterator[Offer]:
        part = slice(start, stop)
        return map(
            Offer,
            self.cloud.spelled(part),
            self.region.spelled(part),
            self.instance_type.spelled(part),
            (name or None for name in self.accelerator.spelled(part)),
            self.accelerator_count[part].tolist(),
            self.vcpus[part].tolist(),
            self.memory_gib[part].tolist(),
            self.vram_gib[part].tolist(),
            self.usd_per_hour[part].tolist(),
            (None if math.isnan(usd) else usd for usd in self.usd_per_hour_spot[part].tolist()),
            self.price_date.spelled(part),
            self.source.spelled(part),
        )


class Offers(Sequence[Offer]):
    """The rows of a table as records that are made when they are asked for."""

    def __init__(self, table: Table) -> None:
        """Show `table` as a sequence of records."""
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, row: int) -> Offer: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[Offer, ...]: ...

    def __getitem__(self, row: int | slice) -> Offer | tuple[Offer, ...]:
        rows = range(len(self))[row]  # raises IndexError as a sequence has to
        if isinstance(rows, range):
            return tuple(map(self._table.offer, rows))
        return self._table.offer(rows)

    def __iter__(self) -> Iterator[Offer]:
        for start in range(0, len(self), _CHUNK):
            yield from self._table._offers(start, min(len(self), start + _CHUNK))


def hardware_kinds(
    cloud: Words,
    accelerator: Words,
    accelerator_count: Ints,
    vcpus: Floats,
    memory_gib: Floats,
) -> Ints:
    """Return the index of each row's hardware, ordered by what the hardware is."""
    here = cloud.where(lambda name: name == LOCAL).astype(np.int64)
    counts, cpus, gib = (_ranks(column) for column in (accelerator_count, vcpus, memory_gib))
    return _dense(combine(here, accelerator.codes, counts, cpus, gib))


def _ranks(column: Ints | Floats) -> Ints:
    return np.unique(column, return_inverse=True)[1].astype(np.int64)


def _dense(index: Ints) -> Ints:
    """Number the values that occur from 0 on, in their order."""
    if not len(index):
        return index
    if index.max() >= 8 * len(index) + 1024:
        return _ranks(index)
    used = np.zeros(int(index.max()) + 1, bool)
    used[index] = True
    return (np.cumsum(used) - 1)[index].astype(np.int64)


def _first_rows(index: Ints) -> Ints:
    """Return the first row that has each of the values 0 … n - 1."""
    first = np.zeros(int(index.max()) + 1 if len(index) else 0, np.int64)
    first[index[::-1]] = np.arange(len(index), dtype=np.int64)[::-1]
    return first
