"""The ledger of one run folder: reserve money before a call, settle it after.

Two lines a call. The first is written before the call and sets aside the most that it can cost;
the second is written after it and says what it took.

A reservation whose process died counts as spent in full: the call may have reached the provider,
and nobody can tell any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from stratos.core.errors import BudgetError, OverspentError
from stratos.core.formats import exact_usd
from stratos.core.process import Process
from stratos.ledger.file import LedgerFile, now
from stratos.ledger.lines import (
    Expected,
    Extended,
    HandedIn,
    Leaving,
    Line,
    Opened,
    Overrun,
    Rented,
    Reserved,
    Settled,
    Shares,
    Totals,
)
from stratos.records import Interval

# A budget reservation for one call.


@dataclass
class Reservation:
    """Money set aside for one call; `settle` says what it really took."""

    what: str
    usd_reserved: float
    usd_actual: float | None = None
    usd_so_far: float = 0.0
    """What is known to be spent of it already, where it pays for many calls; only shown."""
    id: str = field(default_factory=lambda: uuid4().hex[:16])
    facts: dict[str, float] = field(default_factory=dict)
    """What the money was paid for, such as input_tokens; written into the ledger."""

    def settle(self, usd: float, **facts: float) -> None:
        """Say what the call cost, and what was got for it."""
        self.usd_actual = usd
        self.facts = facts


# Reservations of batch requests, which stay open when their process dies.


class BatchMoney:
    """The part of a ledger that knows of batches.

    Args:
        file: of the ledger.
        mine: reservations of this process that are open.
    """

    def __init__(self, file: LedgerFile, mine: dict[str, Reservation]) -> None:
        self._file, self._mine = file, mine

    def hand_in(self, what: str, batch: str, parts: dict[str, int]) -> None:
        """Record which reservations pay for a batch: they stay open where this process dies.

        Args:
            what: what is paid for.
            batch: by which it is known.
            parts: reservation to the number of the batch's questions that it pays for, in order.
        """
        ids, counts = tuple(parts), tuple(parts.values())
        with self._file.exclusive() as append:
            append(HandedIn(what=what, batch=batch, ids=ids, counts=counts, at=now()))

    def open(self, what: str) -> list[HandedIn]:
        """Return the batches of earlier processes that are not settled.

        Args:
            what: what is paid for.
        """
        by_batch = {
            line.batch: line
            for line in self._file.totals.of_batches().values()
            if line.what == what
        }
        return [
            line for line in by_batch.values() if not any(id_ in self._mine for id_ in line.ids)
        ]

    def n_under_way(self, what: str) -> int:
        """Return how many questions batches of earlier processes ask that are not settled."""
        return sum(sum(line.counts) for line in self.open(what))

    def adopt(self, id_: str) -> Reservation | None:
        """Take over an open reservation of another process; None if it is settled.

        Args:
            id_: of the reservation.
        """
        line = self._file.totals.open.get(id_)
        if line is None:
            return None
        self._mine[id_] = Reservation(line.what, line.reserved_usd, id=id_)
        return self._mine[id_]

    def leave(self, reservation: Reservation) -> None:
        """Leave a reservation that pays for a batch open, for whoever settles it."""
        self._mine.pop(reservation.id, None)


TEACHER = "teacher"
"""Role of what stages pay here: answers."""
_CHEAPER_CALLS = "raise limits.budget_usd or limits.probe_usd, or choose a cheaper teacher"
_ROUNDING_USD = 1e-12
"""Dollars by which a sum of floats may be off."""


@dataclass
class Ledger:
    """Append-only JSON lines: every paid thing, reserved before and settled after.

    Raises:
        LedgerError: the file is damaged, so that what was spent cannot be told.
    """

    path: Path
    budget_usd: float | None = None
    cut_at_usd: float | None = None
    """Cap at which something was left out for want of money, since a stage set it to None."""
    stage: str = ""
    """Whose spending follows; it stands in every line, and a tighter cap than the budget holds
    for what this stage spends alone."""
    is_alone: bool = False
    """True if no other process can be at work in this folder, on any machine."""
    _file: LedgerFile = field(init=False, repr=False)
    _mine: dict[str, Reservation] = field(default_factory=dict, init=False, repr=False)
    """Reservations of this process that are open."""
    batches: BatchMoney = field(init=False, repr=False)
    """What batches are paid from."""

    def __post_init__(self) -> None:
        """Count what earlier runs in this folder spent, and settle what they left open."""
        self._file = LedgerFile(self.path)
        self.batches = BatchMoney(self._file, self._mine)
        if not self.path.exists():
            self._file.check_whole()
            return
        with self._file.exclusive() as append:
            self._file.check_whole()
            under_way = self.totals.of_batches()
            for line in list(self.totals.open.values()):
                if isinstance(line, Rented):
                    if (owed := self.totals.owed_usd(line, time.time())) > 0:
                        append(Extended(id=line.id, reserved_usd=owed, at=now()))
                    continue
                if isinstance(line, Leaving):
                    continue  # whoever follows the job counts its bytes
                if line.id in under_way:
                    continue  # what it pays for goes on at the provider
                other_host = line.host != Process.this().host
                if line.process.is_dead() or (self.is_alone and other_host):
                    append(self._settled(line, line.reserved_usd, note="not settled"))

    @property
    def totals(self) -> Totals:
        """What all lines so far add up to."""
        return self._file.totals

    def exclusive(self) -> AbstractContextManager[Callable[[Line], None]]:
        """Hold the file alone, with all lines of others counted; yields what adds a line."""
        return self._file.exclusive()

    @property
    def spent_usd(self) -> float:
        """Dollars settled so far in this run folder."""
        return self.totals.spent_usd

    @property
    def spent_here_usd(self) -> float:
        """Dollars settled so far by the present stage."""
        return self.totals.spent_in.get(self.stage, 0.0)

    def spent_by(self, role: str) -> float:
        """Return the dollars settled so far for a role."""
        return self.totals.spent_by.get(role, 0.0)

    def spent_by_stage(self) -> dict[str, float]:
        """Return the dollars settled so far by each stage."""
        return dict(self.totals.spent_in)

    @property
    def reserved_usd(self) -> float:
        """Dollars set aside for calls that are under way."""
        return self.totals.reserved_usd

    @property
    def committed_usd(self) -> float:
        """Dollars that are spent, or set aside for what is under way."""
        return self.spent_usd + self.reserved_usd

    @property
    def usd_so_far(self) -> float:
        """Dollars spent so far, with what is known of reservations that are still open."""
        return self.spent_usd + sum(line.usd_so_far for line in list(self._mine.values()))

    def left_usd(self, limit_usd: float | None = None, role: str = TEACHER) -> float | None:
        """Return the dollars that are not spent, set aside or held; None without any limit.

        Args:
            limit_usd: a tighter cap than the budget, on what this stage spends.
            role: who would spend them.
        """
        caps = self._caps(limit_usd, role)
        remainders = (cap - spent - self.reserved_usd for cap, spent in caps)
        return max(0.0, min(remainders)) if caps else None

    def held_usd(self, role: str = TEACHER) -> dict[str, float]:
        """Return what the plan holds for each of the other roles.

        Args:
            role: who may not spend it.
        """
        return self.totals.held_usd(role)

    def _caps(self, limit_usd: float | None, role: str) -> list[tuple[float, float]]:
        """Return each cap that holds, with what is spent of it."""
        budget = self.budget_usd
        free = None if budget is None else budget - sum(self.held_usd(role).values())
        both = ((free, self.spent_usd), (limit_usd, self.spent_here_usd))
        return [(cap, spent) for cap, spent in both if cap is not None]

    def cap_usd(self, limit_usd: float | None = None, role: str = TEACHER) -> float | None:
        """Return what a role may spend in all; None without any limit.

        Args:
            limit_usd: a tighter cap than the budget.
            role: which.
        """
        caps = [] if limit_usd is None else [limit_usd]
        if self.budget_usd is not None:
            elsewhere_usd = (
                self.spent_usd - self.spent_by(role) + self.totals.set_aside_by_others(role)
            )
            caps.append(self.budget_usd - sum(self.held_usd(role).values()) - elsewhere_usd)
        return min(caps, default=None)

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
        return self.totals.tries.get(what, (0, 0))

    def overrun(self, what: str) -> Overrun:
        """Return by how much answers passed their ceilings so far, in this folder.

        Args:
            what: what was paid for.
        """
        return self.totals.overruns.get(what, Overrun())

    def shares(self, what: str) -> Shares:
        """Return which shares of their ceilings answers took, as far as they are settled.

        Args:
            what: what was paid for.
        """
        return self.totals.shares.get(what, Shares())

    def learn(self, what: str, overrun: Overrun) -> None:
        """Let later ceilings rise; the line of the reservation that saw it keeps it.

        Args:
            what: what was paid for.
            overrun: by how much.
        """
        self.totals.overruns[what] = self.overrun(what) | overrun

    def check_passed(self, why: str, limit_usd: float | None = None) -> None:
        """Refuse to go on behind a cap that is passed.

        Args:
            why: what passed it, as a sentence.
            limit_usd: a tighter cap than the budget, `limits.probe_usd`.

        Raises:
            OverspentError: more is spent or set aside than a cap allows.
        """
        keys = {"limits.budget_usd": self.budget_usd, "limits.probe_usd": limit_usd}
        given = [(key, value) for key, value in keys.items() if value is not None]
        for (key, value), (cap, spent) in zip(given, self._caps(limit_usd, TEACHER), strict=True):
            over = spent + self.reserved_usd - cap
            if over <= _ROUNDING_USD:
                continue
            less = self._said_of_held(TEACHER) if key == "limits.budget_usd" else ""
            raise OverspentError(
                f"{key}={value:g} is passed by up to {exact_usd(over)}{less}. {why} What was "
                f"answered is kept. To go on, give the same command with {key} above "
                f"{value + over:.4f}.",
                why,
            )

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

    def take(
        self, what: str, usd: float, limit_usd: float | None = None, *, is_owed: bool = False
    ) -> Reservation:
        """Set `usd` aside until `close`; for calls that no block of code spans.

        Args:
            what: what is paid for.
            usd: the most that it can cost.
            limit_usd: a tighter cap than the budget.
            is_owed: it is spent already, whatever the caps say.

        Raises:
            BudgetError: the total with all open reservations would pass the cap.
        """
        reservation = Reservation(what, usd)
        if not usd:
            self.check(what, usd, limit_usd)
            return reservation
        with self._file.exclusive() as append:
            if not is_owed:
                self.check(what, usd, limit_usd)
            append(self._opened(reservation))
            self._mine[reservation.id] = reservation
        return reservation

    def foretell(self, what: str, usd: Interval, **n: int) -> None:
        """Record what something is expected to cost; no money is set aside by that."""
        ends = (usd.low, usd.high)
        line = Expected(what=what, expected_usd=usd.mean, range_usd=ends, n=n, at=now())
        with self._file.exclusive() as append:
            append(line)

    def close(self, reservation: Reservation) -> None:
        """Record what a reservation settled at; all of it, if it was never settled."""
        actual = reservation.usd_actual
        if actual is None or not (math.isfinite(actual) and actual >= 0):
            actual = reservation.usd_reserved
        if not (actual or reservation.usd_reserved):
            return
        with self._file.exclusive() as append:
            self._mine.pop(reservation.id, None)
            line = self.totals.open.get(reservation.id) or self._opened(reservation)
            append(self._settled(line, actual, **reservation.facts))

    def check(
        self,
        what: str,
        usd: float,
        limit_usd: float | None = None,
        role: str = TEACHER,
        advice: str | None = None,
    ) -> None:
        """Check that so much may be set aside.

        Args:
            what: what is paid for.
            usd: the most that it can cost.
            limit_usd: a tighter cap than the budget.
            role: who spends it.
            advice: what costs less, where no stage has a cap of its own: of servers, of egress.

        Raises:
            BudgetError: the total with all open reservations would pass the cap.
        """
        for cap, spent in self._caps(limit_usd, role):
            over = spent + self.reserved_usd + usd - cap
            if over <= _ROUNDING_USD:
                continue
            aside, cure = "", _CHEAPER_CALLS
            if advice is not None:
                assert self.budget_usd is not None, "it is the only cap"
                metered = sum(self.totals.metered.values())
                spent += metered
                if (more := self.reserved_usd - metered) > _ROUNDING_USD:
                    aside = f", {exact_usd(more)} more set aside"
                needed = math.ceil(100 * (self.budget_usd + over) - 1e-6) / 100
                cure = f"type limits.budget_usd={needed:.2f} or more{advice}"
            raise BudgetError(
                f"{what} may cost {exact_usd(usd)}, and {exact_usd(spent)} of ${cap:.2f} is "
                f"spent{aside}{self._said_of_held(role)}: {cure}."
            )

    def _said_of_held(self, role: str) -> str:
        reserved = self.held_usd(role) if self.budget_usd is not None else {}
        if not reserved:
            return ""
        parts = ", ".join(f"${usd:.2f} for {name}" for name, usd in reserved.items())
        return f" (of limits.budget_usd={self.budget_usd:g} the plan holds {parts})"

    def settle(
        self, line: Rented | Leaving, usd: float, *, seconds: float = 0.0, n_bytes: int = 0
    ) -> None:
        """Record what servers cost and how long they ran, or what bytes cost that have left."""
        with self._file.exclusive() as append:
            server = line.server if isinstance(line, Rented) else ""
            append(self._settled(line, usd, seconds=seconds, n_bytes=n_bytes, server=server))

    def _opened(self, reservation: Reservation) -> Reserved:
        me = Process.this()
        return Reserved(
            id=reservation.id,
            what=reservation.what,
            reserved_usd=reservation.usd_reserved,
            stage=self.stage,
            role=TEACHER,
            host=me.host,
            pid=me.pid,
            boot=me.boot,
            started=me.started,
            at=now(),
        )

    def _settled(self, line: Opened, usd: float, **more: object) -> Settled:
        """Return the second line of a reservation: planned at most, and actual."""
        return Settled(
            id=line.id,
            stage=line.stage,
            what=line.what,
            role=line.role,
            usd=usd,
            planned_usd=self.totals.set_aside(line)
            if line.id in self.totals.open
            else line.reserved_usd,
            total_usd=self.spent_usd + usd,
            at=now(),
            **more,  # type: ignore[arg-type]
        )
