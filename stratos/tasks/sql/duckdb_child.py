"""Run queries on a DuckDB file, one line of JSON each, with limits of time and memory.

    python -P duckdb_child.py FILE

reads {"query", "seconds", "most_rows", "digits"} from standard input, and writes {"rows"} or
{"error"}. It ends with its input, and when a query takes too long. This file is run by its path and
imports nothing of Stratos.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
from datetime import date, datetime, time, timedelta
from decimal import Decimal
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


def main() -> None:
    """Answer the lines of standard input."""
    import duckdb

    _limit_memory()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found: dict[str, Any] = {"rows": _rows(duckdb, sys.argv[1], asked)}
        except (duckdb.Error, MemoryError, ValueError, OverflowError) as error:
            found = {"error": str(error).partition("\n")[0]}
        print(json.dumps(found), flush=True)


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


def _rows(duckdb: Any, path: str, asked: dict[str, Any]) -> list[str]:
    """Return the digests of a query's rows.

    Raises:
        duckdb.Error, ValueError: it fails, is not allowed, or has too many rows.
    """
    with duckdb.connect(path, read_only=True, config=CONFIG) as database:
        statements = database.extract_statements(asked["query"])
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("not one query that reads")
        slow = threading.Timer(asked["seconds"], database.interrupt)
        slower = threading.Timer(asked["seconds"] + LATE_S, os._exit, (1,))
        for timer in (slow, slower):
            timer.daemon = True
            timer.start()
        try:
            rows = database.execute(statements[0]).fetchmany(asked["most_rows"] + 1)
            if len(rows) > asked["most_rows"]:
                raise ValueError(f"more than {asked['most_rows']:,} rows")
            return [_digest(row, asked["digits"]) for row in rows]
        finally:
            slow.cancel()
            slower.cancel()


def _digest(row: Any, digits: int) -> str:
    text = repr(_value(row, digits))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _value(value: Any, digits: int) -> Any:
    """Return a value as it is compared: numbers by their leading digits, whatever their type."""
    if isinstance(value, int | float | Decimal):
        with contextlib.suppress(OverflowError):  # whole numbers beyond all floats
            return f"{float(value):.{digits}g}"
        return str(value)
    if isinstance(value, list | tuple):
        return [_value(one, digits) for one in value]
    if isinstance(value, dict):
        return sorted((str(key), _value(one, digits)) for key, one in value.items())
    if isinstance(value, datetime | date | time | timedelta):
        return ("time", str(value))
    return value if value is None or isinstance(value, bytes) else ("text", str(value))


if __name__ == "__main__":
    main()
