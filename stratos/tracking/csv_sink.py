"""Files of comma-separated values in the run folder: `tracking/metrics.csv`, and one a table."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from typing_extensions import override

from stratos.core.atomic_files import write_atomically
from stratos.tracking.sink import Cell, Sink, Start, Table
from stratos.tracking.sink_thread import in_sinks_folder

_HEAD = ("time", "name", "value", "axis", "at")


class CsvSink(Sink):
    """One line a metric, added as it comes; a run that is gone on with adds to the file."""

    title = "CSV"

    def __init__(self) -> None:
        self._folder = Path()
        self._file: TextIO | None = None

    @override
    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        self._folder = in_sinks_folder(start.folder)
        path = self._folder / "metrics.csv"
        is_new = not path.exists() or path.stat().st_size == 0
        self._file = path.open("a", newline="", encoding="utf-8")
        if is_new:
            self._write([_HEAD])

    @override
    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        now = f"{time.time():.3f}"
        self._write([(now, name, value, axis, at) for name, value in metrics.items()])

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Write `summary.csv` anew."""
        write_atomically(self._folder / "summary.csv", as_csv(("name", "value"), values.items()))

    @override
    def table(self, table: Table) -> None:
        path = self._folder / f"{table.name.replace('/', '_')}.csv"
        write_atomically(path, as_csv(table.columns, table.rows))

    @override
    def finish(self, exit_code: int) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        assert self._file is not None
        csv.writer(self._file).writerows(rows)
        self._file.flush()


def as_csv(columns: tuple[str, ...], rows: object) -> bytes:
    """Return a table as a file of comma-separated values."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()
