"""Queries whose results are compared, not their texts: a verifier for questions with SQL answers.

A query is run on a file of SQLite or DuckDB that is opened for reading. It may read tables and
views and call functions, and nothing else: no writing, no other file, no extension, one statement.
Its time, its rows and its memory are limited.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.contrib.sql.database import Database, QueryError, QueryLimits, Row
from stratos.contrib.sql.order import is_ordered, keyed
from stratos.contrib.sql.words import EmptyGolds, QueryFails
from stratos.core.digest import identity
from stratos.core.foreign import beside
from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText, behind_marker
from stratos.tasks.objects import pairs_all

_FENCE = re.compile(r"```(?:sql|sqlite|duckdb)?[ \t]*\n(.*?)(?:```|$)", re.DOTALL | re.IGNORECASE)
_QUERY = re.compile(r"\s*\(*\s*(?:select|with|from|values)\b", re.IGNORECASE)
_NEAR, _ZERO = 1e-11, 1e-12
"""Relative and absolute difference of numbers that are the same, unless both are whole."""
_MOST_PAIRED = 50
"""Rows that differ in numbers that are paired one by one, where their order does not pair them."""
LONGEST_QUERY = 20_000
"""Characters of a query."""


@dataclass(frozen=True)
class SqlResult:
    """A query is right if it gives the rows that the gold query gives.

    Rows may come in any order, unless the gold query sorts them; those of equal keys still may.
    Names of columns do not count. Numbers are equal up to rounding, whole ones exactly.
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

    def read(self, text: str) -> AnswerText | None:
        """Return the query of a text: in a fence, behind an announcement, or all of it."""
        if fenced := _FENCE.search(text):
            found = fenced[1]
        else:
            found = text if _QUERY.match(text) else behind_marker(text) or text
        return found.strip().rstrip(";").strip() or None

    def why_wrong(self, gold: str) -> Reason | None:
        """Return why a gold query cannot be run; None if it can."""
        try:
            self.is_empty(gold)
        except QueryError as error:
            return QueryFails(str(error))
        return None

    def is_empty(self, gold: str) -> bool:
        """Return whether a gold query gives no rows, so that every query without rows is right.

        Raises:
            QueryError: it fails.
        """
        return _is_empty(self, gold, identity(self._file.path.stat()))

    def doubts(self, golds: Mapping[str, Sequence[str]]) -> Sequence[Reason]:
        """Return that gold queries give no rows, by split; nothing where all give some."""
        n_empty = {split: sum(map(self.is_empty, queries)) for split, queries in golds.items()}
        if not any(n_empty.values()):
            return ()
        n_rows = {split: len(queries) for split, queries in golds.items()}
        return (EmptyGolds(self.database, n_empty, n_rows),)

    def compare(self, answer: str, gold: str) -> float:
        """Return 1 for a query with the rows of the gold query."""
        wanted, ends = _result(self, gold)
        try:
            found = self._rows(self.read(answer) or "")
        except QueryError:
            return 0.0
        if len(found) != len(wanted):
            return 0.0
        runs = zip([0, *ends], ends, strict=False)
        return float(all(_are_same(found[a:b], wanted[a:b]) for a, b in runs))

    def _rows(self, query: str, **more: Any) -> tuple[Row, ...]:
        """Run a query; return its rows.

        Raises:
            QueryError: it fails, is not allowed, takes too long, or has too many rows.
        """
        if not query or len(query) > LONGEST_QUERY:
            raise QueryError("no query, or one that is too long")
        return self._file.rows(query, QueryLimits(self.seconds, self.most_rows, **more))

    @property
    def _file(self) -> Database:
        return Database(Path(self.database).expanduser().resolve())


@lru_cache(maxsize=16_384)
def _is_empty(verifier: SqlResult, gold: str, database: tuple[int, ...]) -> bool:
    """Return whether a gold query gives no rows on a database, which is told by its identity."""
    return not verifier._rows(verifier.read(gold) or "")


@lru_cache(maxsize=4096)
def _result(verifier: SqlResult, gold: str) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """Return the rows of a gold query, and where each run of rows ends that may be in any order."""
    query = verifier.read(gold) or ""
    rows = verifier._rows(query)
    if not is_ordered(query):
        return rows, (len(rows),)
    keys = _keys(verifier, query, rows) or range(len(rows))
    ends = [k for k in range(1, len(rows)) if keys[k] != keys[k - 1]]
    return rows, (*ends, len(rows))


def _keys(verifier: SqlResult, query: str, rows: tuple[Row, ...]) -> list[Any] | None:
    """Return what each row of a query is sorted by; None where that cannot be told."""
    found = keyed(query)
    if found is None or not rows:
        return None
    try:
        # The keys are the last columns of the longer query, which says how many its own are.
        more = verifier._rows(found.query, n_added=found.n_added, keys=found.columns)
    except QueryError:
        return None
    return [row[2] for row in more] if [row[:2] for row in more] == [*rows] else None


def _are_same(some: Sequence[Row], others: Sequence[Row]) -> bool:
    """Return whether rows are the same in any order."""
    if len(some) == 1:
        return _is_same(some[0], others[0])
    if Counter(row[0] for row in some) != Counter(row[0] for row in others):
        return False
    if Counter(some) == Counter(others):
        return True
    pairs = zip(sorted(some), sorted(others), strict=True)
    apart = [pair for pair in pairs if not _is_same(*pair)]
    if not apart or len(apart) > _MOST_PAIRED:
        return not apart
    return pairs_all([[_is_same(one, other) for _, other in apart] for one, _ in apart])


def _is_same(one: Row, other: Row) -> bool:
    return bool(one[0] == other[0]) and all(map(_is_near, one[1], other[1]))


def _is_near(one: float, other: float) -> bool:
    if one == other or (isinstance(one, int) and isinstance(other, int)):
        return one == other
    try:
        return math.isclose(one, other, rel_tol=_NEAR, abs_tol=_ZERO)
    except OverflowError:  # a whole number beyond the largest float
        return False
