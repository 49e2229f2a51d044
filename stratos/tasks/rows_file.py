"""Rows in memory as a file of JSON lines, which a task reads like any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import ConfigError
from stratos.core.extras import required

_INDEX = "__index_level_"
"""What the columns are called that pyarrow makes of the index of a pandas table."""


@runtime_checkable
class Table(Protocol):
    """A table that others can read without a copy: of pandas, polars, pyarrow or DuckDB."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return its columns by Arrow's C data interface."""


InMemory: TypeAlias = Iterable[Mapping[str, Any]] | Table
"""Rows as dicts, or a table of any library that speaks Arrow."""


def write_rows(rows: InMemory, path: Path) -> None:
    """Write rows as JSON lines, at once.

    Dates become texts as ISO 8601 has them; what is missing (None, NaN, NaT) becomes null.

    Raises:
        ConfigError: they are no rows, or hold what JSON has no value for.
    """
    lines = [_line(number, row) for number, row in enumerate(_dicts(rows), 1)]
    write_atomically(path, b"".join(lines))


def _line(number: int, row: Any) -> bytes:
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"row {number} is {type(row).__name__}, and not a dict of column to value: give a "
            'list such as [{"text": "…", "label": "…"}, …], a table, or the path of a file.'
        )
    try:
        return msgspec.json.encode(dict(row), enc_hook=_plain) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"row {number} cannot be written as JSON ({error}).") from error


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy as Python's own."""
    import numpy as np

    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"it holds a value of {type(value).__name__}")


def _dicts(rows: InMemory) -> Iterator[Any]:
    """Yield the rows of a table or of an iterable."""
    if isinstance(rows, Table):
        yield from _of_table(rows)
        return
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise ConfigError(
            f"the data are {type(rows).__name__}: give the path of a file, a list of dicts, or a "
            "table of pandas, polars or pyarrow."
        )
    yield from rows


def _of_table(table: Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as pyarrow reads them: without the index of pandas."""
    with required():
        import pyarrow

    try:
        read = pyarrow.table(table)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"the table cannot be read ({error}): give each column values of one type."
        ) from error
    names = [name for name in read.column_names if not name.startswith(_INDEX)]
    for batch in read.select(names).to_batches():
        yield from batch.to_pylist()
