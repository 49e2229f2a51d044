"""The stage `plan`: offers, problem, solution."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from stratos.catalog import Catalog, load_catalog
from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import InfeasibleError
from stratos.core.formats import counted
from stratos.core.values import named
from stratos.estimate.fleet import calibration
from stratos.plan.accuracy.history import history_for, recipe_of
from stratos.plan.accuracy.predict import hardly_learnt, needs_no_model
from stratos.plan.alternatives import open_models
from stratos.plan.explain.infeasible import explain, no_candidates
from stratos.plan.explain.reasons import (
    as_point,
    assumptions_of,
    end_of,
    ending,
    prices_of,
    reasons,
    stale,
)
from stratos.plan.explain.whatif import Variants, in_cloud, whatif
from stratos.plan.objective import COSTS, best, counted_by, exchange_rates, levels
from stratos.plan.option import Range
from stratos.plan.options.candidates import build_problem, this_machine
from stratos.plan.options.role_options import nodes_unknown, not_chosen_from
from stratos.plan.options.teacher import CachedAnswers
from stratos.plan.problem import Choice, LeftOut, Problem
from stratos.plan.schedule import AFTER, stage_times
from stratos.plan.solve.frontier import frontier, within
from stratos.plan.solve.model import Model
from stratos.plan.solve.solver import NAME
from stratos.plan.words import RowsNotLabelled, TooManyRequests
from stratos.plan.worth import verdict_of, why_no_verdict, worth_of
from stratos.records import Pilot, Plan, Probe, RoleChoice
from stratos.synthesize.choice import Reason
from stratos.tasks.base import Task

MAX_FRONTIER = 200
"""Points of the frontier that the record keeps; `n_frontier` counts all."""


def solve(
    problem: Problem,
    variants: Variants | None = None,
    today: datetime.date | None = None,
) -> Plan:
    """Choose teacher, student, strategy and the servers of every role together.

    Args:
        problem: candidates, options, limits and objective; it is not changed.
        variants: how to ask again with other clouds, hours or traffic; None leaves those out of
            what is explained.
        today: what the age of prices and the end of teachers are measured from; None takes the
            date of this machine.

    Raises:
        InfeasibleError: no plan meets the limits; the message says what to change.
        StratosError: the solver failed.
    """
    start = time.perf_counter()
    if not problem.candidates:
        raise no_candidates(problem, variants)
    everything = frontier(problem)
    if not everything:
        raise no_candidates(_without_servers(problem), variants)
    rates = exchange_rates(problem.objective, problem.limits, everything)
    net = rates.net_cost
    model = Model(problem)
    order = levels(counted_by(problem.objective, net), net)
    chosen = model.solve(problem.ahead(problem.limits), order)
    if chosen is None:
        if (fewer := _without_dearest_last_call(problem)) is not None:
            with contextlib.suppress(InfeasibleError):
                return solve(fewer, variants=variants, today=today)
        raise explain(problem, model, everything, variants)
    feasible = within(everything, problem.ahead(problem.limits), problem.spent_usd)
    alternatives = {cost.alternative: best(feasible, cost.alone, net) for cost in COSTS}
    shown = _shown(feasible, [chosen, *alternatives.values()])
    roles = chosen.roles()
    prices = prices_of(problem, chosen)
    dates = sorted({price.date for price in prices if price.date}) or [""]
    ends = end_of(problem, chosen)
    warnings = [*problem.warnings, *stale(prices, today)]
    warnings += ending(problem, chosen, today)
    return Plan(
        status=model.status,
        solver=NAME,
        teacher=chosen.candidate.teacher,
        student=chosen.candidate.student,
        strategy=chosen.candidate.strategy,
        roles=roles,
        accuracy=chosen.candidate.accuracy,
        usd=chosen.usd,
        hours=chosen.hours,
        latency_ms=chosen.latency_ms,
        objective=problem.objective.name,
        frontier=tuple(as_point(choice, net) for choice in shown),
        n_frontier=len(feasible),
        alternatives={name: as_point(choice, net) for name, choice in alternatives.items()},
        reasons=reasons(problem, chosen, everything, rates),
        left_out={**problem.left_out, **problem.not_rented},
        warnings=tuple(dict.fromkeys(warnings)),
        n_offers=problem.n_offers,
        price_dates=(dates[0], dates[-1]),
        what_if=whatif(
            problem,
            model,
            chosen,
            everything,
            net,
            variants if problem.settings.explain else None,  # each is a problem of its own
        ),
        seconds=time.perf_counter() - start,
        prompt=chosen.candidate.prompt,
        train_tokens=chosen.candidate.train_tokens,
        max_tokens=problem.max_tokens.get(chosen.candidate.teacher, {}),
        usd_range=_usd_range(roles, chosen.egress_usd),
        hours_range=_hours_range(roles),
        egress_usd=chosen.egress_usd,
        spent_usd=problem.spent_usd,
        spent_hours=problem.spent_hours,
        prices=prices,
        assumptions=assumptions_of(problem, chosen, prices, rates),
        net_usd=net(chosen),
        exchange=dict(rates.usd),
        teacher_retires=ends,
    )


def not_labelled(task: Task, problem: Problem, chosen: Plan) -> list[RowsNotLabelled]:
    """Return why rows without a label are not used; nothing where they are, or there are none."""
    n = task.n_unlabelled
    by_name = problem.strategies
    if not n or chosen.strategy not in by_name or by_name[chosen.strategy].labels_rows:
        return []
    why = [
        f"{excluded.subject}: {excluded.text}"
        for excluded in problem.exclusions
        if excluded.teacher
        and excluded.strategy in by_name
        and by_name[excluded.strategy].labels_rows
    ]
    return [RowsNotLabelled(n, tuple(why))]


def _usd_range(roles: Sequence[RoleChoice], egress_usd: float) -> Range | None:
    """Add the ends of the roles' ranges; None where one is not known.

    Servers that are rented for a time that is given cost what they cost.
    """
    ranges = [_known(role.usd_range, role.usd, role) for role in roles]
    return _sum(ranges, egress_usd)


def _hours_range(roles: Sequence[RoleChoice]) -> Range | None:
    """The same for the hours until the student serves."""
    before = [role for role in roles if role.role != "serve"]
    queued = sum(role.wait_hours or 0.0 for role in before)
    return _sum([_known(role.hours_range, role.hours, role) for role in before], queued)


def _known(between: Range | None, value: float, role: RoleChoice) -> Range | None:
    if between is None and (role.offer is not None or not value):
        return value, value
    return between


def _sum(ranges: Sequence[Range | None], more: float = 0.0) -> Range | None:
    known = [between for between in ranges if between is not None]
    if len(known) < len(ranges):
        return None
    return sum(low for low, _ in known) + more, sum(high for _, high in known) + more


def _without_dearest_last_call(problem: Problem) -> Problem | None:
    """Leave out the teachers whose last call sets most aside; None where that may help nothing.

    The frontier compares plans by what they cost. One that costs a little more, and needs less set
    aside, may be the only one that a budget holds.
    """
    if problem.limits.budget_usd is None:
        return None
    calls = {
        c: max((option.last_call_usd for option in problem.options[c.work[0]]), default=0.0)
        for c in problem.candidates
    }
    most = max(calls.values())
    cheaper = tuple(c for c, usd in calls.items() if usd < most)
    return replace(problem, candidates=cheaper) if cheaper else None


def _without_servers(problem: Problem) -> Problem:
    """Say of every student that no allowed mix of servers keeps up with its requests."""
    caps = problem.caps
    why = {
        c.student: TooManyRequests(
            sum(problem.rates[c.work[2]]), caps.max_nodes, caps.max_usd_per_hour, caps.any_quota
        )
        for c in problem.candidates
        if c.work[2] in problem.rates
    }
    more = [LeftOut(student, Reason.NO_SERVER, reason) for student, reason in why.items()]
    before = [excluded for excluded in problem.exclusions if excluded.subject not in why]
    return replace(problem, exclusions=(*before, *more))


def _shown(feasible: Sequence[Choice], always: Sequence[Choice]) -> list[Choice]:
    """Return the frontier by dollars, thinned evenly to its cap, with what must not be missing."""
    ordered = sorted(feasible, key=lambda c: (c.usd, c.hours, c.latency_ms, c.sort_name))
    if len(ordered) <= MAX_FRONTIER:
        return ordered
    must = {choice.costs for choice in always}
    rows = {i for i, choice in enumerate(ordered) if choice.costs in must}
    n_more = MAX_FRONTIER - len(rows)
    rows |= {round(i * (len(ordered) - 1) / (n_more - 1)) for i in range(n_more)}
    return [ordered[i] for i in sorted(rows)]


def plan(config: Config, probe: Probe, context: Context, pilot: Pilot | None = None) -> Plan:
    """Choose teacher, student, strategy and servers together, under the limits.

    Money that this run has spent already (the paid teachers of probe and pilot) is taken off the
    budget, and the hours of probe and pilot off the deadline. Answers of paid teachers that are
    kept from before are not priced again.

    Raises:
        CatalogError: a catalog is missing, empty or malformed, or has no such cloud or region.
        InfeasibleError: no plan meets the limits; the message says what to change.
    """
    context.tick(0, 3, "reading offers")
    catalog = load_catalog(config.cloud, cache_dir=context.cache_dir)
    for warning in catalog.warnings:
        context.warn(warning)
    if why := nodes_unknown(config.cloud, config.executor, config.stages, catalog):
        context.warn(str(why))
    context.tick(1, 3, counted(len(catalog.table), "offer"))
    history = history_for(config, context.run_dir)
    machine = this_machine(config.cloud, config.students, config.trainer, context.cache_dir)
    spent_seconds = probe.seconds + (pilot.seconds if pilot is not None else 0.0)
    cached = CachedAnswers(config, context.cache_dir, context.ledger)

    def build(config: Config, catalog: Catalog, with_hopeless: bool = False) -> Problem:
        problem = build_problem(
            config, probe, catalog, history, pilot, machine, cached, with_hopeless=with_hopeless
        )
        return replace(
            problem, spent_usd=context.ledger.committed_usd, spent_hours=spent_seconds / 3600
        )

    def chosen_from(build: Callable[[Config, Catalog], Problem], problem: Problem) -> Plan:
        context.tick(2, 3, counted(len(problem.candidates), "pair"))
        variants = Variants(config, catalog, build, context.cache_dir)
        chosen = solve(problem, variants=variants)
        rented = in_cloud(variants, chosen.student)
        return chosen if rented is None else replace(chosen, in_cloud_usd=rented.usd)

    problem = build(config, catalog)
    try:
        chosen = chosen_from(build, problem)
    except InfeasibleError:
        with_all = partial(build, with_hopeless=True)
        every = with_all(config, catalog)
        if len(every.candidates) == len(problem.candidates):
            raise
        chosen = chosen_from(with_all, every)
    if named(config.students, chosen.student).is_lm:
        engines = map(str, not_chosen_from(config.deploy))
        chosen = replace(chosen, warnings=tuple(dict.fromkeys((*chosen.warnings, *engines))))
    context.tick(3, 3, "planned")
    for warning in chosen.warnings:
        if warning not in catalog.warnings:
            context.warn(warning)
    for unused in not_labelled(config.task, problem, chosen):
        context.warn(str(unused))
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
        open_models=open_models(config, probe, chosen, catalog, machine),
    )
    if verdict is None:  # one begins with what needs no model
        if (baseline := needs_no_model(probe)) is not None:
            context.warn(str(baseline))
        if (unsaid := why_no_verdict(config.traffic, probe)) is not None:
            context.note(str(unsaid))
    worth = None if verdict is None else worth_of(verdict)
    return replace(chosen, history=history, history_recipe=recipe_of(config), worth=worth)
