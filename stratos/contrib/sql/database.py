"""A file of SQLite or DuckDB that queries are run on, each in a child process.

What an untrained model writes may take any time and memory. SQLite and DuckDB look at their own
limits between steps, and one step may search a long text for minutes, or make a list of 200 million
numbers, which DuckDB's `memory_limit` does not count (duckdb 2.0.1). The child has a limit of
memory, and ends itself when a query takes too long.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.contrib.sql.words import DuckDbIsMissing
from stratos.core.reasons import Reason

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
        return _child(self, os.getpid()).rows(query, limits)


class _Child:
    """A process that runs queries one after another, and is started again after one ended it.

    It ends with this object, or with Python: `subprocess` keeps a process that nobody waits for.
    """

    def __init__(self, database: Database) -> None:
        self._command = [
            sys.executable, "-P", str(_CHILD), database.kind, str(database.path)
        ]  # fmt: skip
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] = lambda: None

    def rows(self, query: str, limits: QueryLimits) -> tuple[Row, ...]:
        """Return the rows of a query.

        Raises:
            QueryError: it gives none.
        """
        with self._turn:
            asked = {key: one for key, one in asdict(limits).items() if one is not None}
            found = self._asked(json.dumps({"query": query, **asked}))
        if found is None:
            raise QueryError(f"more than {limits.seconds:g} seconds, or too much memory")
        if "error" in found:
            raise QueryError(found["error"])
        return tuple((row[0], tuple(row[1]), *row[2:]) for row in found["rows"])

    def _asked(self, line: str) -> dict[str, Any] | None:
        """Return what the child answers; None if the query ended it."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            self._end = weakref.finalize(self, _end, self._process, os.getpid())
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{line}\n")
            stdin.flush()
        if answer := stdout.readline():
            found: dict[str, Any] = json.loads(answer)
            return found
        self._end()
        self._process = None
        return None


def _end(process: subprocess.Popen[str], parent: int) -> None:
    """Kill a process, wait for it and close its pipes; a fork of its parent leaves it alone."""
    if os.getpid() != parent:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            assert pipe is not None
            pipe.close()


@lru_cache(maxsize=8)
def _child(database: Database, pid: int) -> _Child:
    """Return the child of a file and a process: a fork has its own."""
    return _Child(database)
