"""No plan meets the limits: what is the least that has to change, and what plan that gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stratos.choice import NONE_RIGHT, injects
from stratos.config import LimitsConfig
from stratos.errors import InfeasibleError
from stratos.plan.changes import WayOut, alone, needed, together
from stratos.plan.frontier import frontier
from stratos.plan.limits import LIMITS, Limit
from stratos.plan.model import Model
from stratos.plan.objective import SINGLE, Linear, levels, score_loss
from stratos.plan.problem import Choice, Problem
from stratos.plan.relax import Relaxed, nearest_student, relaxations
from stratos.plan.variants import Variants
from stratos.plan.words import describe, listed, servers


def no_candidates(problem: Problem, variants: Variants | None = None) -> InfeasibleError:
    """Return the error of a problem in which no pair is left to choose from.

    Args:
        problem: what there was to choose from.
        variants: how to ask again with other clouds or students; None leaves that out.
    """
    lines = ["No teacher, student and strategy can be taken together:"]
    lines += [f"  {who}: {why}" for who, why in sorted(problem.left_out.items())]
    lines += [f"  {sentence}" for sentence in problem.evidence]
    if variants is not None:
        lines += _relaxed(relaxations(variants))
        lines += nearest_student(variants)
    covers_less = [who for who, why in sorted(problem.left_out.items()) if "min_coverage " in why]
    if covers_less:
        name = covers_less[0].partition(" from ")[0]
        lines.append(
            f"Type strategy={name} strategy.min_coverage=0 to learn from a teacher that covers so "
            "little: only its right answers are kept, and they are few."
        )
    else:
        lines += _without_answers(problem, variants)
    more = "Type strategy=auto, teacher=auto and student=auto to consider more of them"
    if any("server" in why for why in problem.left_out.values()):
        more += (
            ", or allow larger servers (cloud=multi, without cloud.max_usd_per_hour and "
            "cloud.regions)"
        )
    lines.append(f"{more}.")
    return InfeasibleError("\n".join(lines))


def _without_answers(problem: Problem, variants: Variants | None) -> list[str]:
    """Say what to type where teachers had no right answer at all, which no threshold mends."""
    blind = {
        who.partition(" from ")[2]
        for who, why in problem.left_out.items()
        if why.startswith(NONE_RIGHT)
    }
    config = None if variants is None else variants.config
    if not blind or (config is not None and injects(config.strategies, config.complexity)):
        return []
    said = f"{listed(sorted(blind))} gave no right answer, and there is nothing else to learn from:"
    if config is not None and config.task.can_reverse:
        return [f"{said} type strategy=injection, whose items the task makes answer first."]
    return [f"{said} type teacher=<name> for another teacher."]


def explain(
    problem: Problem,
    model: Model,
    everything: Sequence[Choice] | None = None,
    variants: Variants | None = None,
) -> InfeasibleError:
    """Return the error that says which limit to change, to what, and what plan that gives.

    Every change is the least of its kind, up to the rounding to what one would type, and is
    verified by solving again under it.

    Args:
        problem: what no plan was found for.
        model: the same, as it is solved.
        everything: the frontier before the limits, if it is there already.
        variants: how to ask again with other clouds, hours or traffic; None leaves those out.
    """
    limits = problem.limits
    everything = frontier(problem) if everything is None else everything
    order = levels(problem.objective.name, score_loss(problem.objective, everything))
    given = [limit for limit in LIMITS if limit.of(limits) is not None]
    singles = {limit: way for limit in given if (way := alone(model, limits, limit, order))}
    relaxed = relaxations(variants) if variants is not None else []
    lines = [f"No plan meets {listed(limit.now(limits) for limit in given)}."]
    first = None
    if singles or relaxed:
        lines.append("One change is enough, with all else kept:")
        for way in singles.values():
            lines += _way(way, limits)
        lines += _entries(relaxed)
        least = min(singles.values(), key=lambda way: way.share, default=None)
        first = relaxed[0].override if least is None else _overrides(least)
    stuck = [limit.label for limit in given if limit not in singles]
    if stuck and len(given) > 1:
        lines.append(f"No amount of {listed(stuck, 'or')} alone is enough.")
    pair = together(model, limits, everything, 2, order, singles)
    if pair is not None:
        lines.append("The cheapest pair of changes (each counted as a share of its limit):")
        lines += _way(pair, limits)
        first = first or _overrides(pair)
    elif first is None:
        lines.append("Two changes are not enough either. Without the others:")
        lines += [_reach(model, everything, limit) for limit in given]
        most = _fewest(model, limits, everything, order, len(given))
        lines.append(f"The fewest changes that are enough are {len(most.changes)}:")
        lines += _way(most, limits)
        first = _overrides(most)
    lines.append(f"Type: {first}")
    lines += _notes(problem)
    return InfeasibleError("\n".join(lines))


def _fewest(
    model: Model,
    limits: LimitsConfig,
    everything: Sequence[Choice],
    order: Sequence[Linear],
    n_given: int,
) -> WayOut:
    """Return the cheapest change of the fewest limits, where one or two are not enough."""
    for size in range(3, n_given + 1):
        way = together(model, limits, everything, size, order, {})
        if way is not None:
            return way
    raise AssertionError("without limits every candidate is a plan")


def _reach(model: Model, everything: Sequence[Choice], limit: Limit) -> str:
    """Say what the best value is that any plan has when no limit is set."""
    best = min(everything, key=Linear(SINGLE[limit.objective]))
    if limit.is_floor and not best.candidate.is_known:
        return f"  the best {limit.label} of any plan is unknown"
    typed = limit.typed(needed(limit, best, model.spent_usd))
    return f"  the best {limit.label} of any plan is {limit.said(typed)}"


def _overrides(way: WayOut) -> str:
    return " ".join(change.override for change in way.changes)


def _way(way: WayOut, limits: LimitsConfig) -> list[str]:
    """Say what to change and to type, and the plan that it gives."""
    said = listed(change.said(limits) for change in way.changes)
    return _entry(said, _overrides(way), way.choice)


def _relaxed(found: Sequence[Relaxed]) -> list[str]:
    return ["One change is enough, with all else kept:", *_entries(found)] if found else []


def _entries(found: Iterable[Relaxed]) -> list[str]:
    return [line for one in found for line in _entry(one.said, one.override, one.choice)]


def _entry(said: str, override: str, choice: Choice) -> list[str]:
    return [
        f"  {said}   ({override})",
        f"      {describe(choice)}",
        f"      {servers(choice)}",
    ]


def _notes(problem: Problem) -> list[str]:
    """Say what else made the limits tight."""
    lines = []
    if problem.spent_usd and problem.limits.budget_usd is not None:
        lines.append(f"Of the budget ${problem.spent_usd:.2f} is spent already.")
    unknown = sorted({c.student for c in problem.candidates if not c.is_known})
    if problem.limits.accuracy is not None and unknown:
        lines.append(f"An accuracy that is unknown meets no accuracy limit: {', '.join(unknown)}.")
    lines += [f"Left out: {who}: {why}." for who, why in sorted(problem.left_out.items())]
    return lines
