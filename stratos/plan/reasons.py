"""Why this plan: sentences with the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.plan.frontier import within
from stratos.plan.limits import LIMITS, with_limit
from stratos.plan.model import TIE
from stratos.plan.objective import COSTS, SINGLE, Linear, best, levels
from stratos.plan.problem import Choice, Problem
from stratos.plan.words import GAINS, describe, difference, is_same, listed

GOAL = {
    "balanced": "the best deployment score",
    "cheapest": "the lowest cost",
    "fastest": "the shortest time until it serves",
    "most_accurate": "the highest predicted accuracy",
    "lowest_latency": "the lowest latency",
}

LEAST_POINTS = 5e-4
"""Difference in the deployment score below which a term is not worth a word."""


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
        *_asked(problem, chosen),
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


def _asked(problem: Problem, chosen: Choice) -> list[str]:
    """Say what the teacher's work costs at least and at most, where that depends on its answers."""
    candidate = chosen.candidate
    why = problem.ranges.get(candidate.work[0])
    role = next(role for role in chosen.roles() if role.role == "teacher")
    if why is None or role.usd_range is None:
        return []
    low, high = role.usd_range
    return [f"{candidate.teacher} is to take ${role.usd:.2f} (${low:.2f} to ${high:.2f}): {why}."]


def _goal(problem: Problem, chosen: Choice, loss: Linear) -> str:
    name = problem.objective.name
    return (
        f"Among the plans within the limits it has {GOAL[name]}: score {1 - loss(chosen):.3f}, "
        f"${chosen.usd:.2f}, {chosen.hours:.2f} h until it serves, {chosen.latency_ms:.0f} ms."
    )


def _binding(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], loss: Linear
) -> list[str]:
    """Say which limits bind: without one of those another plan would be chosen."""
    binding: list[str] = []
    loose: list[str] = []
    for limit in LIMITS:
        if limit.of(problem.limits) is None:
            continue
        looser = within(everything, with_limit(problem.limits, limit, None), problem.spent_usd)
        other = best(looser, problem.objective.name, loss)
        (loose if is_same(other, chosen) else binding).append(limit.now(problem.limits))
    if binding:
        verb = "binds" if len(binding) == 1 else "bind"
        rest = f"; {listed(loose)} {'does' if len(loose) == 1 else 'do'} not" if loose else ""
        return [f"Of the limits, {listed(binding)} {verb}{rest}."]
    if loose:
        return ["No limit binds: without any one of them the plan would be the same."]
    return []


def _runner_up(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], loss: Linear
) -> list[str]:
    """Name the best plan of another pair or strategy, else the best with other servers, and why.

    It lost either on what the objective counts, or on what breaks the tie in that.
    """
    others = [c for c in feasible if c.candidate.name != chosen.candidate.name]
    what = "Runner-up"
    if not others:
        others = [c for c in feasible if not is_same(c, chosen)]
        what = "Runner-up, with other servers"
    if not others:
        return []
    second = best(others, problem.objective.name, loss)
    return [f"{what}: {describe(second)}. {_why(problem.objective.name, chosen, second, loss)}"]


def _why(objective: str, chosen: Choice, second: Choice, loss: Linear) -> str:
    """Say what a plan lost on against the chosen one."""
    first, *ties = levels(objective, loss)
    behind = first(second) - first(chosen)
    if behind <= TIE * max(1.0, abs(first(chosen))):
        for level in ties:
            if level(second) - level(chosen) > TIE * max(1.0, abs(level(chosen))):
                on = "dollars" if level == Linear(SINGLE["cheapest"]) else "the deployment score"
                return f"It ties on {GOAL[objective]} and lost on {on}."
        return f"It ties on {GOAL[objective]} and comes later by name."
    if objective != "balanced":
        gains = difference(chosen, second, loss, objective)
        return f"It lost on {GAINS[objective][0]}: {gains}."
    lost: list[str] = []
    won: list[str] = []
    for name, weight, ours, theirs in zip(
        COSTS, loss.weights, chosen.costs, second.costs, strict=True
    ):
        points = weight * (theirs - ours)
        if abs(points) >= LEAST_POINTS:
            (lost if points > 0 else won).append(f"{abs(points):.3f} on {name}")
    back = f" and won {listed(won)}" if won else ""
    return (
        f"Its score is {1 - loss(second):.3f}, {behind:.3f} below: "
        f"it lost {listed(lost) if lost else 'a little on each'}{back}."
    )
