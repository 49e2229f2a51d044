"""Queries on a SQLite file: they may read tables and views and call functions, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.tasks.sql.query import DIGITS, QueryError, QueryLimits

_MAY = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
_NO_FUNCTION = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
_LONGEST_VALUE = 2**20
_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock."""


@dataclass(frozen=True)
class SqliteFile:
    """A SQLite file that is opened for reading."""

    path: Path

    def rows(self, query: str, limits: QueryLimits) -> tuple[Hashable, ...]:
        """Run one query; see `Database.rows`."""
        try:
            with self._opened(limits.seconds) as database:
                cursor = database.execute(query)
                if cursor.description is None:
                    raise QueryError("no query: it gives no rows")
                rows = cursor.fetchmany(limits.most_rows + 1)
        except sqlite3.Error as error:
            raise QueryError(str(error)) from error
        if len(rows) > limits.most_rows:
            raise QueryError(f"more than {limits.most_rows:,} rows")
        return tuple(tuple(map(_value, row)) for row in rows)

    @contextmanager
    def _opened(self, seconds: float) -> Iterator[sqlite3.Connection]:
        ends = time.monotonic() + seconds
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            database.set_authorizer(_may)
            database.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
            yield database


def _may(action: int, first: str | None, second: str | None, *_: Any) -> int:
    is_allowed = action in _MAY and (second or "").casefold() not in _NO_FUNCTION
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


def _value(value: Any) -> Any:
    """Return a value as it is compared: numbers by their leading digits."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, int | float) else value
