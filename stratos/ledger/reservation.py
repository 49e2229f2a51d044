"""A budget reservation for one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4


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
