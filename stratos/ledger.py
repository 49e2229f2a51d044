"""What was spent, and what may still be: an append-only file that no total may pass.

Two lines a call. The first is written before the call and sets aside the most that it can cost;
the second is written after it and says what it took. Threads, tasks and processes that share the
file see each other's lines before they add their own, so together they never pass the budget.

A reservation whose process died counts as spent in full: the call may have reached the provider,
and nobody can tell any more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from stratos.errors import BudgetError
from stratos.records import Interval

_ROUNDING_USD = 1e-12
"""Dollars by which a sum of floats may be off."""


@dataclass
class Reservation:
    """Money set aside for one call; `settle` says what it really took."""

    what: str
    usd_reserved: float
    usd_actual: float | None = None
    usd_so_far: float = 0.0
    """What is known to be spent of it already, where it pays for many calls; only shown."""
    id: str = field(default_factory=lambda: uuid4().hex[:16])
    facts: dict[str, int] = field(default_factory=dict)
    """What the money was paid for, such as input_tokens; written into the ledger."""

    def settle(self, usd: float, **facts: int) -> None:
        """Say what the call cost, and what was got for it."""
        self.usd_actual = usd
        self.facts = facts


@dataclass
class Ledger:
    """Append-only JSON lines: every paid thing, reserved before and settled after."""

    path: Path
    budget_usd: float | None = None
    cut_at_usd: float | None = None
    """Cap at which something was left out for want of money, since a stage set it to None."""
    stage: str = ""
    """Whose spending follows; it stands in every line, and a tighter cap than the budget holds
    for what this stage spends alone."""
    _spent_usd: float = field(default=0.0, init=False)
    _spent_in: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    """Dollars settled by stage."""
    _open: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)
    """The first lines of all reservations that have no second one, whoever wrote them."""
    _reserved_usd: float = field(default=0.0, init=False)
    _n_read: int = field(default=0, init=False, repr=False)
    _mine: dict[str, Reservation] = field(default_factory=dict, init=False, repr=False)
    """Reservations of this process that are open."""
    _tries: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)
    """Answers, and tries that may be billed and brought none, by what was paid for."""
    _torn: bool = field(default=False, init=False, repr=False)
    """True if the last line has no end: whoever wrote it was cut short."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Count what earlier runs in this folder spent, and settle what they left open."""
        if self.path.exists():
            with self._lock, self._exclusive() as file:
                for line in [one for one in self._open.values() if _is_dead(one)]:
                    self._append(file, _settled(line, line["reserved_usd"], note="not settled"))

    @property
    def spent_usd(self) -> float:
        """Dollars settled so far in this run folder."""
        return self._spent_usd

    @property
    def spent_here_usd(self) -> float:
        """Dollars settled so far by the present stage."""
        return self._spent_in.get(self.stage, 0.0)

    @property
    def reserved_usd(self) -> float:
        """Dollars set aside for calls that are under way."""
        return self._reserved_usd

    @property
    def usd_so_far(self) -> float:
        """Dollars spent so far, with what is known of reservations that are still open."""
        return self._spent_usd + sum(one.usd_so_far for one in list(self._mine.values()))

    def left_usd(self, limit_usd: float | None = None) -> float | None:
        """Return the dollars that are neither spent nor set aside; None without any limit.

        Args:
            limit_usd: a tighter cap than the budget, on what this stage spends.
        """
        caps = self._caps(limit_usd)
        left = (cap - spent - self.reserved_usd for cap, spent in caps)
        return max(0.0, min(left)) if caps else None

    def _caps(self, limit_usd: float | None) -> list[tuple[float, float]]:
        """Return each cap that holds, with what is spent of it."""
        both = (
            (self.budget_usd, self._spent_usd),
            (limit_usd, self.spent_here_usd),
        )
        return [(cap, spent) for cap, spent in both if cap is not None]

    def cap_usd(self, limit_usd: float | None = None) -> float | None:
        """Return what may be spent in all; None without any limit.

        Args:
            limit_usd: a tighter cap than the budget.
        """
        return min((cap for cap in (self.budget_usd, limit_usd) if cap is not None), default=None)

    def cut(self, limit_usd: float | None = None) -> None:
        """Remember that something is left out because the money ended.

        Args:
            limit_usd: a tighter cap than the budget.
        """
        self.cut_at_usd = self.cap_usd(limit_usd)

    def tries(self, what: str) -> tuple[int, int]:
        """Return how many tries brought an answer, and how many may be billed and brought none.

        Args:
            what: what was paid for, such as "teacher gpt-x".
        """
        return self._tries.get(what, (0, 0))

    @contextmanager
    def reserve(
        self, what: str, usd: float, limit_usd: float | None = None
    ) -> Iterator[Reservation]:
        """Set `usd` aside for one call and record what it settles at.

        Args:
            what: what is paid for, such as "teacher gpt-x".
            usd: the most that it can cost.
            limit_usd: a tighter cap than the budget, such as `limits.probe_usd`.

        Raises:
            BudgetError: the total with all open reservations would pass the cap.
        """
        reservation = self.take(what, usd, limit_usd)
        try:
            yield reservation
        finally:
            self.close(reservation)

    def take(self, what: str, usd: float, limit_usd: float | None = None) -> Reservation:
        """Set `usd` aside until `close`; for calls that no block of code spans.

        Args:
            what: what is paid for.
            usd: the most that it can cost.
            limit_usd: a tighter cap than the budget.

        Raises:
            BudgetError: the total with all open reservations would pass the cap.
        """
        reservation = Reservation(what, usd)
        if not usd:
            self._check(what, usd, limit_usd)
            return reservation
        with self._lock, self._exclusive() as file:
            self._check(what, usd, limit_usd)
            self._append(file, _opened(reservation, self.stage))
            self._mine[reservation.id] = reservation
        return reservation

    def foretell(self, what: str, usd: Interval, **facts: int) -> None:
        """Record what something is expected to cost; no money is set aside by that."""
        line = {"what": what, "expected_usd": usd.mean, "range_usd": [usd.low, usd.high], **facts}
        with self._lock, self._exclusive() as file:
            self._append(file, {**line, "at": round(time.time(), 3)})

    def close(self, reservation: Reservation) -> None:
        """Record what a reservation settled at; all of it, if it was never settled."""
        actual = reservation.usd_actual
        if actual is None:
            actual = reservation.usd_reserved
        if not (actual or reservation.usd_reserved):
            return
        with self._lock, self._exclusive() as file:
            self._mine.pop(reservation.id, None)
            line = self._open.get(reservation.id) or _opened(reservation, self.stage)
            self._append(file, _settled(line, actual, **reservation.facts))

    def _check(self, what: str, usd: float, limit_usd: float | None) -> None:
        for cap, spent in self._caps(limit_usd):
            if spent + self.reserved_usd + usd > cap + _ROUNDING_USD:
                raise BudgetError(
                    f"{what} may cost ${usd:.4f}, and ${spent:.4f} of ${cap:.2f} is spent: raise "
                    "limits.budget_usd or limits.probe_usd, or choose a cheaper teacher."
                )

    @contextmanager
    def _exclusive(self) -> Iterator[BinaryIO]:
        """Open the file for this process alone, with all lines of other processes counted."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if sys.platform != "win32":  # no flock there: one process a run folder
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._n_read)
            self._count(file.read())
            yield file

    def _append(self, file: BinaryIO, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        if self._torn:
            data = b"\n" + data
        file.write(data)
        file.flush()
        self._count(data)

    def _count(self, data: bytes) -> None:
        """Add lines to the totals; one that cannot be read is skipped."""
        if not data:
            return
        self._n_read += len(data)
        self._torn = not data.endswith(b"\n")
        for text in data.splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                if "usd" in line:
                    self._spent_usd += float(line["usd"])
                    stage = line.get("stage", "")
                    self._spent_in[stage] = self._spent_in.get(stage, 0.0) + float(line["usd"])
                    closed = self._open.pop(line.get("id"), None)
                    self._reserved_usd -= closed["reserved_usd"] if closed else 0.0
                    if "answers" in line:
                        n_answers, n_unanswered = self.tries(line["what"])
                        self._tries[line["what"]] = (
                            n_answers + int(line["answers"]),
                            n_unanswered + int(line["unanswered"]),
                        )
                elif "reserved_usd" in line and line["id"] not in self._open:
                    self._reserved_usd += float(line["reserved_usd"])
                    self._open[line["id"]] = line
        if not self._open:
            self._reserved_usd = 0.0  # no rounding is left behind


def _opened(reservation: Reservation, stage: str) -> dict[str, Any]:
    return {
        "id": reservation.id,
        "stage": stage,
        "what": reservation.what,
        "reserved_usd": reservation.usd_reserved,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "at": round(time.time(), 3),
    }


def _settled(line: dict[str, Any], usd: float, **more: Any) -> dict[str, Any]:
    """Return the second line of a reservation: planned at most, and actual."""
    return {
        "id": line["id"],
        "stage": line.get("stage", ""),
        "what": line["what"],
        "usd": usd,
        "planned_usd": line["reserved_usd"],
        **more,
        "at": round(time.time(), 3),
    }


def _is_dead(line: dict[str, Any]) -> bool:
    """Tell whether the process of an open reservation is gone; unknown counts as living."""
    if line.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(line["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False
