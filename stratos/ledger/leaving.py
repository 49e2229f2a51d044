"""Bytes that leave a cloud, at its price per GB: counted by whoever receives them.

The money for them is set aside before the server is launched that sends them. It stays so where the
process dies that receives them, until another one goes on to count.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from stratos.ledger.book import Ledger
from stratos.ledger.file import now
from stratos.ledger.lines import Extended, Leaving, Metered

ROLE = "egress"
_ROUNDING_USD = 1e-9


def expect(ledger: Ledger, what: str, usd_per_gb: float, gb: float, counter: int) -> Leave:
    """Set aside what bytes will cost at most.

    Args:
        ledger: of the run.
        what: named in the ledger's lines, such as "egress of aws for stratos-run-1a2b3c-distill".
        usd_per_gb: price of the cloud that they leave.
        gb: GB (10^9 bytes) that are expected, the high end.
        counter: of the bytes that have come before.

    Raises:
        BudgetError: so much is neither held for egress nor free.
    """
    line = Leaving(
        id=uuid4().hex[:16],
        what=what,
        reserved_usd=usd_per_gb * gb,
        usd_per_gb=usd_per_gb,
        bytes_before=counter,
        stage=ledger.stage,
        at=now(),
    )
    with ledger.exclusive() as append:
        ledger.check(what, line.reserved_usd, role=ROLE, advice="")
        append(line)
    return Leave(ledger, line)


def leaves(ledger: Ledger) -> list[Leave]:
    """Return what is set aside for bytes and not settled, whoever did so."""
    lines = list(ledger.totals.open.values())
    return [Leave(ledger, line) for line in lines if isinstance(line, Leaving)]


@dataclass
class Leave:
    """Bytes of one job that leave one cloud."""

    ledger: Ledger
    line: Leaving

    @property
    def set_aside_usd(self) -> float:
        """What is set aside for them by now."""
        return self.ledger.totals.set_aside(self.line)

    def gb(self, counter: int) -> float:
        """Return GB that have left by a state of the counter."""
        return self.line.n_bytes(counter) / 1e9

    def covers(self, counter: int, ahead_gb: float) -> bool:
        """Return whether enough is set aside for what has left, and for more.

        Args:
            counter: of the bytes by now.
            ahead_gb: GB of what may leave after that.
        """
        usd = self.line.usd(counter) + ahead_gb * self.line.usd_per_gb
        return usd <= self.set_aside_usd + _ROUNDING_USD

    def meter(self, counter: int, ahead_gb: float) -> None:
        """Record what they have cost so far, and set more aside where that runs out.

        Args:
            counter: of the bytes by now.
            ahead_gb: GB for which there must be money from then on: what is left to be saved.

        Raises:
            BudgetError: no more is held for egress, or free. The job has to end.
        """
        usd = self.line.usd(counter)
        with self.ledger.exclusive() as append:
            n_bytes = self.line.n_bytes(counter)
            append(Metered(id=self.line.id, usd=usd, n_bytes=n_bytes, at=now()))
            short = usd + ahead_gb * self.line.usd_per_gb - self.set_aside_usd
            if short > 0:
                self.ledger.check(self.line.what, short, role=ROLE, advice="")
                append(Extended(id=self.line.id, reserved_usd=short, at=now()))

    def settle(self, counter: int) -> float:
        """Settle what they cost, and return the dollars.

        Args:
            counter: of the bytes in the end.
        """
        usd = self.line.usd(counter)
        self.ledger.settle(self.line, usd, n_bytes=self.line.n_bytes(counter))
        return usd
