"""Files in `tracking/` of the run folder: comma-separated values, and events of TensorBoard."""

from __future__ import annotations

import csv
import importlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from typing_extensions import override

from stratos.core.atomic_files import write_atomically
from stratos.tracking.sink import Cell, Sink, Start, Table

_HEAD = ("time", "name", "value", "axis", "at")


class CsvSink(Sink):
    """One line a metric, added as it comes; a run that is gone on with adds to the file."""

    title = "CSV"

    def __init__(self) -> None:
        self._folder = Path()
        self._file: TextIO | None = None

    @override
    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        self._folder = start.own_folder()
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


_MOST_ROWS = 50
"""Of a table, which TensorBoard shows as one text."""
_FLUSH_S = 5
"""Seconds until what was written can be seen."""
_QUEUE = 1000


class TensorboardSink(Sink):
    """Scalars over gradient steps or seconds; tables and the summary as texts.

    Its event files are written without torch.
    """

    title = "TensorBoard"

    def __init__(self) -> None:
        root = "tensorboard"
        self._event: Any = importlib.import_module(f"{root}.compat.proto.event_pb2").Event
        self._scalar: Any = importlib.import_module(f"{root}.plugins.scalar.summary_v2")
        self._text: Any = importlib.import_module(f"{root}.plugins.text.summary_v2")
        self._files: Any = importlib.import_module(f"{root}.summary.writer.event_file_writer")
        self._writer: Any = None
        self._last: dict[str, int] = {}

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Open an event file; a run that is gone on with opens another beside it."""
        folder = start.own_folder()
        self._writer = self._files.EventFileWriter(str(folder), _QUEUE, _FLUSH_S)

    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        """Add scalars; what has no axis is counted."""
        for name, value in metrics.items():
            step = round(at) if axis else self._last.get(name, -1) + 1
            self._last[name] = step
            self._add(self._scalar.scalar_pb(name, float(value)), step)

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Show the summary as a table."""
        rows = [[name, value] for name, value in sorted(values.items())]
        self._write("summary", ("name", "value"), rows)

    def table(self, table: Table) -> None:
        """Show the first rows of a table."""
        self._write(table.name, table.columns, table.rows[:_MOST_ROWS])

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Show an alert as a text."""
        self._add(self._text.text_pb("alerts", f"**{title}** {text}"), 0)

    @override
    def finish(self, exit_code: int) -> None:
        self._writer.close()

    def _write(self, tag: str, columns: tuple[str, ...], rows: Any) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        self._add(self._text.text_pb(tag, text), 0)

    def _add(self, summary: Any, step: int) -> None:
        event = self._event(wall_time=time.time(), step=step, summary=summary)
        self._writer.add_event(event)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
