"""The reasons for a plan, as sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stratos.config import ObjectiveConfig
from stratos.core.counted import listed
from stratos.core.formats import sentence, taken_before
from stratos.core.intervals import predicted
from stratos.plan.explain.free_here import free_servers
from stratos.plan.explain.in_words import describe, difference, in_dollars, is_same
from stratos.plan.explain.queued import queued
from stratos.plan.limits import LIMITS, with_limit
from stratos.plan.objective import (
    ACCURACY,
    USD,
    Linear,
    Rates,
    best,
    counted_by,
    goal_of,
    levels,
    money,
    weighted,
)
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import within
from stratos.plan.solve.model import TIE


def reasons(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], rates: Rates
) -> tuple[str, ...]:
    """Return the sentences, in the order that a reader asks for them.

    Args:
        problem: what was chosen from.
        chosen: the plan.
        everything: the frontier before the limits.
        rates: what points, hours and milliseconds count in dollars.
    """
    net = rates.net_cost
    feasible = within(everything, problem.ahead(problem.limits), problem.spent_usd)
    return (
        *problem.evidence,
        *spent(problem),
        _strategy(problem, chosen),
        _accuracy(chosen),
        *_engines(chosen),
        *queued(problem, chosen),
        *_asked(problem, chosen),
        _goal(problem, chosen),
        *_beside(problem, chosen, feasible, rates),
        *_binding(problem, chosen, everything, net),
        *_runner_up(problem, chosen, feasible, net),
        *_free(chosen),
    )


def spent(problem: Problem) -> list[str]:
    """Say what of the budget and of the deadline is gone, if something is."""
    budget, deadline = problem.limits.budget_usd, problem.limits.deadline_hours
    found = []
    if problem.spent_usd and budget is not None:
        found.append(f"${problem.spent_usd:.2f} of the budget of ${budget:.2f} is spent already.")
    if problem.spent_hours:
        counts = "" if deadline is None else f", and the deadline of {deadline:g} h counts them"
        before = sentence(taken_before(problem.spent_hours))
        found.append(f"{before}{counts}. The hours of the plan come after.")
    return found


def _strategy(problem: Problem, chosen: Choice) -> str:
    strategy = chosen.candidate.strategy
    others = sorted({c.strategy for c in problem.candidates} - {strategy})
    if others:
        return f"{strategy} was chosen over {', '.join(others)}, which were also possible."
    return problem.strategies[strategy].why_alone()


def _engines(chosen: Choice) -> list[str]:
    """Say which engines and formats serve, if the plan chose among several."""
    runs = [one.run for one in chosen.options[2].parts if one.run is not None]
    named = dict.fromkeys(run.name for run in runs if run.format)
    return [f"Served by {listed(list(named))}: chosen with the servers."] if named else []


def _accuracy(chosen: Choice) -> str:
    candidate, accuracy = chosen.candidate, chosen.candidate.accuracy
    if candidate.is_known:
        reaches = predicted(accuracy)
        return f"{candidate.student} is predicted to reach {reaches}: {accuracy.source}."
    ordered = (
        " No other pair has a known accuracy either: they are ranked by what their teachers know."
        if candidate.stand_in
        else ""
    )
    return f"The accuracy of {candidate.student} is {accuracy.source}.{ordered}"


def _asked(problem: Problem, chosen: Choice) -> list[str]:
    """Say what the teacher's work costs at least and at most, where that depends on its answers."""
    candidate = chosen.candidate
    why = problem.ranges.get(candidate.work[0])
    role = next(role for role in chosen.roles() if role.role == "teacher")
    if why is None or role.usd_range is None:
        return []
    low, high = role.usd_range
    return [
        f"{candidate.teacher} is expected to cost ${role.usd:.2f} (${low:.2f} to ${high:.2f}): "
        f"{why}."
    ]


def _goal(problem: Problem, chosen: Choice) -> str:
    goal = goal_of(problem.objective)
    return (
        f"Among the plans within the limits it has {goal}: {money(chosen.usd)}, "
        f"{chosen.hours:.3g} h until it serves, {chosen.latency_ms:,.0f} ms."
    )


def _beside(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], rates: Rates
) -> Iterator[str]:
    """Say what the plan of the lowest net cost gains on those of other objectives, in dollars."""
    if problem.objective.weights is not None:
        return
    point, hour, tenth = rates.usd.values()
    yield (
        f"A point of accuracy counts {money(point)}, an hour of waiting {money(hour)}, 100 ms of "
        f"p95 latency {money(tenth)} (objective.{', '.join(rates.usd)})."
    )
    net = rates.net_cost
    for cost in (ACCURACY, USD):
        other = best(feasible, cost.alone, net)
        said = cost.alternative.replace("_", "-")
        if is_same(other, chosen):
            yield f"The {said} plan is the same."
            continue
        more = net(other) - net(chosen)
        yield (
            f"The {said} plan ({other.candidate.student}) has a net cost {money(more)} higher: "
            f"{in_dollars(chosen, other, net)}."
        )


def _binding(
    problem: Problem, chosen: Choice, everything: Sequence[Choice], net: Linear
) -> list[str]:
    """Say which limits bind: without one of those another plan would be chosen."""
    binding: list[str] = []
    loose: list[str] = []
    for limit in LIMITS:
        if limit.of(problem.limits) is None:
            continue
        free = problem.ahead(with_limit(problem.limits, limit, None))
        looser = within(everything, free, problem.spent_usd)
        other = best(looser, counted_by(problem.objective, net), net)
        (loose if is_same(other, chosen) else binding).append(limit.now(problem.limits))
    if binding:
        verb = "binds" if len(binding) == 1 else "bind"
        rest = f"; {listed(loose)} {'does' if len(loose) == 1 else 'do'} not" if loose else ""
        return [f"Of the limits, {listed(binding)} {verb}{rest}."]
    if loose:
        return ["No limit binds: without any one of them the plan would be the same."]
    return []


def _free(chosen: Choice) -> list[str]:
    """Say which servers count as $0 an hour."""
    free = free_servers(chosen.roles())
    return [] if free is None else [str(free)]


def _runner_up(
    problem: Problem, chosen: Choice, feasible: Sequence[Choice], net: Linear
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
    objective = problem.objective
    second = best(others, counted_by(objective, net), net)
    return [f"{what}: {describe(second)}. {_why(objective, chosen, second, net)}"]


def _why(objective: ObjectiveConfig, chosen: Choice, second: Choice, net: Linear) -> str:
    """Say what a plan lost on against the chosen one."""
    first, *ties = levels(counted_by(objective, net), net)
    behind = first(second) - first(chosen)
    if behind <= TIE * max(1.0, abs(first(chosen))):
        for level in ties:
            if level(second) - level(chosen) > TIE * max(1.0, abs(level(chosen))):
                on = "dollars" if level == USD.alone else "the net cost"
                return f"It ties on {goal_of(objective)} and lost on {on}."
        return f"It ties on {goal_of(objective)} and comes later by name."
    if objective.weights is not None:
        gains = difference(chosen, second, net, objective)
        return f"It lost on {listed([cost.label for cost in weighted(objective)])}: {gains}."
    return f"Its net cost is {money(behind)} higher: {in_dollars(chosen, second, net)}."
