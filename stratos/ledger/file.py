"""The ledger file: lines are read, verified and appended under a lock.

Threads, tasks and processes that share the file see each other's lines before they add their own,
so together they pass no budget.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stratos.core.locks import opened_alone
from stratos.ledger.damage import Mark, lost, refusal
from stratos.ledger.lines import BadLine, Line, is_readable, read, written
from stratos.ledger.totals import Totals

_SYNC_SECONDS = 1.0
"""Of what is written so much may be lost where the power fails."""


def now() -> float:
    """Return the time as it stands in a line."""
    return round(time.time(), 3)


class LedgerFile:
    """Counts the lines of a file as far as they are read.

    Args:
        path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.totals = Totals()
        self._n_read = 0
        """Bytes of the lines that are counted."""
        self._tail = b""
        """What stands behind them: a line whose writer was cut short."""
        self._lacks_newline = False
        """True if the last line is whole but for its end."""
        self._synced_at = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[Line], None]]:
        """Hold the file alone, with all lines of others counted; yield what adds a line.

        Raises:
            LedgerError: it was damaged since it was read last, or a line cannot be read.
        """
        with self._lock, opened_alone(self.path) as file:
            if file.seek(0, os.SEEK_END) < self._n_read:
                raise refusal(self.path, f"{self.path} was cut short while this run used it")
            file.seek(self._n_read)
            self._count(file.read())
            yield lambda line: self._append(file, line)

    def check_whole(self) -> None:
        """Check that no line was lost since the file was written last.

        Raises:
            LedgerError: some were.
        """
        totals = self.totals
        n_bytes = self._n_read + len(self._tail)
        if why := lost(self.path, n_bytes, totals.spent_usd, totals.is_stated):
            raise refusal(self.path, why)

    def _append(self, file: BinaryIO, line: Line) -> None:
        if self._tail:  # whoever wrote it did not set its money aside
            file.truncate(self._n_read)
            self._tail = b""
        data = written(line)
        if self._lacks_newline:
            data = b"\n" + data
            self._lacks_newline = False
        file.write(data)
        file.flush()
        if time.monotonic() > self._synced_at + _SYNC_SECONDS:
            os.fsync(file.fileno())
            self._synced_at = time.monotonic()
        self._count(data)
        Mark(self._n_read, self.totals.spent_usd).write(self.path)

    def _count(self, data: bytes) -> None:
        """Add lines to the totals."""
        whole, end, self._tail = data.rpartition(b"\n")
        if not data:
            return
        for text in whole.split(b"\n"):
            if text.strip():
                self._add(text)
        self._n_read += len(whole) + len(end)
        self._lacks_newline = bool(self._tail) and is_readable(self._tail)
        if self._lacks_newline:
            self._add(self._tail)
            self._n_read += len(self._tail)
            self._tail = b""

    def _add(self, text: bytes) -> None:
        try:
            self.totals.add(read(text))
        except BadLine as error:
            why = f"{self.path}, line {self.totals.n_lines + 1}: {error}"
            raise refusal(self.path, why) from error
