"""Why this plan: sentences with the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.plan.frontier import within
from stratos.plan.infeasible import LIMITS, Limit, with_limit
from stratos.plan.objective import Linear, best
from stratos.plan.problem import Choice, Problem

GOAL = {
    "balanced": "the best deployment score",
    "cheapest": "the lowest cost",
    "fastest": "the shortest time until it serves",
    "most_accurate": "the highest predicted accuracy",
    "lowest_latency": "the lowest latency",
}


def reasons(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], loss: Linear
) -> tuple[str, ...]:
    """Return the sentences, in the order that a reader asks for them.

    Args:
        problem: what was chosen from.
        chosen: the plan.
        everything: the frontier before the limits.
        loss: 1 minus the deployment score.
    """
    feasible = within(everything, problem.limits, problem.spent_usd)
    return (
        *problem.evidence,
        *spent(problem),
        _strategy(problem, chosen),
        _accuracy(chosen),
        _goal(problem, chosen, loss),
        *_binding(problem, chosen, everything, loss),
        *_runner_up(problem, chosen, feasible, loss),
    )


def spent(problem: Problem) -> list[str]:
    """Say what of the budget is gone, if something is."""
    budget = problem.limits.budget_usd
    if not problem.spent_usd or budget is None:
        return []
    return [f"${problem.spent_usd:.2f} of the budget of ${budget:.2f} is spent already."]


def _strategy(problem: Problem, chosen: Choice) -> str:
    strategy = chosen.candidate.strategy
    others = sorted({c.strategy for c in problem.candidates} - {strategy})
    if others:
        return f"{strategy} was chosen over {', '.join(others)}, which could be taken too."
    if strategy.startswith("injection"):
        return (
            f"{strategy} is the strategy that is left: the task makes its own verified questions "
            "and reasoning paths, so the teacher need not know the answers."
        )
    return f"{strategy} is the only strategy that could be taken."


def _accuracy(chosen: Choice) -> str:
    accuracy = chosen.candidate.accuracy
    if not chosen.candidate.is_known:
        return f"The accuracy of {chosen.candidate.student} is {accuracy.source}."
    return (
        f"{chosen.candidate.student} is predicted to reach {accuracy.mean:.3f} "
        f"({accuracy.low:.3f} to {accuracy.high:.3f}): {accuracy.source}."
    )


def _goal(problem: Problem, chosen: Choice, loss: Linear) -> str:
    name = problem.objective.name
    return (
        f"Among the plans within the limits it has {GOAL[name]}: score {1 - loss(chosen):.3f}, "
        f"${chosen.usd:.2f}, {chosen.hours:.2f} h until it serves, {chosen.latency_ms:.0f} ms."
    )


def _binding(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], loss: Linear
) -> list[str]:
    """Name each limit without which another plan would be chosen."""
    said = []
    for limit in LIMITS:
        if getattr(problem.limits, limit.key) is None:
            continue
        looser = within(everything, with_limit(problem.limits, limit, None), problem.spent_usd)
        other = best(looser, problem.objective.name, loss)
        if other.costs != chosen.costs:
            said.append(_binds(limit, getattr(problem.limits, limit.key), other))
    if not said and any(getattr(problem.limits, limit.key) is not None for limit in LIMITS):
        said.append("No limit binds: without any one of them the plan would be the same.")
    return said


def _binds(limit: Limit, value: float, other: Choice) -> str:
    return (
        f"limits.{limit.key}={value:g} binds: without it the plan would be "
        f"{other.candidate.name} (${other.usd:.2f}, {other.hours:.2f} h, "
        f"{other.latency_ms:.0f} ms, accuracy {other.accuracy:.3f})."
    )


def _runner_up(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], loss: Linear
) -> list[str]:
    """Name the best plan of another pair or strategy, else the best with other servers."""
    others = [c for c in feasible if c.candidate.name != chosen.candidate.name]
    what = "Runner-up"
    if not others:
        others = [c for c in feasible if c.costs != chosen.costs]
        what = "Runner-up, with other servers"
    if not others:
        return []
    second = best(others, problem.objective.name, loss)
    return [
        f"{what}: {second.candidate.name}, score {1 - loss(second):.3f}, "
        f"${second.usd:.2f} ({second.usd - chosen.usd:+.2f}), "
        f"{second.hours:.2f} h ({second.hours - chosen.hours:+.2f}), "
        f"{second.latency_ms:.0f} ms ({second.latency_ms - chosen.latency_ms:+.0f}), "
        f"accuracy {second.accuracy:.3f} ({second.accuracy - chosen.accuracy:+.3f})."
    ]
