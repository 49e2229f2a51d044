"""Queries whose results are compared, not their texts: a verifier for questions with SQL answers.

A query is run on a file of SQLite or DuckDB that is opened for reading. It may read tables and
views and call functions, and nothing else: no writing, no other file, no extension, one statement.
Its time, its rows and its memory are limited.

What an untrained model writes may take any time and memory. SQLite and DuckDB look at their own
limits between steps, and one step may search a long text for minutes, or make a list of 200 million
numbers, which DuckDB's `memory_limit` does not count (duckdb 2.0.1). The child has a limit of
memory, and ends itself when a query takes too long.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.core.digest import identity
from stratos.core.extras import install
from stratos.core.foreign import beside
from stratos.core.formats import listed
from stratos.core.limited import Child
from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText, behind_marker, pairs_all


class QueryFails(Reason):
    """A gold query cannot be run."""

    error: str

    says = "its query fails ({error})"


class DuckDbIsMissing(Reason):
    """The file is one of DuckDB, whose package is not installed."""

    def __str__(self) -> str:
        return f"it is a DuckDB file, and the package duckdb is not installed: {install('sql')}"


class EmptyGolds(Reason):
    """Gold queries give no rows, so that many wrong queries are right there."""

    database: str
    """File that they are run on."""
    n_empty: Mapping[str, int]
    """Split to how many of its gold queries give none."""
    n_rows: Mapping[str, int]
    """Split to its rows."""

    def __str__(self) -> str:
        splits = [
            f"{n:,} of {self.n_rows[split]:,} {split} rows"
            for split, n in self.n_empty.items()
            if n
        ]
        return (
            f"The gold queries of {listed(splits)} give no rows on {self.database}. There, every "
            "query without rows counts as right, also a wrong one, so that the accuracy is too "
            "high. Take these questions out, or put rows into the database that they find."
        )


MARK, MARK_AT = b"DUCK", 8
"""What a DuckDB file has at this byte."""
_CHILD = Path(__file__).with_name("query_child.py")


Row = tuple[Any, ...]
"""Digest, numbers, and where asked for a digest of keys."""


class QueryError(Exception):
    """A query that fails, is not allowed, takes too long, or has too many rows."""


@dataclass(frozen=True)
class QueryLimits:
    """What one query may take."""

    seconds: float
    most_rows: int
    n_added: int = 0
    """Last columns that are keys, and no part of a row."""
    keys: tuple[int, ...] | None = None
    """Further columns that are keys; null tells no keys."""


@dataclass(frozen=True)
class Database:
    """A file that is opened for reading, without access to any other file."""

    path: Path

    @property
    def kind(self) -> str:
        """Of the file: sqlite or duckdb."""
        try:
            with self.path.open("rb") as file:
                is_duckdb = file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK
        except OSError:
            return "sqlite"  # which says why it cannot be opened
        return "duckdb" if is_duckdb else "sqlite"

    def why_not(self) -> Reason | None:
        """Return which package is missing; None if queries can be run."""
        if self.kind == "sqlite" or importlib.util.find_spec("duckdb") is not None:
            return None
        return DuckDbIsMissing()

    def rows(self, query: str, limits: QueryLimits) -> tuple[Row, ...]:
        """Run one query that reads, and return its rows in their order.

        A row is a digest of its values without numbers, and its numbers; with `limits.keys`, also
        a digest of the columns that these name.

        Raises:
            QueryError: it gives no rows.
        """
        settings = {key: value for key, value in asdict(limits).items() if value is not None}
        line = _child(self, os.getpid()).answer(json.dumps({"query": query, **settings}))
        if line is None:
            raise QueryError(f"more than {limits.seconds:g} seconds, or too much memory")
        answer = json.loads(line)
        if "error" in answer:
            raise QueryError(answer["error"])
        return tuple((row[0], tuple(row[1]), *row[2:]) for row in answer["rows"])


@lru_cache(maxsize=8)
def _child(database: Database, pid: int) -> Child:
    """Return what runs the queries on a file for a process: a fork has its own."""
    return Child([sys.executable, "-P", str(_CHILD), database.kind, str(database.path)])


@dataclass(frozen=True)
class QueryWithKeys:
    """A query that also tells its keys."""

    query: str
    """The query with the keys as further columns."""
    columns: tuple[int, ...]
    """Keys that are columns of the query itself, from 0."""
    n_added: int


def _tree(query: str, kind: str) -> Any:
    """Return the syntax tree of a query; None where it cannot be read."""
    import sqlglot

    try:
        return sqlglot.parse_one(query, dialect=kind)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return None


def is_ordered(query: str, kind: str) -> bool:
    """Return whether the outermost query sorts its rows; where that is unclear, if any does."""
    tree = _tree(query, kind)
    return "order by" in query.casefold() if tree is None else bool(tree.args.get("order"))


def with_keys(query: str, kind: str) -> QueryWithKeys | None:
    """Return a query with the keys that it sorts by as its last columns; None if that is unclear.

    A key may be the number of a column, or what could stand in the list of columns as well.
    """
    from sqlglot import exp

    tree = _tree(query, kind)
    if not isinstance(tree, exp.Select) or not tree.args.get("order") or tree.args.get("distinct"):
        return None
    names = {} if tree.is_star else {
        column.alias.lower(): k for k, column in enumerate(tree.selects) if column.alias
    }  # fmt: skip
    columns: list[int] = []
    added: list[Any] = []
    for key in (ordered.this for ordered in tree.args["order"].expressions):
        if isinstance(key, exp.Literal) and key.is_int:
            columns.append(int(key.this) - 1)
        elif isinstance(key, exp.Column) and key.sql().lower() in names:
            columns.append(names[key.sql().lower()])
        else:
            added.append(key)
    longer = tree.select(*added) if added else tree
    return QueryWithKeys(longer.sql(dialect=kind), tuple(columns), len(added))


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
            query = fenced[1]
        else:
            query = text if _QUERY.match(text) else behind_marker(text) or text
        return query.strip().rstrip(";").strip() or None

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
        gold_rows, ends = _result(self, gold)
        try:
            rows = self._rows(self.read(answer) or "")
        except QueryError:
            return 0.0
        if len(rows) != len(gold_rows):
            return 0.0
        runs = zip([0, *ends], ends, strict=False)
        return float(all(_are_same(rows[a:b], gold_rows[a:b]) for a, b in runs))

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
    if not is_ordered(query, verifier._file.kind):
        return rows, (len(rows),)
    keys = _keys(verifier, query, rows) or range(len(rows))
    ends = [k for k in range(1, len(rows)) if keys[k] != keys[k - 1]]
    return rows, (*ends, len(rows))


def _keys(verifier: SqlResult, query: str, rows: tuple[Row, ...]) -> list[Any] | None:
    """Return what each row of a query is sorted by; None where that cannot be told."""
    longer = with_keys(query, verifier._file.kind)
    if longer is None or not rows:
        return None
    try:
        # The keys are the last columns of the longer query, which says how many its own are.
        more = verifier._rows(longer.query, n_added=longer.n_added, keys=longer.columns)
    except QueryError:
        return None
    return [row[2] for row in more] if [row[:2] for row in more] == [*rows] else None


def _are_same(some: Sequence[Row], gold: Sequence[Row]) -> bool:
    """Return whether rows are the same in any order."""
    if len(some) == 1:
        return _is_same(some[0], gold[0])
    if Counter(row[0] for row in some) != Counter(row[0] for row in gold):
        return False
    if Counter(some) == Counter(gold):
        return True
    pairs = zip(sorted(some), sorted(gold), strict=True)
    apart = [pair for pair in pairs if not _is_same(*pair)]
    if not apart or len(apart) > _MOST_PAIRED:
        return not apart
    return pairs_all([[_is_same(given, right) for _, right in apart] for given, _ in apart])


def _is_same(given: Row, gold: Row) -> bool:
    return bool(given[0] == gold[0]) and all(map(_is_near, given[1], gold[1]))


def _is_near(given: float, gold: float) -> bool:
    if given == gold or (isinstance(given, int) and isinstance(gold, int)):
        return given == gold
    try:
        return math.isclose(given, gold, rel_tol=_NEAR, abs_tol=_ZERO)
    except OverflowError:  # a whole number beyond the largest float
        return False
