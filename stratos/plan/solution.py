"""From a problem to the plan: solve, compare, explain. Reads no file, imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from stratos.errors import InfeasibleError
from stratos.plan.frontier import frontier, within
from stratos.plan.infeasible import explain, no_candidates
from stratos.plan.model import Model
from stratos.plan.objective import ALTERNATIVES, Linear, best, levels, score_loss
from stratos.plan.problem import ROLES, Choice, Problem
from stratos.plan.reasons import reasons
from stratos.records import Plan, PlanPoint

MAX_FRONTIER = 200
"""Points of the frontier that the record keeps; `n_frontier` counts all."""


def solve(problem: Problem, solver: str | None = None) -> Plan:
    """Choose teacher, student, strategy and the servers of every role together.

    Args:
        problem: candidates, options, limits and objective; it is not changed.
        solver: PuLP's name of the solver to use; None takes the best that is there.

    Raises:
        InfeasibleError: no plan meets the limits; the message says what to change.
        StratosError: no solver is there, or all of them failed.
    """
    start = time.perf_counter()
    if not problem.candidates:
        raise no_candidates(problem)
    everything = frontier(problem)
    loss = score_loss(problem.objective, everything)
    model = Model(problem, solver)
    chosen = model.solve(problem.limits, levels(problem.objective.name, loss))
    if chosen is None:
        error: InfeasibleError = explain(problem, model)
        raise error
    feasible = within(everything, problem.limits, problem.spent_usd)
    alternatives = {
        name: best(feasible, objective, loss) for name, objective in ALTERNATIVES.items()
    }
    shown = _shown(feasible, [chosen, *alternatives.values()])
    return Plan(
        status="optimal",
        solver=model.solver_name,
        teacher=chosen.candidate.teacher,
        student=chosen.candidate.student,
        strategy=chosen.candidate.strategy,
        roles=tuple(
            option.as_choice(role) for role, option in zip(ROLES, chosen.options, strict=True)
        ),
        accuracy=chosen.candidate.accuracy,
        usd=chosen.usd,
        hours=chosen.hours,
        latency_ms=chosen.latency_ms,
        score=1.0 - loss(chosen),
        objective=problem.objective.name,
        frontier=tuple(as_point(choice, loss) for choice in shown),
        n_frontier=len(feasible),
        alternatives={name: as_point(choice, loss) for name, choice in alternatives.items()},
        reasons=reasons(problem, chosen, everything, loss),
        left_out=dict(problem.left_out),
        warnings=(*problem.warnings, *model.warnings),
        n_offers=problem.n_offers,
        price_dates=problem.price_dates,
        seconds=time.perf_counter() - start,
        prompt=chosen.candidate.prompt,
    )


def as_point(choice: Choice, loss: Linear) -> PlanPoint:
    """Return a plan as a row of the frontier."""
    return PlanPoint(
        teacher=choice.candidate.teacher,
        student=choice.candidate.student,
        strategy=choice.candidate.strategy,
        accuracy=choice.accuracy,
        usd=choice.usd,
        hours=choice.hours,
        latency_ms=choice.latency_ms,
        score=1.0 - loss(choice),
        servers={role: option.name for role, option in zip(ROLES, choice.options, strict=True)},
        accuracy_known=choice.candidate.is_known,
    )


def _shown(feasible: Sequence[Choice], always: Sequence[Choice]) -> list[Choice]:
    """Return the frontier by dollars, thinned evenly to its cap, with what must not be missing."""
    ordered = sorted(feasible, key=lambda c: (c.usd, c.hours, c.latency_ms, c.sort_name))
    if len(ordered) <= MAX_FRONTIER:
        return ordered
    must = {choice.costs for choice in always}
    kept = {i for i, choice in enumerate(ordered) if choice.costs in must}
    n_more = MAX_FRONTIER - len(kept)
    kept |= {round(i * (len(ordered) - 1) / (n_more - 1)) for i in range(n_more)}
    return [ordered[i] for i in sorted(kept)]
