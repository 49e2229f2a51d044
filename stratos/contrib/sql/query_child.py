"""Run queries on a file of SQLite or DuckDB, one line of JSON each, with limits of time and memory.

    python -P query_child.py sqlite|duckdb FILE

reads {"query", "seconds", "most_rows"} from standard input, and writes {"rows"} or {"error"}. A row
is a digest of its values without numbers, and the numbers; with "keys" and "n_added", which say
what it is sorted by, a digest of that, too. It ends with its input, and when a query takes too
long. This file is run by its path and imports nothing of Stratos.
"""

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 2**30
"""Of address space, beyond what the process has at its start."""
LATE_S = 1.0
"""After an interrupt, until the process ends itself."""
CONFIG = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "threads": "1",
    "max_temp_directory_size": "0B",
    "lock_configuration": "true",
}
"""Of DuckDB."""
MAY = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
"""What a query of SQLite may do."""
NO_FUNCTION = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
LONGEST_VALUE = 2**20
"""Bytes of a value of SQLite."""
MOST_NUMBERS = 2_000_000
"""Of all rows of an answer."""


def main() -> None:
    """Answer the lines of standard input."""
    kind, path = sys.argv[1:]
    run, errors = (_of_sqlite, sqlite3.Error) if kind == "sqlite" else (_of_duckdb, _duckdb().Error)
    _limit_memory()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            rows = run(path, request)
            if len(rows) > request["most_rows"]:
                raise ValueError(f"more than {request['most_rows']:,} rows")
            answer: dict[str, Any] = {"rows": _all_digests(rows, request)}
        except (errors, MemoryError, ValueError) as error:
            answer = {"error": str(error).partition("\n")[0] or "too much memory"}
        print(json.dumps(answer), flush=True)


def _of_sqlite(path: str, request: dict[str, Any]) -> list[Any]:
    uri = f"{Path(path).as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        database.set_authorizer(_may)
        with _within(request["seconds"], database.interrupt):
            cursor = database.execute(request["query"])
            if cursor.description is None:
                raise ValueError("no query: it gives no rows")
            return cursor.fetchmany(request["most_rows"] + 1)


def _may(action: int, first: str | None, second: str | None, *_: Any) -> int:
    is_allowed = action in MAY and (second or "").casefold() not in NO_FUNCTION
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


def _duckdb() -> Any:
    import duckdb

    return duckdb


def _of_duckdb(path: str, request: dict[str, Any]) -> list[Any]:
    duckdb = _duckdb()
    with duckdb.connect(path, read_only=True, config=CONFIG) as database:
        statements = database.extract_statements(request["query"])
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("not one query that reads")
        with _within(request["seconds"], database.interrupt):
            return database.execute(statements[0]).fetchmany(request["most_rows"] + 1)


@contextlib.contextmanager
def _within(seconds: float, interrupt: Callable[[], None]) -> Any:
    """Interrupt what takes longer, and end the process where that does not help.

    Neither database looks at its clock within one step, such as a search in a long text.
    """
    slow = threading.Timer(seconds, interrupt)
    slower = threading.Timer(seconds + LATE_S, os._exit, (1,))
    for timer in (slow, slower):
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        slow.cancel()
        slower.cancel()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as file:
            n_pages = int(file.read().split()[0])
        most = n_pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _all_digests(rows: list[Any], request: dict[str, Any]) -> list[list[Any]]:
    digests, n_numbers = [], 0
    for row in rows:
        digests.append(_told(row, request))
        n_numbers += len(digests[-1][1])
        if n_numbers > MOST_NUMBERS:  # else whoever asks would read gigabytes of them
            raise ValueError(f"more than {MOST_NUMBERS:,} numbers")
    return digests


def _told(row: Any, request: dict[str, Any]) -> list[Any]:
    n = len(row) - request.get("n_added", 0)
    numbers: list[int | float] = []
    digests = [_digest(_value(row[:n], numbers)), numbers]
    if "keys" not in request:
        return digests
    return [*digests, _digest([*row[n:], *(row[k] for k in request["keys"])])]


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode(errors="surrogatepass")).hexdigest()[:32]


def _value(value: Any, numbers: list[int | float]) -> Any:
    """Return a value as it is compared, a day as its midnight; numbers are put into a list."""
    if isinstance(value, int | float | Decimal) and math.isfinite(value):
        is_whole = isinstance(value, int) or value == int(value)
        numbers.append(int(value) if is_whole else float(value))
        return "number"
    if isinstance(value, int | float | Decimal):
        return ("number", str(float(value)))
    if isinstance(value, list | tuple):
        return [_value(inner, numbers) for inner in value]
    if isinstance(value, dict):
        pairs = sorted(
            ((str(key), inner) for key, inner in value.items()), key=lambda pair: pair[0]
        )
        return [(key, _value(inner, numbers)) for key, inner in pairs]
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime | time | timedelta):
        return ("time", str(value))
    return value if value is None or isinstance(value, bytes) else ("text", str(value))


if __name__ == "__main__":
    main()
