"""Money that is held for roles, rented servers and egress.

Role budgets of the plan: a stage spends its role's reserve, then unreserved money.

The high end of what is planned for a role is held for it from when the plan is made. A role may
spend what is held for it, and beyond that what is held for nobody; never what is held for another.
What is left of a reserve is free as soon as the role is done, or another plan is made.

Rented servers, billed by the second from launch to release.

A server costs money for as long as it runs, whoever watches it. So the money that is set aside for
it stays so where the process dies that rented it, and grows with the clock, until somebody says
when it was released.

Bytes that leave a cloud, at its price per GB: counted by whoever receives them.

The money for them is set aside before the server is launched that sends them. It stays so where the
process dies that receives them, until another one goes on to count.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import uuid4

from stratos.core.process import Process
from stratos.ledger.book import Ledger
from stratos.ledger.file import now
from stratos.ledger.lines import Allotted, Extended, Launched, Leaving, Metered, Released, Rented
from stratos.records import Plan

ROLES = ("teacher", "train", "serve", "egress")
"""What money is planned for."""
LEAST_HOURS = 0.25
"""Shortest time limit of a job, and what is reserved for one of unknown hours: what starts and
saves it takes minutes, and more is reserved while it runs."""


def planned_usd(
    plan: Plan,
    left_usd: float | None = None,
    returned_usd: float = 0.0,
    jobs: Collection[str] = (),
    done: Collection[str] = (),
    trials_usd: float = 0.0,
) -> dict[str, float]:
    """Return what to hold for each role: the high end of its dollars.

    For a hosted teacher that is as much more as its last call wants set aside.

    Args:
        plan: what was planned.
        left_usd: what there is for all of them; None without a budget. Where the high ends are
            more, each role is held its expected dollars and the same share of the way to its high
            end; where even the expected dollars are more, the same share of them.
        returned_usd: egress of what jobs send to the machine of the command, which no plan counts.
        jobs: roles whose work is a job, which is not submitted without the high end. What they are
            short of is taken from what is held for serving: nothing is served before they are done,
            and what they leave is free again then.
        done: roles whose work lies in the folder of the run, and is not paid again.
        trials_usd: what is set aside for the jobs that try the student, of the role that serves.
    """
    mean, high = dict.fromkeys(ROLES, 0.0), _high_usd(plan, done)
    for choice in plan.roles:
        if choice.role not in done:
            mean[choice.role] += choice.usd + choice.last_call_usd
    mean["egress"] = high["egress"] = plan.egress_usd + returned_usd
    share, scale = 1.0, 1.0
    if left_usd is not None and sum(high.values()) > left_usd:
        room, span = left_usd - sum(mean.values()), sum(high.values()) - sum(mean.values())
        share = max(0.0, room) / span if span > 0 else 0.0
        scale = min(1.0, left_usd / sum(mean.values())) if sum(mean.values()) else 1.0
    planned = {role: scale * (mean[role] + share * (high[role] - mean[role])) for role in ROLES}
    for role in jobs:
        more = min(high[role] - planned[role], planned["serve"])
        planned[role], planned["serve"] = planned[role] + more, planned["serve"] - more
    if trials_usd > planned["serve"]:
        free = trials_usd if left_usd is None else max(0.0, left_usd - sum(planned.values()))
        planned["serve"] += min(trials_usd - planned["serve"], free)
    return {role: usd for role, usd in planned.items() if usd > 0}


def missing_usd(
    plan: Plan,
    reserved: Mapping[str, float],
    jobs: Collection[str],
    done: Collection[str] = (),
    trials_usd: float = 0.0,
) -> float:
    """Return what is held too little for the jobs of a plan to be submitted.

    Args:
        plan: what was planned.
        reserved: dollars by role.
        jobs: roles whose work is a job.
        done: as for `planned_usd`.
        trials_usd: the same.
    """
    high = _high_usd(plan, done)
    short = sum(max(0.0, high[role] - reserved.get(role, 0.0)) for role in jobs)
    return short + max(0.0, trials_usd - reserved.get("serve", 0.0))


def enough_usd(
    plan: Plan, returned_usd: float = 0.0, done: Collection[str] = (), trials_usd: float = 0.0
) -> float:
    """Return the dollars from which on every job of a plan can be submitted.

    The high ends of all that comes before serving, and what tries the student; with less, what is
    held for one role may lack for another.

    Args:
        plan: what was planned.
        returned_usd: as for `planned_usd`.
        done: the same.
        trials_usd: the same.
    """
    high = _high_usd(plan, done)
    before = sum(usd for role, usd in high.items() if role != "serve")
    return before + plan.egress_usd + returned_usd + trials_usd


def _high_usd(plan: Plan, done: Collection[str] = ()) -> dict[str, float]:
    high = dict.fromkeys(ROLES, 0.0)
    for choice in plan.roles:
        if choice.role in done:
            continue
        high[choice.role] += max(choice.usd, *(choice.usd_range or (0.0,))) + choice.last_call_usd
    return high


def allot(ledger: Ledger, plan: str, usd: Mapping[str, float]) -> None:
    """Hold for each role what a plan counts with; what an earlier plan held is free.

    Where the same plan holds money of the same budget already, only roles are added that it did not
    hold any for, and egress grows: another executor may have its own, or more.

    Args:
        ledger: of the run.
        plan: its fingerprint; "" for none.
        usd: dollars by role.
    """
    before = ledger.totals.plan
    if before is None and not usd:
        return
    if before is not None and (before.plan, before.budget_usd) == (plan, ledger.budget_usd):
        egress = max(usd.get("egress", 0.0), before.usd.get("egress", 0.0))
        usd = {**usd, **before.usd, **({"egress": egress} if egress else {})}
        if usd == before.usd:
            return
    with ledger.exclusive() as append:
        append(Allotted(plan=plan, usd=dict(usd), budget_usd=ledger.budget_usd, at=now()))


def release(ledger: Ledger, role: str) -> None:
    """Free what is left of a role's reserve: the role is done.

    Args:
        ledger: of the run.
        role: which.
    """
    reserve = ledger.totals.reserves.get(role)
    if reserve is None or reserve.released_usd is not None:
        return
    with ledger.exclusive() as append:
        append(Released(role=role, usd=max(0.0, reserve.usd - reserve.spent_usd), at=now()))


def describe(ledger: Ledger) -> str:
    """Return what is held, as a sentence without a full stop; "" where nothing is."""
    reserved = {
        role: reserve.usd
        for role, reserve in ledger.totals.reserves.items()
        if reserve.usd >= 0.005
    }
    if not reserved:
        return ""
    parts = ", ".join(f"${usd:.2f} for {role}" for role, usd in reserved.items())
    if ledger.budget_usd is None:
        return f"reserved: {parts}; limits.budget_usd is not set, so nothing is held to it"
    free = max(0.0, ledger.budget_usd - ledger.committed_usd - sum(reserved.values()))
    return f"reserved of limits.budget_usd={ledger.budget_usd:g}: {parts}; ${free:.2f} are free"


_CHEAPER = {
    "teacher": ", or choose a teacher that takes fewer hours",
    "train": ", or train on fewer tokens with trainer.max_tokens=<tokens>",
    "serve": ", or ask fewer items with evaluate.n_items=<items>",
}
"""What makes the hours of a role's servers fewer."""
AHEAD_S = 60.0
"""Seconds for which the money must suffice beyond a look at the clock: a release takes time."""


def rent(
    ledger: Ledger,
    role: str,
    what: str,
    usd_per_hour: float,
    hours: float,
    min_seconds: float = 0.0,
    server: str = "",
    advice: str | None = None,
) -> Lease:
    """Set aside what servers will cost at most, before they are launched.

    Args:
        ledger: of the run.
        role: whose servers they are.
        what: named in the ledger's lines, such as "train 2 × aws/us-east-1 g5.xlarge".
        usd_per_hour: of all of them together.
        hours: that they will run at most, the high end of what is planned.
        min_seconds: that are billed at least.
        server: name of the offer that they are of.
        advice: what else to type where there is too little; None for what the role does.

    Raises:
        BudgetError: so much is neither held for the role nor free.
    """
    me = Process.this()
    line = Rented(
        id=uuid4().hex[:16],
        what=what,
        role=role,
        usd_per_hour=usd_per_hour,
        reserved_usd=usd_per_hour * hours,
        min_seconds=min_seconds,
        server=server,
        stage=ledger.stage,
        host=me.host,
        pid=me.pid,
        boot=me.boot,
        started=me.started,
        at=now(),
    )
    with ledger.exclusive() as append:
        text = _CHEAPER.get(role, "") if advice is None else advice
        ledger.check(what, line.reserved_usd, role=role, advice=text)
        append(line)
    return Lease(ledger, line)


def leases(ledger: Ledger) -> list[Lease]:
    """Return the servers that are rented and not released, whoever rented them."""
    lines = list(ledger.totals.open.values())
    return [Lease(ledger, line) for line in lines if isinstance(line, Rented)]


@dataclass
class Lease:
    """Servers of one role that are rented together."""

    ledger: Ledger
    line: Rented

    @property
    def launched_at(self) -> float | None:
        """When they were launched, in seconds since the epoch; None while they are not."""
        return self.ledger.totals.launched.get(self.line.id)

    @property
    def set_aside_usd(self) -> float:
        """What is set aside for them by now."""
        return self.ledger.totals.set_aside(self.line)

    def launch(self, at: float | None = None) -> None:
        """Say that they cost money from now on; before the call that launches them.

        Args:
            at: seconds since the epoch; None for now.
        """
        with self.ledger.exclusive() as append:
            append(Launched(id=self.line.id, at=now() if at is None else at))

    def usd(self, at: float | None = None) -> float:
        """Return what they have cost so far."""
        launched = self.launched_at
        if launched is None:
            return 0.0
        return self.line.usd(max(0.0, (time.time() if at is None else at) - launched))

    def meter(
        self, at: float | None = None, ahead_s: float = AHEAD_S, every_s: float = 0.0
    ) -> float:
        """Record what they have cost so far, and set more aside where that runs out.

        Args:
            at: seconds since the epoch; None for now.
            ahead_s: seconds for which there must be money from then on.
            every_s: seconds beyond that for which money is set aside, too, as far as there is any:
                until the next call.

        Returns:
            Seconds, at most `every_s`, after which there is no more than `ahead_s` set aside.

        Raises:
            BudgetError: no more is held for the role, or free. They have to be released.
        """
        at = time.time() if at is None else at
        usd, launched = self.usd(at), self.launched_at
        if launched is None:
            return every_s
        with self.ledger.exclusive() as append:
            append(Metered(id=self.line.id, seconds=at - launched, usd=usd, at=now()))
            short = self.usd(at + ahead_s) - self.set_aside_usd
            if short > 0:
                role = self.line.role
                self.ledger.check(self.line.what, short, role=role, advice=_CHEAPER.get(role, ""))
                more = self.usd(at + ahead_s + every_s) - self.set_aside_usd
                if (free := self.ledger.left_usd(role=role)) is not None:
                    more = max(short, min(more, free))
                append(Extended(id=self.line.id, reserved_usd=more, at=now()))
        if not self.line.usd_per_hour:
            return every_s
        lasts_s = (self.set_aside_usd - self.usd(at + ahead_s)) / self.line.usd_per_hour * 3600
        return min(every_s, max(0.0, lasts_s))

    def release(self, at: float | None = None) -> float:
        """Settle what they cost from launch to release; nothing if they were never launched.

        Args:
            at: when they were released, in seconds since the epoch; None for now.

        Returns:
            The dollars.
        """
        at = time.time() if at is None else at
        launched = self.launched_at
        seconds = 0.0 if launched is None else max(0.0, at - launched)
        usd = self.usd(at)
        self.ledger.settle(self.line, usd, seconds=seconds)
        return usd


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
