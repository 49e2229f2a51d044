"""The ledger file: lines are read, verified and appended under a lock.

Threads, tasks and processes that share the file see each other's lines before they add their own,
so together they pass no budget.

Detect a ledger that is lost, truncated or edited.

Three things are held against each other: the running total in each line, the size that the file
had when it was last written (in `.ledger.json` beside it), and what the records of the stages say
that their answers cost.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import exact_usd
from stratos.core.process import opened_alone
from stratos.ledger.lines import (
    BadLine,
    Line,
    Reserved,
    Settled,
    Stated,
    Totals,
    is_readable,
    read,
    written,
)

_PAYING = ("probe", "pilot", "synthesize")
"""Stages whose record says what its answers cost."""
_ROUNDING_USD = 1e-6


class LedgerError(StratosError):
    """What a run has spent can no longer be told."""


class _Cost(msgspec.Struct):
    usd: float = 0.0
    teachers: list[_Cost] = []


class _Envelope(msgspec.Struct):
    record: _Cost


class Mark(msgspec.Struct, frozen=True):
    """How far a ledger had been written."""

    n_bytes: int
    spent_usd: float

    def write(self, ledger: Path) -> None:
        """Put it beside the ledger."""
        write_atomically(_mark_of(ledger), msgspec.json.encode(self), flushed=False)

    @staticmethod
    def read(ledger: Path) -> Mark | None:
        """Return the mark beside a ledger, None where there is none that can be read."""
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(_mark_of(ledger).read_bytes(), type=Mark)
        return None


def _mark_of(ledger: Path) -> Path:
    return ledger.with_name(f".{ledger.stem}.json")


def recorded_usd(folder: Path) -> float:
    """Return what the records of a run folder say that was paid for their answers."""
    usd = 0.0
    for stage in _PAYING:
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            data = (folder / f"{stage}.json").read_bytes()
            record = msgspec.json.decode(data, type=_Envelope).record
            usd += record.usd + sum(teacher.usd for teacher in record.teachers)
    return usd


def lost(ledger: Path, n_bytes: int, spent_usd: float, is_stated: bool) -> str:
    """Return why a ledger that was read whole has lost lines; "" where none are missed.

    Args:
        ledger: the file; it need not be there.
        n_bytes: its size.
        spent_usd: what its lines add up to.
        is_stated: a user has said what was spent before, whatever the records say.
    """
    mark = Mark.read(ledger)
    if mark is not None and n_bytes < mark.n_bytes:
        has = f"has {n_bytes:,} bytes" if ledger.exists() else "is gone"
        return f"{ledger} {has}; {mark.n_bytes:,} were written"
    if mark is not None and spent_usd < mark.spent_usd - _ROUNDING_USD:
        return f"{ledger} adds up to {exact_usd(spent_usd)}; it was {exact_usd(mark.spent_usd)}"
    recorded = 0.0 if is_stated else recorded_usd(ledger.parent)
    if spent_usd < recorded * (1 - 1e-3) - _ROUNDING_USD:
        has = f"adds up to {exact_usd(spent_usd)}" if ledger.exists() else "is not there"
        return (
            f"{ledger} {has}, and the records beside it say that {exact_usd(recorded)} were paid "
            "for their answers"
        )
    return ""


def refusal(ledger: Path, why: str) -> LedgerError:
    """Return the error that says what to do about a damaged ledger.

    Args:
        ledger: the file.
        why: what is wrong with it.
    """
    mark = Mark.read(ledger)
    known_usd = (
        _readable_usd(ledger),
        recorded_usd(ledger.parent),
        mark.spent_usd if mark else 0.0,
    )
    least = max(known_usd)
    return LedgerError(
        f"{why}. So it cannot be told what this run has spent, and nothing more is paid. Put the "
        f"file back as it was; or look up what was spent (at least {exact_usd(least)}, as far as "
        f"can be read here; the provider's usage page tells it) and type: stratos ledger "
        f"{ledger.parent} --spent-usd {least:.4f}"
    )


def _readable_usd(ledger: Path) -> float:
    """Return the dollars of all lines that can be read, calls that were never settled in full."""
    spent_usd, open_usd = 0.0, dict[str, float]()
    with suppress(OSError):
        for text in ledger.read_bytes().splitlines():
            with suppress(BadLine):
                line = read(text)
                if isinstance(line, Settled | Stated):
                    spent_usd += line.usd
                if isinstance(line, Settled):
                    open_usd.pop(line.id, None)
                elif isinstance(line, Reserved):
                    open_usd[line.id] = line.reserved_usd
    return spent_usd + sum(open_usd.values())


def set_aside(ledger: Path) -> Path | None:
    """Move a damaged ledger out of the way; return where it is now, None where there is none."""
    _mark_of(ledger).unlink(missing_ok=True)
    if not ledger.exists():
        return None
    n = 1
    while (aside := ledger.with_name(f"ledger.damaged-{n}.jsonl")).exists():
        n += 1
    return ledger.replace(aside)


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
