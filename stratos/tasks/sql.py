"""Queries whose results are compared, not their texts: a verifier for questions with SQL answers.

A query is run on a SQLite file that is opened for reading. It may read tables and views and call
functions, and nothing else: no writing, no other file, no extension, one statement. Its time, its
rows and the length of a value are limited.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.core.foreign import beside
from stratos.tasks.answers import behind_marker

_FENCE = re.compile(r"```(?:sql|sqlite)?[ \t]*\n(.*?)(?:```|$)", re.DOTALL | re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b(?!.*\))", re.IGNORECASE | re.DOTALL)
"""An order of the outermost query: no bracket is closed behind it."""
_MAY = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
_NO_FUNCTION = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
_LONGEST_VALUE = 2**20
_LONGEST_QUERY = 20_000
_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock."""
_DIGITS = 9
"""Significant digits of a number that count."""


@dataclass(frozen=True)
class SqlResult:
    """A query is right if it gives the rows that the gold query gives.

    Rows may come in any order, unless the gold query sorts them. Names of columns do not count.
    """

    database: str
    """The SQLite file that queries are run on."""
    seconds: float = 5.0
    """Longest time of a query."""
    most_rows: int = 100_000
    """A query with more rows is wrong."""

    def __post_init__(self) -> None:
        """Check that the file is a database.

        Raises:
            ValueError: it is none.
        """
        if self.seconds <= 0 or self.most_rows < 1:
            raise ValueError("seconds must be above 0, and most_rows at least 1.")
        path = Path(self.database).expanduser()
        if not path.is_file():
            raise ValueError(f"database={self.database}: there is no such file.{beside(path)}")
        try:
            self._rows("select count(*) from sqlite_master")
        except sqlite3.Error as error:
            raise ValueError(f"database={self.database}: no SQLite file ({error}).") from error

    def read(self, text: str) -> str | None:
        """Return the query of a text: in a fence, behind an announcement, or all of it."""
        fenced = _FENCE.search(text)
        found = (fenced[1] if fenced else behind_marker(text) or text).strip().rstrip(";").strip()
        return found or None

    def why_wrong(self, gold: str) -> str | None:
        """Return why a gold query gives no rows to compare with; None if it does."""
        try:
            self._rows(self.read(gold) or "")
        except sqlite3.Error as error:
            return f"its query fails ({error})"
        return None

    def compare(self, answer: str, gold: str) -> float:
        """Return 1 for a query with the rows of the gold query."""
        wanted = _result(self, gold)
        try:
            found = self._rows(self.read(answer) or "")
        except (sqlite3.Error, ValueError):
            return 0.0
        if _ORDERED.search(gold):
            return float(found == wanted)
        return float(Counter(found) == Counter(wanted))

    def _rows(self, query: str) -> tuple[tuple[Any, ...], ...]:
        """Run a query; return its rows.

        Raises:
            sqlite3.Error: it fails, is not allowed, takes too long, or has too many rows.
        """
        if not query or len(query) > _LONGEST_QUERY:
            raise sqlite3.DataError("no query, or one that is too long")
        with self._opened() as database:
            cursor = database.execute(query)
            if cursor.description is None:
                raise sqlite3.DataError("no query: it gives no rows")
            rows = cursor.fetchmany(self.most_rows + 1)
        if len(rows) > self.most_rows:
            raise sqlite3.DataError(f"more than {self.most_rows:,} rows")
        return tuple(tuple(map(_value, row)) for row in rows)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        path = Path(self.database).expanduser().resolve()
        ends = time.monotonic() + self.seconds
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
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
    if isinstance(value, int | float):
        return float(f"{value:.{_DIGITS}g}")
    return value


@lru_cache(maxsize=4096)
def _result(verifier: SqlResult, gold: str) -> tuple[tuple[Any, ...], ...]:
    return verifier._rows(verifier.read(gold) or "")
