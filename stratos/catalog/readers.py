"""Find the files of a catalog, and read them into typed columns; errors name file, line and column.

Files are paths, folders, globs and fsspec URLs. Python's `csv` reads 90,000 rows in a second,
knows the line of every value, and reads a catalog once: what it is cleaned to is cached.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stratos.catalog.table import (
    Bools,
    Floats,
    Ints,
    Words,
    stacked,
    take_rows,
)
from stratos.core.digest import identity
from stratos.core.errors import CatalogError, nearest
from stratos.core.foreign import cause, open_regular
from stratos.core.formats import counted, shown
from stratos.core.redact import redact_text
from stratos.core.remote import file_system, local_path
from stratos.core.values import why_no_name

# Raw catalog rows as typed columns.


REQUIRED = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "Region",
)
"""Columns that every version of the schema has."""

TEXTS = {
    "cloud": "Cloud",
    "region": "Region",
    "zone": "AvailabilityZone",
    "instance_type": "InstanceType",
    "accelerator": "AcceleratorName",
    "gpu_info": "GpuInfo",
    "price_date": "PriceDate",
    "source": "Source",
}
NUMBERS = {
    "accelerator_count": "AcceleratorCount",
    "vcpus": "vCPUs",
    "memory_gib": "MemoryGiB",
    "usd_per_hour": "Price",
    "usd_per_hour_spot": "SpotPrice",
    "max_count": "Count",
}
COLUMNS = (*TEXTS.values(), *NUMBERS.values())


@dataclass(frozen=True, eq=False)
class Listings:
    """Rows as they stand in the files, typed: text without a value is "", a number NaN."""

    cloud: Words
    region: Words
    zone: Words
    instance_type: Words
    accelerator: Words
    gpu_info: Words
    price_date: Words
    source: Words
    accelerator_count: Floats
    vcpus: Floats
    memory_gib: Floats
    usd_per_hour: Floats
    usd_per_hour_spot: Floats
    max_count: Floats

    def __len__(self) -> int:
        return len(self.usd_per_hour)

    def take(self, rows: Bools | Ints) -> Listings:
        """Return some rows."""
        return take_rows(self, rows)

    @staticmethod
    def concat(parts: Sequence[Listings]) -> Listings:
        """Return the rows of all parts."""
        return Listings(**stacked(parts))


ABSENT = frozenset({"", "nan", "none", "null", "na", "n/a"})
"""Spellings of "no value" that catalogs use, in any case."""


class Malformed(ValueError):
    """Values of a file that cannot be read; each argument names one."""


def read_csv(file: File) -> Listings:
    """Return the rows of a CSV.

    Raises:
        CatalogError: it is empty, no table, or lacks a column.
        Malformed: it has values that cannot be read.
    """
    try:
        text = file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogError(f"The catalog {file.name} cannot be read: {cause(error)}.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        header = next(reader, [])
        check_header(file.name, header)
        for row in reader:
            if row:
                if len(row) != len(header):
                    raise CatalogError(_wrong_width(file.name, reader.line_num, row, header))
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise CatalogError(f"{file.name}, line {reader.line_num}: {error}.") from error
    cells: Mapping[str, Sequence[Any]] = (
        dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    )
    return to_listings(file.name, cells, len(rows), lines)


def _wrong_width(name: str, line: int, row: list[str], header: list[str]) -> str:
    surplus = len(row) - len(header)
    if surplus > 0:
        return (
            f"{name}, line {line}: the row has {counted(surplus, 'more field')} than the header. "
            "A value with a comma needs quotes."
        )
    return (
        f"{name}, line {line}: the row has {counted(-surplus, 'field')} fewer than the header. "
        "Is the file truncated? Download it again."
    )


def to_listings(
    name: str, cells: Mapping[str, Sequence[Any]], n_rows: int, lines: Sequence[int]
) -> Listings:
    """Return columns of cells as they were read, or all that is wrong with them, by line."""
    columns: dict[str, Any] = {}
    wrong: list[tuple[int, int, str]] = []

    def convert(column: str, read: Callable[[str], Any]) -> list[Any]:
        """Return each cell's value; each text is read once."""
        values: dict[Any, Any] = {}
        bad: dict[Any, str] = {}
        for cell in set(cells[column]):
            try:
                values[cell] = read(text_of(cell))
            except ValueError as error:
                values[cell], bad[cell] = read(""), str(error)
        if bad:
            for row, cell in enumerate(cells[column]):
                if cell in bad:
                    where = f"{name}, line {lines[row]}, column {column}"
                    wrong.append((row, COLUMNS.index(column), f"{where}: {bad[cell]}"))
        return [values[cell] for cell in cells[column]]

    for field, column in TEXTS.items():
        read = check_date if column == "PriceDate" else str
        columns[field] = (
            Words.of(convert(column, read)) if column in cells else Words.fill("", n_rows)
        )
    for field, column in NUMBERS.items():
        columns[field] = (
            np.array(convert(column, _READERS[column]), float)
            if column in cells
            else np.full(n_rows, math.nan)
        )
    if wrong:
        raise Malformed(*(text for _, _, text in sorted(wrong)))
    return Listings(**columns)


def text_of(cell: Any) -> str:
    """Return a cell's text without blanks around it; "" for every spelling of no value."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in ABSENT else text


def _number(text: str) -> float:
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _finite(text: str) -> float:
    number = _number(text)
    if math.isinf(number):
        raise ValueError(f"{text!r} is not finite")
    return number


def _whole(text: str) -> float:
    number = _finite(text)
    if number < 0 or (number != round(number, 0) and not math.isnan(number)):
        raise ValueError(f"{text!r} is not a whole number of servers")
    return number


def check_date(text: str) -> str:
    """Return a date without the time of day that some feeds write; ValueError if it is none."""
    try:
        return datetime.date.fromisoformat(text[:10]).isoformat() if text else ""
    except ValueError:
        raise ValueError(f"{text!r} is not a date such as 2026-07-20") from None


_READERS: dict[str, Callable[[str], float]] = {
    "AcceleratorCount": _finite,
    "vCPUs": _finite,
    "MemoryGiB": _finite,
    "Price": _number,
    "SpotPrice": _number,
    "Count": _whole,
}


def _misspelt(missing: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each missing column with the one that is meant; no known column stands for another."""
    unknown = [column for column in columns if column.isidentifier() and column not in COLUMNS]
    for word in missing:
        for near in nearest(word, unknown, 1):
            yield word, near


def check_header(name: str, columns: Sequence[str]) -> None:
    """Raise CatalogError where a column is missing, or is there twice."""
    if not columns:
        raise CatalogError(
            f"The catalog {name} is empty. It needs the columns {', '.join(REQUIRED)}."
        )
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        renames = "".join(
            f" Rename {near} to {word}." for word, near in _misspelt(missing, columns)
        )
        raise CatalogError(
            f"The catalog {name} lacks the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}. It has: {', '.join(columns)}.{renames}"
        )
    twice = sorted({column for column in columns if list(columns).count(column) > 1})
    if twice:
        raise CatalogError(f"The catalog {name} has the column {', '.join(twice)} twice.")


def read_parquet(file: File) -> Listings:
    """Return the rows of a Parquet file.

    Raises:
        CatalogError: it is empty, no table, or lacks a column.
        Malformed: it has values that cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(file.data))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise CatalogError(
            f"The catalog {file.name} is not a readable Parquet file: {error}."
        ) from error
    check_header(file.name, table.column_names)
    cells = {
        name: [cell if cell is None else str(cell) for cell in table[name].to_pylist()]
        for name in COLUMNS
        if name in table.column_names
    }
    return to_listings(file.name, cells, table.num_rows, range(1, table.num_rows + 1))


def parse(file: File, cloud: str) -> Listings:
    """Return the rows of a file.

    Args:
        file: CSV or Parquet, by its content.
        cloud: whose offers they are, where a row does not say so itself.

    Raises:
        CatalogError: the file is empty, no table, or lacks a column.
        Malformed: it has values that cannot be read.
    """
    listings = read_parquet(file) if file.data[:4] == b"PAR1" else read_csv(file)
    if not len(listings):
        raise CatalogError(f"The catalog {file.name} is empty: it has no row below its header.")
    columns = {field.name: getattr(listings, field.name) for field in fields(listings)}
    columns["cloud"] = listings.cloud.map(lambda name: (name or cloud).lower())
    # Vast writes ", US, NA" where it does not know the town.
    columns["region"] = listings.region.map(lambda name: name.lstrip(", "))
    columns["source"] = listings.source.map(lambda name: name or file.name)
    for field, column in TEXTS.items():
        if field == "gpu_info":  # is read, and never written
            continue
        for name in columns[field].used():
            if name and (reason := why_no_name(name)):
                raise CatalogError(
                    f"The catalog {file.name} has '{shown(name, 60)}' in its column {column}: "
                    f"{reason}. Fix or remove the rows."
                )
    return Listings(**columns)


BUILTIN = Path(__file__).with_name("offers.csv")
"""Our own curated table, which `cloud.catalog=[builtin]` names."""

FOLDER_PATTERNS = ("vms.csv", "vms.parquet", "*/vms.csv", "*/vms.parquet")
"""What is read of a folder: SkyPilot's layout, of one cloud or of many side by side."""

_REMOTE_S = 600
"""Seconds for which a catalog that was read from elsewhere is not read again in one process."""


@dataclass(frozen=True)
class File:
    """One file of a catalog."""

    name: str
    data: bytes


def read_files(urls: Sequence[str]) -> Iterator[File]:
    """Yield every file that the URLs name, each once, in the order of the URLs and then by name.

    Args:
        urls: "builtin"; or path or fsspec URL of a CSV or Parquet file, of a folder in SkyPilot's
            layout (<cloud>/vms.csv), or with the wildcards `*`, `?` and `[…]`.

    Raises:
        CatalogError: nothing is there, or it cannot be read.
    """
    seen: set[str] = set()
    for url in urls:
        yield from _files(url, seen)


def cloud_of(name: str) -> str:
    """Return the name of the folder that a file lies in, as SkyPilot lays its catalogs out."""
    return PurePosixPath(name.split("://")[-1]).parent.name.lower()


def _files(url: str, seen: set[str]) -> Iterator[File]:
    if url == "builtin":
        if url not in seen:
            seen.add(url)
            yield File("builtin", BUILTIN.read_bytes())
        return
    path = local_path(url)
    try:
        for name, read in _remote(url) if "://" in path else _local(path):
            if name not in seen:
                seen.add(name)
                yield File(redact_text(name), read())  # it is written into every offer's source
    except FileNotFoundError as error:
        raise CatalogError(
            f"The catalog {url} does not exist. Name a CSV or Parquet file or URL in the SkyPilot "
            "schema with cloud.catalog=[…], or use the built-in one: cloud.catalog=[builtin]."
        ) from error
    except CatalogError:
        raise
    except Exception as error:  # what a remote file system raises is its own affair
        raise CatalogError(
            f"The catalog {url} cannot be read: {cause(error)}. "
            "Check the path or URL in cloud.catalog."
        ) from error


def _local(url: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and reader of each file that a path names; fsspec is slow to load."""
    path = Path(url).expanduser()
    if _is_glob(url):
        paths = glob(str(path), recursive=True)
    elif os.path.isdir(path):
        paths = [name for pattern in FOLDER_PATTERNS for name in glob(str(path / pattern))]
        _check_folder(url, paths)
    else:
        yield url, partial(_read, path)
        return
    if not paths:
        raise FileNotFoundError(url)
    for name in sorted(paths):
        yield name, partial(_read, Path(name))


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def state_of(urls: Sequence[str]) -> tuple[object, ...]:
    """Return what changes when a catalog of this machine does; of others, it does now and then."""
    states: list[object] = []
    for url in urls:
        path = local_path(url)
        if url == "builtin":
            continue
        if "://" in path:
            states.append(int(time.monotonic() // _REMOTE_S))
            continue
        try:
            states += [(name, identity(os.stat(name))) for name, _ in _local(path)]
        except (OSError, CatalogError, ValueError):
            states.append(None)
    return tuple(states)


def _remote(url: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and reader of each file that a URL names."""
    system, path = file_system(url)
    folder = path.rstrip("/")
    if _is_glob(url):
        paths = system.glob(path)
    elif not url.startswith(("http://", "https://")) and system.isdir(path):
        paths = [name for end in FOLDER_PATTERNS for name in system.glob(f"{folder}/{end}")]
        _check_folder(url, paths)
    else:
        yield url, partial(system.cat_file, path)
        return
    if not paths:
        raise FileNotFoundError(url)
    for name in sorted(paths):
        yield system.unstrip_protocol(name), partial(system.cat_file, name)


def _check_folder(url: str, paths: Sequence[str]) -> None:
    if not paths:
        raise CatalogError(
            f"The catalog {url} is a folder without {' or '.join(FOLDER_PATTERNS)}. Name its "
            f"files: cloud.catalog=['{url.rstrip('/')}/*.csv']."
        )


def _is_glob(url: str) -> bool:
    # A "?" of http is the start of its query.
    return any(mark in url for mark in ("*[" if url.startswith("http") else "*?["))
