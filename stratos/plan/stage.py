"""The stage `plan`: offers, problem, solution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stratos.catalog import Catalog, load_catalog
from stratos.estimate import calibration
from stratos.plan.candidates import build_problem
from stratos.plan.history import history_for
from stratos.plan.kept import Kept
from stratos.plan.problem import Problem
from stratos.plan.solution import solve
from stratos.plan.variants import Variants
from stratos.records import Pilot, Plan, Probe
from stratos.words import counted

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.context import Context


def plan(config: Config, probe: Probe, context: Context, pilot: Pilot | None = None) -> Plan:
    """Choose teacher, student, strategy and servers together, under the limits.

    Money that this run has spent already (the paid teachers of probe and pilot) is taken off the
    budget. Answers of paid teachers that are kept from before are not priced again.

    Args:
        config: the run.
        probe: what the teachers showed.
        context: folders, ledger and a way to be heard.
        pilot: short trainings that accuracies are extrapolated from.

    Raises:
        CatalogError: a catalog is missing, empty or malformed, or has no such cloud or region.
        InfeasibleError: no plan meets the limits; the message says what to change.
    """
    context.tick(0, 3, "reading offers")
    catalog = load_catalog(config.cloud, cache_dir=context.cache_dir)
    for warning in catalog.warnings:
        context.warn(warning)
    context.tick(1, 3, counted(len(catalog.offers), "offer"))
    history = history_for(config, context.run_dir)
    machine = calibration(context.cache_dir) if "local" in config.cloud.clouds else None
    kept = Kept(config, context.cache_dir)

    def build(config: Config, catalog: Catalog) -> Problem:
        problem = build_problem(config, probe, catalog, history, pilot, machine, kept)
        return replace(problem, spent_usd=context.ledger.spent_usd)

    problem = build(config, catalog)
    context.tick(2, 3, counted(len(problem.candidates), "pair"))
    chosen = solve(problem, variants=Variants(config, catalog, build, context.cache_dir))
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
    return replace(chosen, history=history)
