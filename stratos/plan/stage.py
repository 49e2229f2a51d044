"""The stage `plan`: offers, problem, solution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stratos.catalog import load_catalog
from stratos.plan.candidates import build_problem
from stratos.plan.solution import solve
from stratos.records import Plan, Probe

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.context import Context


def plan(config: Config, probe: Probe, context: Context) -> Plan:
    """Choose teacher, student, strategy and servers together, under the limits.

    Money that this run has spent already (the probe's paid teachers) is taken off the budget.

    Raises:
        CatalogError: a catalog is missing, empty or malformed, or has no such cloud or region.
        InfeasibleError: no plan meets the limits; the message says what to change.
    """
    context.tick(0, 3, "reading offers")
    catalog = load_catalog(config.cloud)
    for warning in catalog.warnings:
        context.warn(warning)
    context.tick(1, 3, f"{len(catalog.offers)} offers")
    problem = build_problem(config, probe, catalog)
    problem = replace(problem, spent_usd=context.ledger.spent_usd)
    context.tick(2, 3, f"{len(problem.candidates)} pairs")
    chosen = solve(problem)
    context.tick(3, 3, "planned")
    context.log(
        {
            "plan/usd": chosen.usd,
            "plan/hours": chosen.hours,
            "plan/latency_ms": chosen.latency_ms,
            "plan/score": chosen.score,
            "plan/accuracy": chosen.accuracy.mean,
            "plan/n_frontier": chosen.n_frontier,
        }
    )
    return chosen
