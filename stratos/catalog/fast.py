"""The fast CSV and Parquet reader with pyarrow; uncertain values go to the exact reader."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stratos.catalog import arrow
from stratos.catalog.exact import ABSENT, check_date, check_header, text_of, to_listings
from stratos.catalog.listings import COLUMNS, NUMBERS, TEXTS, Listings
from stratos.catalog.source import File
from stratos.catalog.text_column import Words
from stratos.core.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow


class Unclear(Exception):
    """The fast reader will not vouch for this file."""


def read_csv_fast(file: File) -> Listings:
    """Read a CSV with pyarrow.

    Raises:
        Unclear: it is not as it should be; the exact reader is to say how, or to take it.
    """
    import pyarrow
    from pyarrow import csv as arrow_csv

    first = file.data.split(b"\n", 1)[0]
    try:
        header = next(csv.reader([first.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        raise Unclear from None
    check_header(file.name, header)
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    number = pyarrow.float64()
    types = {name: text for name in TEXTS.values()} | {name: number for name in NUMBERS.values()}
    spellings = {form for word in ABSENT for form in (word, word.upper(), word.title())}
    try:
        table = arrow_csv.read_csv(
            pyarrow.BufferReader(file.data),
            memory_pool=pyarrow.system_memory_pool(),  # it gives back what it frees
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=[name for name in COLUMNS if name in header],
                null_values=sorted(spellings | {"NaN"}),
                strings_can_be_null=True,
            ),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        )
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError, UnicodeDecodeError):
        raise Unclear from None
    return _from_arrow(table)


def _from_arrow(table: pyarrow.Table) -> Listings:
    """Return the columns of a table whose types are text by code, and float64."""
    columns: dict[str, Any] = {}
    n_rows = table.num_rows
    for field, name in TEXTS.items():
        columns[field] = Words.fill("", n_rows)
        if name in table.column_names and n_rows:
            codes, names = arrow.coded(table[name])
            columns[field] = Words.coded(codes + 1, ["", *map(text_of, names)])
    for field, name in NUMBERS.items():
        columns[field] = (
            arrow.floats(table[name]) if name in table.column_names else np.full(n_rows, math.nan)
        )
    _vouch(columns)
    return Listings(**columns)


def _vouch(columns: dict[str, Any]) -> None:
    """Raise `Unclear` where the exact reader would find a value wrong; write dates as it does."""
    for field in ("accelerator_count", "vcpus", "memory_gib", "max_count"):
        if np.isinf(columns[field]).any():
            raise Unclear
    count = columns["max_count"]
    if ((count < 0) | (np.floor(count) < count)).any():
        raise Unclear
    try:
        columns["price_date"] = columns["price_date"].map(check_date)
    except ValueError:
        raise Unclear from None


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
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    try:
        columns = {
            name: table[name].cast(text if name in TEXTS.values() else pyarrow.float64())
            for name in COLUMNS
            if name in table.column_names
        }
        return _from_arrow(pyarrow.table(columns))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, Unclear):
        cells = {name: table[name].to_pylist() for name in COLUMNS if name in table.column_names}
        cells = {
            name: [cell if cell is None else str(cell) for cell in column]
            for name, column in cells.items()
        }
        return to_listings(file.name, cells, table.num_rows, range(1, table.num_rows + 1))
