"""Explain an infeasible problem: the smallest change that makes a plan feasible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stratos.config import LimitsConfig
from stratos.core.counted import by_reason, listed
from stratos.core.errors import InfeasibleError
from stratos.core.formats import sentence, taken_before
from stratos.core.intervals import predicted
from stratos.plan.explain.changes import WayOut, alone, needed, together
from stratos.plan.explain.in_words import describe, servers
from stratos.plan.explain.relaxations import Relaxed, nearest_student, relaxations
from stratos.plan.explain.variants import Variants
from stratos.plan.limits import LIMITS, Limit
from stratos.plan.objective import Linear, counted_by, levels, net_cost
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.model import Model
from stratos.synthesize.choice import Reason, injects


def no_candidates(problem: Problem, variants: Variants | None = None) -> InfeasibleError:
    """Return the error of a problem in which no pair is left to choose from.

    Args:
        problem: what there was to choose from.
        variants: how to ask again with other clouds or students; None leaves that out.
    """
    lines = ["No teacher, student and strategy can be taken together:"]
    left_out = dict(sorted(problem.left_out.items()))
    lines += [f"  {who}: {why}" for who, why in by_reason(left_out)]
    lines += [f"  {sentence}" for sentence in problem.evidence]
    if variants is not None:
        lines += _relaxed(relaxations(variants))
        lines += nearest_student(variants)
    covers_less = [one for one in problem.exclusions if one.reason is Reason.COVERAGE]
    if covers_less:
        first = min(covers_less, key=lambda one: one.subject)
        strategy = problem.strategies[first.strategy]
        told = (
            f"Type strategy={strategy.kind} strategy.min_coverage=0 to learn from a teacher that "
            "covers so little: only its right answers are kept, and they are few."
        )
        if strategy.learns_rows:
            told = "Type strategy=supervised to learn the labelled rows alone."
        lines.append(told)
    else:
        lines += _without_answers(problem, variants)
    more = "Type strategy=auto, teacher=auto and student=auto to consider more of them"
    if any(one.reason is Reason.NO_SERVER for one in problem.exclusions):
        more += (
            ", or allow larger servers (cloud=multi, without cloud.max_usd_per_hour and "
            "cloud.regions)"
        )
    lines.append(f"{more}.")
    return InfeasibleError("\n".join(lines))


def _without_answers(problem: Problem, variants: Variants | None) -> list[str]:
    """Say what to type where teachers had no right answer at all, which no threshold mends."""
    blind = {one.teacher for one in problem.exclusions if one.reason is Reason.NONE_RIGHT}
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
    net = net_cost(problem.objective, limits, everything)
    order = levels(counted_by(problem.objective, net), net)
    given = [limit for limit in LIMITS if limit.of(limits) is not None]
    singles = {limit: way for limit in given if (way := alone(model, limits, limit, order))}
    relaxed = relaxations(variants) if variants is not None else []
    lines = [f"No plan meets {listed(limit.now(limits) for limit in given)}."]
    first = None
    if singles or relaxed:
        lines.append("One change is enough, with everything else unchanged:")
        for way in singles.values():
            lines += _way(way, limits)
        lines += _entries(relaxed)
        least = min(singles.values(), key=lambda way: way.share, default=None)
        # A student whose accuracy is known is worth more than a limit that is given up.
        is_given_up = least is not None and _drops_accuracy(least)
        first = relaxed[0].override if relaxed and (least is None or is_given_up) else None
        first = first or (_overrides(least) if least is not None else None)
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
        lines.append(f"The smallest sufficient set has {len(most.changes)} changes:")
        lines += _way(most, limits)
        first = _overrides(most)
    is_pilot_open = problem.settings.pilot is not True and not relaxed
    if is_pilot_open and _drops_accuracy(*singles.values(), pair):
        lines.append("Type: plan.pilot=true")
        lines.append(
            f"It measures the accuracy that is unknown. To plan without knowing it: {first}"
        )
    else:
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
    best = min(everything, key=limit.cost.alone)
    if limit.is_floor:
        best = max(everything, key=limit.value)
    if limit.is_floor and not best.candidate.is_known:
        return f"  the best {limit.label} of any plan is unknown"
    typed = limit.typed(needed(limit, best, model.problem))
    return f"  the best {limit.label} of any plan is {limit.said(typed)}"


def _drops_accuracy(*ways: WayOut | None) -> bool:
    """Return whether each way out gives up the accuracy, since nobody knows it."""
    found = [way for way in ways if way is not None]
    return bool(found) and all(
        any(change.limit.is_floor and change.value is None for change in way.changes)
        for way in found
    )


def _overrides(way: WayOut) -> str:
    return " ".join(change.override for change in way.changes)


def _way(way: WayOut, limits: LimitsConfig) -> list[str]:
    """Say what to change and to type, and the plan that it gives."""
    said = listed(change.said(limits) for change in way.changes)
    return _entry(said, _overrides(way), way.choice)


def _relaxed(found: Sequence[Relaxed]) -> list[str]:
    return (
        ["One change is enough, with everything else unchanged:", *_entries(found)] if found else []
    )


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
    if problem.spent_hours and problem.limits.deadline_hours is not None:
        before = sentence(taken_before(problem.spent_hours))
        lines.append(f"{before}, which the deadline counts.")
    least = problem.limits.accuracy
    unknown = sorted({c.student for c in problem.candidates if not c.is_known})
    if least is not None and unknown:
        pilot = "Short trainings measure it: plan.pilot=true."
        if problem.settings.pilot is True:
            pilot = (
                "The pilot did not settle it: longer trainings may, with "
                f"plan.pilot_tokens={2 * problem.settings.pilot_tokens}."
            )
        lines.append(
            f"An accuracy that is unknown meets no accuracy limit: {', '.join(unknown)}. {pilot}"
        )
    unsure = {
        c.student: c.accuracy
        for c in problem.candidates
        if least is not None and c.is_known and c.limit_accuracy < least <= c.accuracy.mean
    }
    if unsure:
        said = listed(f"{name} {predicted(unsure[name])}" for name in sorted(unsure))
        lines.append(
            f"The low end of the predicted interval counts: {said}. With limits.confidence=mean "
            "its mean would."
        )
    left_out = dict(sorted(problem.left_out.items()))
    lines += [f"Left out: {who}: {why}." for who, why in by_reason(left_out)]
    return lines
