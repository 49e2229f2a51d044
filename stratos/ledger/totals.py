"""Totals over the lines of a ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from stratos.core.money import exact_usd
from stratos.ledger.lines import (
    Allotted,
    BadLine,
    Expected,
    Extended,
    HandedIn,
    Launched,
    Leaving,
    Line,
    Metered,
    Opened,
    Overrun,
    Released,
    Rented,
    Reserved,
    Settled,
    Shares,
    Stated,
)

_ROUNDING = 1e-6
"""Share by which a running total may be off."""


@dataclass
class Reserve:
    """What a plan holds for one role."""

    usd: float
    spent_usd: float = 0.0
    """Since the plan was made."""
    released_usd: float | None = None
    """What was left when the role was done; None while it is not."""


@dataclass
class Totals:
    """What all lines so far add up to."""

    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    n_lines: int = 0
    spent_in: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Dollars settled by stage."""
    spent_by: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Dollars settled by role."""
    open: dict[str, Opened] = field(default_factory=dict)
    """Reservations that are not settled, whoever made them."""
    extended: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """What was set aside for them later."""
    launched: dict[str, float] = field(default_factory=dict)
    """When the servers of a reservation were launched, in seconds since the epoch."""
    metered: dict[str, float] = field(default_factory=dict)
    """What open reservations have cost so far, of what runs on: servers, and bytes that leave."""
    plan: Allotted | None = None
    reserves: dict[str, Reserve] = field(default_factory=dict)
    """What the plan holds, by role."""
    earlier: dict[str, dict[str, Reserve]] = field(default_factory=dict)
    """What plans before this one held, by fingerprint; one of them may be taken up again."""
    tries: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Answers, and tries that may be billed and brought none, by what was paid for."""
    overruns: dict[str, Overrun] = field(default_factory=dict)
    """By what was paid for."""
    shares: dict[str, Shares] = field(default_factory=dict)
    """By what was paid for."""
    batches: dict[str, HandedIn] = field(default_factory=dict)
    """Those that were handed in."""
    is_stated: bool = False
    """Whether a user said what was spent before."""

    def add(self, line: Line) -> None:
        """Count one line.

        Raises:
            BadLine: its running total does not fit.
        """
        match line:
            case Reserved() | Rented() | Leaving():
                self._open(line)
            case Settled():
                self._settle(line)
            case Stated():
                self.is_stated = True
                self._spend(line.usd, "", "other", line.total_usd)
            case HandedIn():
                self.batches[line.batch] = line
            case Allotted():
                self._allot(line)
            case Released() if line.role in self.reserves:
                self.reserves[line.role].released_usd = line.usd
            case Launched():
                self.launched.setdefault(line.id, line.at)
            case Extended() if line.id in self.open:
                self.extended[line.id] += line.reserved_usd
                self.reserved_usd += line.reserved_usd
            case Metered() if line.id in self.open:
                self.metered[line.id] = line.usd
            case Expected() | Metered() | Released() | Extended():
                pass
        self.n_lines += 1

    def of_batches(self) -> dict[str, HandedIn]:
        """Return which batch each open reservation pays for that pays for one."""
        return {
            id_: batch for batch in self.batches.values() for id_ in batch.ids if id_ in self.open
        }

    def set_aside(self, line: Opened) -> float:
        """Return what is set aside for a reservation by now."""
        return line.reserved_usd + self.extended.get(line.id, 0.0)

    def owed_usd(self, line: Rented, at: float) -> float:
        """Return by how much servers have cost more by now than is set aside for them.

        Args:
            line: the servers.
            at: seconds since the epoch.
        """
        launched = self.launched.get(line.id)
        if launched is None:
            return 0.0
        return max(0.0, line.usd(at - launched) - self.set_aside(line))

    def set_aside_by_others(self, role: str) -> float:
        """Return what is set aside for what roles other than one have under way."""
        lines = list(self.open.values())
        return sum(self.set_aside(line) for line in lines if line.role != role)

    def held_usd(self, role: str) -> dict[str, float]:
        """Return what is held for each of the other roles, and neither spent nor set aside yet.

        Args:
            role: whose money it is not.
        """
        held = {
            name: one.usd - one.spent_usd
            for name, one in self.reserves.items()
            if name != role and one.released_usd is None
        }
        for line in list(self.open.values()) if held else ():
            if (name := line.role) in held:
                held[name] -= self.set_aside(line)
        return {name: usd for name, usd in held.items() if usd > 0}

    def _allot(self, line: Allotted) -> None:
        """Take the reserves of a plan; what was spent of them under the same plan stays spent."""
        same = self.plan is not None and self.plan.plan == line.plan
        if self.plan is not None and not same:
            self.earlier[self.plan.plan] = self.reserves
        before = self.reserves if same else self.earlier.get(line.plan, {})
        # With the budget of before, roles are added, and those that are done stay so.
        is_more = same and self.plan is not None and self.plan.budget_usd == line.budget_usd
        self.plan = line
        self.reserves = {}
        for role, usd in line.usd.items():
            one = before.get(role, Reserve(usd))
            released = one.released_usd if is_more else None
            self.reserves[role] = Reserve(usd, one.spent_usd, released)

    def _open(self, line: Opened) -> None:
        if line.id not in self.open:
            self.reserved_usd += line.reserved_usd
            self.open[line.id] = line

    def _settle(self, line: Settled) -> None:
        self._spend(line.usd, line.stage, line.role, line.total_usd)
        if line.role in self.reserves:
            self.reserves[line.role].spent_usd += line.usd
        if (opened := self.open.get(line.id)) is not None:
            self.reserved_usd -= self.set_aside(opened)
            for known in (self.open, self.extended, self.launched, self.metered):
                known.pop(line.id, None)
        if not self.open:
            self.reserved_usd = 0.0  # no rounding is left behind
        n_answers, n_unanswered = self.tries.get(line.what, (0, 0))
        self.tries[line.what] = n_answers + line.answers, n_unanswered + line.unanswered
        self.overruns[line.what] = self.overruns.get(line.what, Overrun()) | line.overrun
        self.shares[line.what] = self.shares.get(line.what, Shares()) + line.shares

    def _spend(self, usd: float, stage: str, role: str, total_usd: float) -> None:
        after = self.spent_usd + usd
        if abs(after - total_usd) > _ROUNDING * max(1.0, total_usd):
            raise BadLine(
                f"its running total is {exact_usd(total_usd)}, and the lines before it add up to "
                f"{exact_usd(after)}"
            )
        self.spent_usd = after
        self.spent_in[stage] += usd
        self.spent_by[role] += usd
