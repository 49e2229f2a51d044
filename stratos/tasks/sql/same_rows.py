"""Queries whose results are compared, not their texts: a verifier for questions with SQL answers.

A query is run on a file of SQLite or DuckDB that is opened for reading. It may read tables and
views and call functions, and nothing else: no writing, no other file, no extension, one statement.
Its time, its rows and its memory are limited.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stratos.core.foreign import beside
from stratos.tasks.answers import behind_marker
from stratos.tasks.sql.duckdb_file import DuckDbFile, is_duckdb, why_no_duckdb
from stratos.tasks.sql.query import LONGEST_QUERY, Database, QueryError, QueryLimits
from stratos.tasks.sql.sqlite_file import SqliteFile

_FENCE = re.compile(r"```(?:sql|sqlite|duckdb)?[ \t]*\n(.*?)(?:```|$)", re.DOTALL | re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b(?!.*\))", re.IGNORECASE | re.DOTALL)
"""An order of the outermost query: no bracket is closed behind it."""


@dataclass(frozen=True)
class SqlResult:
    """A query is right if it gives the rows that the gold query gives.

    Rows may come in any order, unless the gold query sorts them. Names of columns do not count.
    """

    database: str
    """The file of SQLite or DuckDB that queries are run on."""
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
        if is_duckdb(path) and (why := why_no_duckdb()) is not None:
            raise ValueError(f"database={self.database}: {why}.")
        try:
            self._rows("select count(*) from sqlite_master")
        except QueryError as error:
            raise ValueError(
                f"database={self.database}: no file of SQLite or DuckDB ({error})."
            ) from error

    def read(self, text: str) -> str | None:
        """Return the query of a text: in a fence, behind an announcement, or all of it."""
        fenced = _FENCE.search(text)
        found = (fenced[1] if fenced else behind_marker(text) or text).strip().rstrip(";").strip()
        return found or None

    def why_wrong(self, gold: str) -> str | None:
        """Return why a gold query gives no rows to compare with; None if it does."""
        try:
            self._rows(self.read(gold) or "")
        except QueryError as error:
            return f"its query fails ({error})"
        return None

    def compare(self, answer: str, gold: str) -> float:
        """Return 1 for a query with the rows of the gold query."""
        wanted = _result(self, gold)
        try:
            found = self._rows(self.read(answer) or "")
        except QueryError:
            return 0.0
        if _ORDERED.search(gold):
            return float(found == wanted)
        return float(Counter(found) == Counter(wanted))

    def _rows(self, query: str) -> tuple[Hashable, ...]:
        """Run a query; return its rows.

        Raises:
            QueryError: it fails, is not allowed, takes too long, or has too many rows.
        """
        if not query or len(query) > LONGEST_QUERY:
            raise QueryError("no query, or one that is too long")
        return self._file.rows(query, QueryLimits(self.seconds, self.most_rows))

    @property
    def _file(self) -> Database:
        path = Path(self.database).expanduser().resolve()
        return DuckDbFile(path) if is_duckdb(path) else SqliteFile(path)


@lru_cache(maxsize=4096)
def _result(verifier: SqlResult, gold: str) -> tuple[Hashable, ...]:
    return verifier._rows(verifier.read(gold) or "")
