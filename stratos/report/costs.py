"""Money and time in three columns: planned there, spent here, and here at the plan's price.

A run on this machine is no run on the planned server, so the third column multiplies the hours
that were measured here with the planned server's price and is labelled as just that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.records import Plan, RoleChoice

ROLES = ("teacher", "train", "serve")


@dataclass(frozen=True)
class CostRow:
    """One role of the plan, what moves between them, spend of no role, or the total."""

    role: str
    server: str
    planned_usd: float | None
    planned_hours: float | None
    spent_usd: float
    measured_hours: float
    measured_usd: float | None
    """Measured hours at the planned price; None where nothing is rented or was measured."""
    stages: tuple[str, ...] = ()
    """The stages of this run whose time is counted here."""


@dataclass(frozen=True)
class Spend:
    """One line of the ledger."""

    what: str
    usd: float


def cost_rows(
    plan: Plan | None, records: Mapping[str, Any], spends: tuple[Spend, ...] = ()
) -> tuple[CostRow, ...]:
    """Return a row for each role, for egress, for spend that belongs to none, and the total.

    Args:
        plan: what was planned; None leaves the planned columns empty.
        records: stage name to its record, as far as the stages have run.
        spends: the ledger's lines; one that begins with a role's name belongs to that role.
    """
    seconds, stages = _measured(records)
    spent: dict[str, float] = defaultdict(float)
    for spend in spends:
        first = spend.what.split(maxsplit=1)[0] if spend.what.strip() else ""
        spent[first if first in ROLES else "other"] += spend.usd
    rows = []
    for role in ROLES:
        choices = plan.roles_of(role) if plan else ()
        measured_hours = seconds[role] / 3600
        price = _usd_per_hour(choices)
        rows.append(
            CostRow(
                role=role,
                server=" + ".join(map(_server, choices)),
                planned_usd=sum(choice.usd for choice in choices) if choices else None,
                planned_hours=max((choice.hours for choice in choices), default=None),
                spent_usd=spent[role],
                measured_hours=measured_hours,
                measured_usd=price * measured_hours
                if price is not None and measured_hours
                else None,
                stages=tuple(stages[role]),
            )
        )
    if plan is not None and plan.egress_usd:
        between = "data between regions and clouds"
        rows.append(CostRow("egress", between, plan.egress_usd, None, 0.0, 0.0, None))
    if spent["other"]:
        rows.append(CostRow("other", "", None, None, spent["other"], 0.0, None))
    rows.append(
        CostRow(
            role="total",
            server="",
            planned_usd=plan.usd if plan else None,
            planned_hours=plan.hours if plan else None,
            spent_usd=sum(row.spent_usd for row in rows),
            measured_hours=sum(row.measured_hours for row in rows),
            measured_usd=sum(row.measured_usd or 0.0 for row in rows) if plan else None,
        )
    )
    return tuple(rows)


def read_ledger(path: Path) -> tuple[Spend, ...]:
    """Read the ledger's lines; one that was cut short is skipped, as the ledger itself does."""
    spends = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                spends.append(Spend(str(entry["what"]), float(entry["usd"])))
            except (ValueError, KeyError, TypeError):
                continue
    return tuple(spends)


def stage_seconds(records: Mapping[str, Any]) -> dict[str, float]:
    """Return how long each stage of this run took."""
    return {name: record.seconds for name, record in records.items() if record is not None}


def _measured(records: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, list[str]]]:
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
    seconds: dict[str, float] = defaultdict(float)
    stages: dict[str, list[str]] = {role: [] for role in ROLES}
    for stage, took in stage_seconds(records).items():
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
