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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stratos.records import Offer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


# Dictionary-encoded text column: codes and sorted names.


Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROOM = 2**62
"""Keys are combined below this, so that int64 never overflows."""


@dataclass(frozen=True, eq=False)
class Words:
    """A column of text: row r reads `names[codes[r]]`. Names are sorted and differ."""

    codes: Codes
    names: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str]) -> Words:
        """Return the column of these texts."""
        texts = list(texts)
        names = sorted(set(texts))
        index = {name: code for code, name in enumerate(names)}
        return Words(
            np.fromiter((index[text] for text in texts), np.int32, len(texts)),
            tuple(names),
        )

    @staticmethod
    def coded(codes: Codes, names: Sequence[str]) -> Words:
        """Return the column of these codes; names may be unsorted and repeated."""
        column = Words.of(names)
        return Words(column.codes[codes] if len(names) else codes, column.names)

    @staticmethod
    def fill(text: str, n_rows: int) -> Words:
        """Return a column that says the same in each row."""
        return Words(np.zeros(n_rows, np.int32), (text,))

    @staticmethod
    def concat(columns: Sequence[Words]) -> Words:
        """Return the columns one below the other."""
        names = sorted({name for column in columns for name in column.names})
        index = {name: code for code, name in enumerate(names)}
        codes = [
            np.array([index[name] for name in column.names], np.int32)[column.codes]
            for column in columns
            if len(column)
        ]
        return Words(np.concatenate(codes) if codes else np.zeros(0, np.int32), tuple(names))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.names[self.codes[row]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the text of each row as an array of str objects."""
        return np.array(self.names, object)[self.codes].astype(dtype or object, copy=False)

    def spelled(self, rows: slice = slice(None)) -> list[str]:
        """Return the text of each row."""
        return [self.names[code] for code in self.codes[rows].tolist()]

    def take(self, rows: Bools | Ints) -> Words:
        """Return some rows; the names stay."""
        return Words(self.codes[rows], self.names)

    def where(self, test: Callable[[str], bool]) -> Bools:
        """Return a mask of the rows whose text passes; each name is tested once."""
        passes = np.fromiter(map(test, self.names), bool, len(self.names))
        return passes[self.codes]

    def map(self, change: Callable[[str], str]) -> Words:
        """Return the column with each text changed; each name is changed once."""
        return Words.coded(self.codes, [change(name) for name in self.names])

    def used(self) -> list[str]:
        """Return the names that some row has, sorted."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return [name for name, n in zip(self.names, counts.tolist(), strict=True) if n]


def combine(*columns: Codes | Ints) -> Ints:
    """Return one key a row that is equal where all columns are, and sorts as they do in turn."""
    key, size = columns[0].astype(np.int64), _size(columns[0])
    for column in columns[1:]:
        width = _size(column)
        if size * width >= _ROOM:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            size = _size(key)
        key *= width
        key += column
        size *= width
    return key


def _size(column: Codes | Ints) -> int:
    return int(column.max()) + 1 if len(column) else 1


LOCAL = "local"
"""Name of the cloud that is this machine."""

UNLIMITED = 2**31 - 1
"""`max_count` of what a cloud rents out in any number."""


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
    location: Ints
    """Index into `places`."""

    def __len__(self) -> int:
        return len(self.usd_per_hour)

    @staticmethod
    def build(**columns: Any) -> Table:
        """Return the table of all columns but kind and place: rows sorted, both numbered."""
        hardware = ("cloud", "accelerator", "accelerator_count", "vcpus", "memory_gib")
        kind = hardware_kinds(*(columns[name] for name in hardware))
        location = _dense(combine(columns["cloud"].codes, columns["region"].codes))
        key = combine(location, columns["instance_type"].codes, kind)
        table = Table(**columns, kind=kind, location=location)
        if (np.diff(key) > 0).all():
            return table
        return take_rows(table, np.lexsort((table.usd_per_hour_spot, table.usd_per_hour, key)))

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
        columns: dict[str, Any] = {"max_count": np.array(counts, np.int64)}
        columns["accelerator_count"] = np.array([row.accelerator_count for row in rows], np.int64)
        for field in fields(Table):
            if field.type == "Words":
                columns[field.name] = Words.of(getattr(row, field.name) or "" for row in rows)
            elif field.type == "Floats":  # None becomes NaN
                columns[field.name] = np.array([getattr(row, field.name) for row in rows], float)
        return Table.build(**columns)

    @staticmethod
    def concat(tables: Sequence[Table]) -> Table:
        """Return the offers of all tables as one."""
        columns = stacked(tables)
        del columns["kind"], columns["location"]
        return Table.build(**columns)

    def take(self, rows: Bools | Ints) -> Table:
        """Return some rows (ascending, or a mask), with kinds and places numbered anew."""
        table = take_rows(self, rows)
        return replace(table, kind=_dense(table.kind), location=_dense(table.location))

    @cached_property
    def places(self) -> tuple[tuple[str, str], ...]:
        """(cloud, region) by index of place."""
        return tuple((self.cloud[row], self.region[row]) for row in _first_rows(self.location))

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
        return next(self.offers(slice(row, row + 1)))

    def offers(self, part: slice = slice(None)) -> Iterator[Offer]:
        """Yield some rows as records."""
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


def take_rows(columns: T, rows: Bools | Ints) -> T:
    """Return some rows of a record of columns."""
    values = {field.name: getattr(columns, field.name) for field in fields(columns)}
    return replace(
        columns,
        **{
            name: column.take(rows) if isinstance(column, Words) else column[rows]
            for name, column in values.items()
        },
    )


def stacked(tables: Sequence[DataclassInstance]) -> dict[str, Any]:
    """Return the columns of several records one below the other."""
    columns: dict[str, Any] = {}
    for field in fields(tables[0]):
        parts = [getattr(table, field.name) for table in tables]
        is_words = isinstance(parts[0], Words)
        columns[field.name] = Words.concat(parts) if is_words else np.concatenate(parts)
    return columns


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


def estimate_kinds(table: Table) -> Ints:
    """Return the number of what an estimate reads of each row."""
    here = table.cloud.where(lambda name: name == LOCAL).astype(np.int64)
    with_gpu = table.accelerator_count > 0
    read = combine(
        np.where(with_gpu, table.accelerator.codes + 1, 0),
        np.where(with_gpu, table.accelerator_count, table.kind),
        here,
    )
    return _ranks(read)


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
