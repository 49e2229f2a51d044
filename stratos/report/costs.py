"""The cost table: planned, spent, and measured hours at the plan's price.

A run on this machine is no run on the planned server, so the third column multiplies the hours
that were measured with the planned server's price and is labelled as just that. A stage that ran
as a job has the hours of all its attempts, as the ledger has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stratos.ledger.lines import BadLine, Line, Reserve, Settled, Stated, Totals, read
from stratos.records import NO_TEACHER, Plan, RoleChoice

ROLES = ("teacher", "train", "serve")


@dataclass(frozen=True)
class CostRow:
    """One role of the plan, what moves between them, spend of no role, or the total."""

    role: str
    server: str = ""
    planned_usd: float | None = None
    planned_hours: float | None = None
    spent_usd: float = 0.0
    measured_hours: float = 0.0
    measured_usd: float | None = None
    """Measured hours at the planned price; None where nothing is rented or was measured."""
    stages: tuple[str, ...] = ()
    """The stages of this run whose time is counted here."""
    reserve: Reserve | None = None
    """What the plan holds for the role; None where it holds nothing."""


_BEFORE_PLAN = frozenset(("probe", "pilot", "plan"))


@dataclass(frozen=True)
class Spend:
    """One line of the ledger."""

    what: str
    usd: float
    role: str
    """Whose money it was."""
    stage: str = ""
    seconds: float = 0.0
    """That servers were held for it; 0 for all that is paid otherwise."""
    server: str = ""
    """Name of the offer that these servers are of; "" where the line does not tell."""

    @property
    def is_before_plan(self) -> bool:
        """Whether a plan does not count it, however late it was made: a user may state some."""
        return self.stage in _BEFORE_PLAN or (not self.stage and self.role == "other")


def cost_rows(
    plan: Plan | None,
    records: Mapping[str, Any],
    spends: tuple[Spend, ...] = (),
    reserves: Mapping[str, Reserve] = MappingProxyType({}),
) -> tuple[CostRow, ...]:
    """Return a row for each role, for egress, for spend that belongs to none, and the total.

    Args:
        plan: what was planned; None leaves the planned columns empty.
        records: stage name to its record, as far as the stages have run.
        spends: the ledger's lines.
        reserves: what the plan holds, by role.
    """
    seconds, stages = _measured(records, spends)
    spent: dict[str, float] = defaultdict(float)
    for spend in spends:
        spent[spend.role if spend.role in (*ROLES, "egress") else "other"] += spend.usd
    rows = []
    roles: tuple[str, ...] = ROLES
    if plan is not None and plan.teacher == NO_TEACHER:
        roles = ("train", "serve")
        seconds["train"] += seconds["teacher"]  # the probe measured students
        stages["train"] = stages["teacher"] + stages["train"]
    for role in roles:
        choices = plan.roles_of(role) if plan else ()
        hours = seconds[role] / 3600
        price = _usd_per_hour(choices)
        rows.append(
            CostRow(
                role=role,
                server=" + ".join(map(_server, choices)),
                planned_usd=sum(choice.usd for choice in choices) if choices else None,
                planned_hours=max((choice.hours for choice in choices), default=None),
                spent_usd=spent[role],
                measured_hours=hours,
                measured_usd=None if price is None or not hours else price * hours,
                stages=tuple(stages[role]),
                reserve=reserves.get(role),
            )
        )
    if spent["egress"] or (plan is not None and plan.egress_usd):
        rows.append(
            CostRow(
                "egress",
                "data that leaves regions and clouds",
                planned_usd=plan.egress_usd if plan is not None else None,
                spent_usd=spent["egress"],
                reserve=reserves.get("egress"),
            )
        )
    if spent["other"]:
        rows.append(CostRow("other", spent_usd=spent["other"]))
    rows.append(
        CostRow(
            role="total",
            planned_usd=plan.usd if plan else None,
            planned_hours=plan.hours if plan else None,
            spent_usd=sum(row.spent_usd for row in rows),
            measured_hours=sum(row.measured_hours for row in rows),
            measured_usd=sum(row.measured_usd or 0.0 for row in rows) if plan else None,
            reserve=_total(reserves.values()) if reserves else None,
        )
    )
    return tuple(rows)


def _total(reserves: Iterable[Reserve]) -> Reserve:
    whole = Reserve(0.0)
    for reserve in reserves:
        whole.usd += reserve.usd
        whole.spent_usd += reserve.spent_usd
        if reserve.released_usd is not None:
            whole.released_usd = (whole.released_usd or 0.0) + reserve.released_usd
    return whole


def read_ledger(path: Path) -> tuple[Spend, ...]:
    """Read what was paid; a line that was cut short is skipped, as the ledger itself does."""
    spends = []
    for line in _lines(path):
        if isinstance(line, Settled):
            paid = Spend(line.what, line.usd, line.role, line.stage, line.seconds, line.server)
            spends.append(paid)
        elif isinstance(line, Stated):
            spends.append(Spend(line.what, line.usd, "other"))
    return tuple(spends)


def read_reserves(path: Path) -> Mapping[str, Reserve]:
    """Read what the plan holds, by role."""
    return _totals(path).reserves


def running_usd(path: Path) -> float:
    """Return what servers that are rented now have cost when they were looked at last."""
    totals = _totals(path)
    return sum(totals.metered.get(id, 0.0) for id in totals.open)


def _totals(path: Path) -> Totals:
    totals = Totals()
    for line in _lines(path):
        with suppress(BadLine):
            totals.add(line)
    return totals


def _lines(path: Path) -> Iterator[Line]:
    if path.exists():
        for text in path.read_bytes().splitlines():
            with suppress(BadLine):
                yield read(text)


def metered(spends: Iterable[Spend], stage: str) -> list[Spend]:
    """Return the attempts of a stage that servers were held for, one for each time."""
    return [spend for spend in spends if spend.stage == stage and spend.seconds]


def stage_seconds(records: Mapping[str, Any], spends: Sequence[Spend] = ()) -> dict[str, float]:
    """Return how long each stage of this run took, attempts that were killed or preempted included.

    Args:
        records: stage name to its record, as far as the stages have run.
        spends: the ledger's lines.
    """
    took = {
        name: record.seconds + getattr(record, "setup_seconds", 0.0)
        for name, record in records.items()
        if hasattr(record, "seconds")
    }
    for stage in dict.fromkeys(spend.stage for spend in spends if spend.seconds):
        # A record lacks what a killed attempt did after its last checkpoint; the ledger lacks what
        # ran on this machine. Neither counts anything twice.
        metered_s = sum(spend.seconds for spend in metered(spends, stage))
        took[stage] = max(took.get(stage, 0.0), metered_s)
    return took


def _measured(
    records: Mapping[str, Any], spends: Sequence[Spend]
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Give the time of every stage to the role whose server would have done it."""
    corpus = records.get("synthesize")
    asks_teacher = corpus is not None and corpus.teacher_tokens > 0
    role_of = {
        "probe": "teacher",
        "pilot": "train",
        "synthesize": "teacher" if asks_teacher else "train",
        "distill": "train",
        "evaluate": "serve",
        "deploy": "serve",
    }
    # Time stands beside the money that was paid for it.
    role_of |= {
        spend.stage: spend.role for spend in spends if spend.seconds and spend.role in ROLES
    }
    seconds: dict[str, float] = defaultdict(float)
    stages: dict[str, list[str]] = {role: [] for role in ROLES}
    for stage, took in stage_seconds(records, spends).items():
        if stage in role_of:
            seconds[role_of[stage]] += took
            stages[role_of[stage]].append(stage)
    return seconds, stages


def _usd_per_hour(choices: Sequence[RoleChoice]) -> float | None:
    """Return what all servers of a role cost an hour; None where nothing is rented."""
    rented = [(choice, choice.offer) for choice in choices if choice.offer is not None]
    if not rented:
        return None
    usd = 0.0
    for choice, offer in rented:
        spot = offer.usd_per_hour_spot
        usd += choice.count * (spot if choice.spot and spot is not None else offer.usd_per_hour)
    return usd


def _server(choice: RoleChoice) -> str:
    if choice.offer is None:
        return choice.note or "no server"
    times = f"{choice.count} × " if choice.count > 1 else ""
    return f"{times}{choice.offer.name}{', spot' if choice.spot else ''}"
