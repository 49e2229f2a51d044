"""The exact CSV reader: Python's csv, which knows the line of every invalid value."""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stratos.catalog.listings import COLUMNS, NUMBERS, REQUIRED, TEXTS, Listings
from stratos.catalog.source import File
from stratos.catalog.text_column import Words
from stratos.core.counted import counted
from stratos.core.errors import CatalogError, nearest
from stratos.core.foreign import cause

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
    cells: dict[str, Sequence[Any]] = (
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
    name: str, cells: dict[str, Sequence[Any]], n_rows: int, lines: Sequence[int]
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
