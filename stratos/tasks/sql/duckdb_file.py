"""Queries on a DuckDB file, each run in a child process: DuckDB's own limits do not hold.

A query that an untrained model writes may ask for a list of 200 million numbers. DuckDB's
`memory_limit` does not count what a single value takes, and `interrupt` may come half a minute late
(duckdb 2.0.1). The child has a limit of memory, and ends itself when a query takes too long.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.core.extras import install
from stratos.tasks.sql.query import DIGITS, QueryError, QueryLimits

MARK, MARK_AT = b"DUCK", 8
"""What a DuckDB file has at this byte."""
_CHILD = Path(__file__).with_name("duckdb_child.py")


def is_duckdb(path: Path) -> bool:
    """Return whether a file is DuckDB's."""
    try:
        with path.open("rb") as file:
            return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK
    except OSError:
        return False


def why_no_duckdb() -> str | None:
    """Return what to type if the package is not there; None if it is."""
    if importlib.util.find_spec("duckdb") is not None:
        return None
    return f"it is a DuckDB file, and the package duckdb is not installed: {install('duckdb')}"


@dataclass(frozen=True)
class DuckDbFile:
    """A DuckDB file that is opened for reading, without access to any other file."""

    path: Path

    def rows(self, query: str, limits: QueryLimits) -> tuple[Hashable, ...]:
        """Run one query; see `Database.rows`. A row is a digest of its values."""
        return _child(self.path, os.getpid()).rows(query, limits)


class _Child:
    """A process that runs queries one after another, and is started again after one ended it."""

    def __init__(self, path: Path) -> None:
        self._path, self._turn = path, threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def rows(self, query: str, limits: QueryLimits) -> tuple[Hashable, ...]:
        """Return the rows of a query.

        Raises:
            QueryError: it gives none.
        """
        asked = {"query": query, "digits": DIGITS, **asdict(limits)}
        with self._turn:
            found = self._asked(json.dumps(asked))
        if found is None:
            raise QueryError(f"more than {limits.seconds:g} seconds, or too much memory")
        if "error" in found:
            raise QueryError(found["error"])
        return tuple(found["rows"])

    def _asked(self, line: str) -> dict[str, Any] | None:
        """Return what the child answers; None if the query ended it."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), str(self._path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{line}\n")
            stdin.flush()
        if answer := stdout.readline():
            return json.loads(answer)
        self._process.wait()
        for pipe in (stdin, stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process = None
        return None


@lru_cache(maxsize=8)
def _child(path: Path, pid: int) -> _Child:
    """Return the child of a file and a process: a fork has its own."""
    return _Child(path)
