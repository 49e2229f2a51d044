"""Role budgets of the plan: a stage spends its role's reserve, then unreserved money.

The high end of what is planned for a role is held for it from when the plan is made. A role may
spend what is held for it, and beyond that what is held for nobody; never what is held for another.
What is left of a reserve is free as soon as the role is done, or another plan is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from stratos.ledger.file import now
from stratos.ledger.lines import Allotted, Released
from stratos.records import Plan

if TYPE_CHECKING:
    from stratos.ledger.book import Ledger

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
    held = {role: scale * (mean[role] + share * (high[role] - mean[role])) for role in ROLES}
    for role in jobs:
        more = min(high[role] - held[role], held["serve"])
        held[role], held["serve"] = held[role] + more, held["serve"] - more
    if trials_usd > held["serve"]:
        free = trials_usd if left_usd is None else max(0.0, left_usd - sum(held.values()))
        held["serve"] += min(trials_usd - held["serve"], free)
    return {role: usd for role, usd in held.items() if usd > 0}


def missing_usd(
    plan: Plan,
    held: Mapping[str, float],
    jobs: Collection[str],
    done: Collection[str] = (),
    trials_usd: float = 0.0,
) -> float:
    """Return what is held too little for the jobs of a plan to be submitted.

    Args:
        plan: what was planned.
        held: dollars by role.
        jobs: roles whose work is a job.
        done: as for `planned_usd`.
        trials_usd: the same.
    """
    high = _high_usd(plan, done)
    short = sum(max(0.0, high[role] - held.get(role, 0.0)) for role in jobs)
    return short + max(0.0, trials_usd - held.get("serve", 0.0))


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
    one = ledger.totals.reserves.get(role)
    if one is None or one.released_usd is not None:
        return
    with ledger.exclusive() as append:
        append(Released(role=role, usd=max(0.0, one.usd - one.spent_usd), at=now()))


def said(ledger: Ledger) -> str:
    """Return what is held, as a sentence without a full stop; "" where nothing is."""
    held = {role: one.usd for role, one in ledger.totals.reserves.items() if one.usd >= 0.005}
    if not held:
        return ""
    parts = ", ".join(f"${usd:.2f} for {role}" for role, usd in held.items())
    if ledger.budget_usd is None:
        return f"reserved: {parts}; limits.budget_usd is not set, so nothing is held to it"
    free = max(0.0, ledger.budget_usd - ledger.committed_usd - sum(held.values()))
    return f"reserved of limits.budget_usd={ledger.budget_usd:g}: {parts}; ${free:.2f} are free"
