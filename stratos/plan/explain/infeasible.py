"""Explain an infeasible problem: the smallest change that makes a plan feasible.

The smallest changes of `limits` that make a plan feasible, verified by solving again.

One limit alone: the model is solved without it for the best value that it can have; that value,
rounded to the side that stays feasible, is the least change. Several at once: a plan breaks some
of the limits, each by a share of its value. All four values of a plan are to be small (accuracy
counts negatively), so the plan that breaks a set of limits by the least sum of shares is on the
frontier, which is gone through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stratos.config import LimitsConfig
from stratos.core.errors import InfeasibleError
from stratos.core.formats import by_reason, listed, predicted, sentence, taken_before
from stratos.plan.explain.reasons import describe, servers
from stratos.plan.explain.whatif import Relaxed, Variants, nearest_student
from stratos.plan.objective import (
    LIMITS,
    USD,
    Limit,
    Linear,
    counted_by,
    levels,
    net_cost,
    with_limit,
)
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import frontier, merged, within
from stratos.plan.solve.model import Model
from stratos.synthesize.choice import Reason, injects

SLACK = 1e-9
"""A limit that is passed by less than this share is met, as `frontier.meets` has it."""


@dataclass(frozen=True)
class Change:
    """One limit set to another value."""

    limit: Limit
    typed: str
    value: float | None
    """None lifts it: an accuracy that nobody measured meets no number."""
    share: float
    """Size of the change as a share of the limit."""

    @property
    def override(self) -> str:
        """What to type."""
        return f"limits.{self.limit.key}={self.typed}"

    def said(self, limits: LimitsConfig) -> str:
        """Return the change as a reader would say it: "budget $40 → $52.10"."""
        return f"{self.limit.now(limits)} → {self.limit.said(self.typed)}"


@dataclass(frozen=True)
class WayOut:
    """Changes that together are enough, and the plan that they give."""

    changes: tuple[Change, ...]
    choice: Choice

    @property
    def share(self) -> float:
        """Sum of the changes, each as a share of its limit."""
        return sum(change.share for change in self.changes)


def alone(
    model: Model, limits: LimitsConfig, limit: Limit, order: Sequence[Linear]
) -> WayOut | None:
    """Return the least change of one limit that is enough with the others kept, None if none is.

    Args:
        model: what is solved.
        limits: limits that no plan meets.
        limit: the one to move.
        order: what the plan under the changed limit is chosen by.
    """
    wanted = [limit.cost.alone, USD.alone]
    free = with_limit(limits, limit, None)
    if limit.is_floor:
        free = with_limit(limits, limit, _best_floor(model, free, limit))
    nearest = model.solve(model.problem.ahead(free), wanted)
    if nearest is None:
        return None
    return _verified(model, limits, [limit], nearest, order)


def _best_floor(model: Model, limits: LimitsConfig, limit: Limit) -> float | None:
    """Return the highest value that a floor may have under the other limits; None if none."""
    problem = model.problem
    plans = within(problem.once(merged), problem.ahead(limits), model.spent_usd)
    known = [limit.value(choice) for choice in plans if choice.candidate.is_known]
    return max(known, default=None)


def together(
    model: Model,
    limits: LimitsConfig,
    everything: Sequence[Choice],
    size: int,
    order: Sequence[Linear],
    singles: Mapping[Limit, WayOut],
) -> WayOut | None:
    """Return the cheapest change of `size` limits at once: the least sum of shares.

    Ties go to the plan that costs fewer dollars. A set is left out if one of its changes is no
    smaller than that limit's change alone, which would be enough by itself.

    Args:
        model: what is solved.
        limits: limits that no plan meets.
        everything: the frontier before the limits.
        size: how many limits are to be changed.
        order: what the plan under the changed limits is chosen by.
        singles: the limits that can be changed alone, with their least changes.
    """
    found: list[tuple[float, float, tuple[str, ...], list[Limit], Choice]] = []
    for choice in everything:
        broken = {
            limit: share
            for limit in LIMITS
            if (share := _share(limit, limits, choice, model.problem)) > SLACK
        }
        if len(broken) != size or any(
            limit in singles and share >= singles[limit].share - SLACK
            for limit, share in broken.items()
        ):
            continue
        found.append((sum(broken.values()), choice.usd, choice.sort_name, list(broken), choice))
    for *_, broken_limits, choice in sorted(found, key=lambda row: row[:3]):
        way = _verified(model, limits, broken_limits, choice, order)
        if way is not None:
            return way
    return None


def _share(limit: Limit, limits: LimitsConfig, choice: Choice, problem: Problem) -> float:
    """Return by what share of a limit a plan passes it, 0 if it keeps it."""
    given = limit.of(limits)
    if given is None:
        return 0.0
    if limit.is_floor:
        if not choice.candidate.is_known:
            return 1.0 if given > 0 else 0.0
        return max(0.0, given - limit.value(choice)) / (given or 1.0)
    value = needed(limit, choice, problem)
    return max(0.0, value - given) / (given or value or 1.0)


def needed(limit: Limit, choice: Choice, problem: Problem) -> float:
    """Return the value that a limit must have for a plan to meet it: what to type."""
    value = limit.value(choice)
    if limit.cost is USD:
        value = max(value, problem.set_aside_usd(choice))
    return value + problem.spent_of(limit.key)


def _verified(
    model: Model,
    limits: LimitsConfig,
    broken: Sequence[Limit],
    choice: Choice,
    order: Sequence[Linear],
) -> WayOut | None:
    """Set the limits to what a plan needs, as it is typed, and solve again."""
    proof, changes = _solved(model, limits, broken, choice, order)
    # Of a larger budget the plan may be another one, whose jobs set more aside.
    while proof is not None and _lacks_reserve(changes, proof, model.problem):
        proof, changes = _solved(model, limits, broken, proof, order)
    return None if proof is None else WayOut(tuple(changes), proof)


def _lacks_reserve(changes: Sequence[Change], choice: Choice, problem: Problem) -> bool:
    """Return whether a plan's jobs set more aside than a changed budget has."""
    return any(
        one.limit.cost is USD
        and one.value is not None
        and needed(one.limit, choice, problem) > one.value + SLACK
        for one in changes
    )


def _solved(
    model: Model,
    limits: LimitsConfig,
    broken: Sequence[Limit],
    choice: Choice,
    order: Sequence[Linear],
) -> tuple[Choice | None, list[Change]]:
    """Return the plan under the limits that another plan needs, and how they are changed."""
    changes = []
    for limit in broken:
        share = _share(limit, limits, choice, model.problem)
        typed, value = "null", None
        if not limit.is_floor or choice.candidate.is_known:
            typed = limit.typed(needed(limit, choice, model.problem), limit.of(limits))
            value = float(typed)
        limits_now = getattr(limits, limit.key)
        assert limits_now is not None, "a limit that is not set is not broken"
        changes.append(Change(limit, typed, value, share))
    moved = limits
    for change in changes:
        moved = with_limit(moved, change.limit, change.value)
    return model.solve(model.problem.ahead(moved), order), changes


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
        lines += _relaxed(list(variants.relaxations()))
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
    relaxed = list(variants.relaxations()) if variants is not None else []
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
