"""The stage `plan`: offers, problem, solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from stratos.catalog import Catalog, load_catalog
from stratos.core.counted import counted
from stratos.core.errors import InfeasibleError
from stratos.estimate import calibration
from stratos.plan.accuracy.history import history_for, recipe_of
from stratos.plan.accuracy.predict import hardly_learnt, needs_no_model
from stratos.plan.explain.whatif import Variants
from stratos.plan.options.candidates import build_problem, this_machine
from stratos.plan.options.hosted import Kept
from stratos.plan.options.role_options import nodes_unknown
from stratos.plan.problem import Problem
from stratos.plan.solution import solve
from stratos.plan.until_report import AFTER, stage_times
from stratos.plan.ways import open_ways
from stratos.plan.worth import verdict_of, why_no_verdict, worth_of
from stratos.records import Pilot, Plan, Probe

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.core.context import Context


def plan(config: Config, probe: Probe, context: Context, pilot: Pilot | None = None) -> Plan:
    """Choose teacher, student, strategy and servers together, under the limits.

    Money that this run has spent already (the paid teachers of probe and pilot) is taken off the
    budget, and the hours of probe and pilot off the deadline. Answers of paid teachers that are
    kept from before are not priced again.

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
    if why := nodes_unknown(config, catalog):
        context.warn(str(why))
    context.tick(1, 3, counted(len(catalog.offers), "offer"))
    history = history_for(config, context.run_dir)
    machine = this_machine(config, context.cache_dir)
    spent_seconds = probe.seconds + (pilot.seconds if pilot is not None else 0.0)
    kept = Kept(config, context.cache_dir, context.ledger)

    def build(config: Config, catalog: Catalog, with_hopeless: bool = False) -> Problem:
        problem = build_problem(
            config, probe, catalog, history, pilot, machine, kept, with_hopeless=with_hopeless
        )
        return replace(
            problem, spent_usd=context.ledger.committed_usd, spent_hours=spent_seconds / 3600
        )

    def chosen_from(build: Callable[[Config, Catalog], Problem], problem: Problem) -> Plan:
        context.tick(2, 3, counted(len(problem.candidates), "pair"))
        return solve(problem, variants=Variants(config, catalog, build, context.cache_dir))

    problem = build(config, catalog)
    try:
        chosen = chosen_from(build, problem)
    except InfeasibleError:
        with_all = partial(build, with_hopeless=True)
        every = with_all(config, catalog)
        if len(every.candidates) == len(problem.candidates):
            raise
        chosen = chosen_from(with_all, every)
    context.tick(3, 3, "planned")
    for warning in chosen.warnings:
        if warning not in catalog.warnings:
            context.warn(warning)
    if reason := hardly_learnt(config, chosen):
        context.warn(str(reason))
    context.log(
        {
            "plan/usd": chosen.usd,
            "plan/hours": chosen.hours,
            "plan/latency_ms": chosen.latency_ms,
            "plan/net_usd": chosen.net_usd,
            "plan/accuracy": chosen.accuracy.mean,
            "plan/n_frontier": chosen.n_frontier,
        }
    )
    if machine is not None or any(stage in config.stages for stage in AFTER):
        measured = machine or calibration(context.cache_dir)
        chosen = replace(chosen, ahead=stage_times(config, probe, chosen, measured))
    verdict = verdict_of(
        config,
        probe,
        chosen,
        open_models=open_ways(config, probe, chosen, catalog, machine),
    )
    if verdict is None:  # one begins with what needs no model
        if (baseline := needs_no_model(probe)) is not None:
            context.warn(str(baseline))
        if (unsaid := why_no_verdict(config, probe)) is not None:
            context.note(str(unsaid))
    worth = None if verdict is None else worth_of(verdict)
    return replace(chosen, history=history, history_recipe=recipe_of(config), worth=worth)
