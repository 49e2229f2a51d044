"""What was spent, and what may still be: an append-only file that no total may pass."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stratos.errors import BudgetError


@dataclass
class Reservation:
    """Money set aside for one call; `settle` says what it really took."""

    what: str
    usd_reserved: float
    usd_actual: float | None = None

    def settle(self, usd: float) -> None:
        """Say what the call cost."""
        self.usd_actual = usd


@dataclass
class Ledger:
    """Append-only JSON lines: every paid thing, reserved before and settled after."""

    path: Path
    budget_usd: float | None = None
    _spent_usd: float = field(default=0.0, init=False)
    _reserved_usd: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Count what earlier runs in this folder spent; a line cut short by a kill is skipped."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    self._spent_usd += float(json.loads(line)["usd"])
                except (json.JSONDecodeError, KeyError, TypeError, ValueError):
                    continue

    @property
    def spent_usd(self) -> float:
        """Dollars settled so far in this run folder."""
        return self._spent_usd

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
        caps = [cap for cap in (self.budget_usd, limit_usd) if cap is not None]
        with self._lock:
            total = self._spent_usd + self._reserved_usd + usd
            if caps and total > min(caps) + 1e-12:
                raise BudgetError(
                    f"{what} may cost ${usd:.4f}, and ${self._spent_usd:.4f} of "
                    f"${min(caps):.2f} is spent: raise limits.budget_usd or limits.probe_usd, "
                    "or choose a cheaper teacher."
                )
            self._reserved_usd += usd
        reservation = Reservation(what, usd)
        try:
            yield reservation
        finally:
            actual = reservation.usd_reserved
            if reservation.usd_actual is not None:
                actual = reservation.usd_actual
            with self._lock:
                self._reserved_usd -= usd
                self._spent_usd += actual
                if actual:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    with self.path.open("a") as file:
                        file.write(json.dumps({"what": what, "usd": actual}) + "\n")
