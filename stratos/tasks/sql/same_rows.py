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
from stratos.tasks.sql.database import Database, QueryError, QueryLimits

_FENCE = re.compile(r"```(?:sql|sqlite|duckdb)?[ \t]*\n(.*?)(?:```|$)", re.DOTALL | re.IGNORECASE)
_NOT_ORDER = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
"""Texts, quoted names and comments, in which no word of SQL stands."""
_WORDS = re.compile(r"[()]|\border\s+by\b", re.IGNORECASE)
_QUERY = re.compile(r"\s*\(*\s*(?:select|with|from|values)\b", re.IGNORECASE)
LONGEST_QUERY = 20_000
"""Characters of a query."""


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
        if (why := self._file.why_not()) is not None:
            raise ValueError(f"database={self.database}: {why}.")
        try:
            self._rows("select count(*) from sqlite_master")
        except QueryError as error:
            raise ValueError(
                f"database={self.database}: no file of SQLite or DuckDB ({error})."
            ) from error

    def read(self, text: str) -> str | None:
        """Return the query of a text: in a fence, behind an announcement, or all of it."""
        if fenced := _FENCE.search(text):
            found = fenced[1]
        else:
            found = text if _QUERY.match(text) else behind_marker(text) or text
        return found.strip().rstrip(";").strip() or None

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
        if _is_ordered(gold):
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
        return Database(Path(self.database).expanduser().resolve())


def _is_ordered(query: str) -> bool:
    """Return whether the outermost query sorts its rows: an order stands in no bracket."""
    depth = 0
    for found in _WORDS.finditer(_NOT_ORDER.sub(" ", query)):
        if found[0] not in "()":
            if depth == 0:
                return True
        else:
            depth += 1 if found[0] == "(" else -1
    return False


@lru_cache(maxsize=4096)
def _result(verifier: SqlResult, gold: str) -> tuple[Hashable, ...]:
    return verifier._rows(verifier.read(gold) or "")
