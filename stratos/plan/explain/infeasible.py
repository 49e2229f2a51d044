"""Explain an infeasible problem: the smallest changes that make a plan feasible.

Each is verified by solving again. One limit alone: the model is solved without it for the best
value that it can have; that value, rounded to the side that stays feasible, is the least change.
Several at once: a plan breaks some of the limits, each by a share of its value. All values of
a plan are to be small (accuracy counts negatively), so the plan that breaks a set of limits by the
least sum of shares is on the frontier, which is gone through.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from stratos.config import LimitsConfig
from stratos.core.errors import InfeasibleError, Remedy
from stratos.core.formats import by_reason, listed, predicted, sentence, taken_before
from stratos.plan.explain.reasons import describe, servers
from stratos.plan.explain.whatif import Variants, nearest_student
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


_LOW_END = " (the low end of what is predicted)"


@dataclass(frozen=True)
class Change:
    """One limit set to another value."""

    limit: Limit
    typed: str
    value: float | None
    """None lifts it: an accuracy that nobody measured meets no number."""
    share: float
    """Size of the change as a share of the limit."""
    is_low_end: bool = False
    """Whether the value is the low end of a predicted accuracy, whose mean is higher."""

    @property
    def drops_accuracy(self) -> bool:
        """Whether the accuracy is given up, since nobody knows it."""
        return self.limit.is_floor and self.value is None


@dataclass(frozen=True)
class Relief:
    """Changes that together are enough, and the plan that they give."""

    changes: tuple[Change, ...]
    choice: Choice

    @property
    def share(self) -> float:
        """Sum of the changes, each as a share of its limit."""
        return sum(change.share for change in self.changes)

    @property
    def drops_accuracy(self) -> bool:
        """Whether the accuracy is given up, since nobody knows it."""
        return any(change.drops_accuracy for change in self.changes)

    @property
    def override(self) -> str:
        """What to type."""
        return " ".join(f"limits.{change.limit.key}={change.typed}" for change in self.changes)

    def text(self, limits: LimitsConfig) -> str:
        """Return the changes as a reader would say them: "budget $40 → $52.10"."""
        return listed(
            f"{change.limit.now(limits)} → {change.limit.shown(change.typed)}"
            f"{_LOW_END if change.is_low_end else ''}"
            for change in self.changes
        )


class Search:
    """Looks for the least changes of limits that no plan meets."""

    def __init__(self, model: Model, limits: LimitsConfig, order: Sequence[Linear]) -> None:
        """Take the model, the limits, and what the plan under changed limits is chosen by."""
        self.model, self.problem, self.limits, self.order = model, model.problem, limits, order

    def alone(self, limit: Limit) -> Relief | None:
        """Return the least change of one limit that is enough with the others kept, if one is."""
        free = with_limit(self.limits, limit, None)
        if limit.is_floor or limit.cost is None:
            # The best value that it may have under the other limits.
            everything = self.problem.once(merged)
            plans = within(everything, self.problem.ahead(free), self.problem.spent_usd)
            known = [limit.value(c) for c in plans if c.candidate.is_known or not limit.is_floor]
            best = max if limit.is_floor else min
            free = with_limit(free, limit, best(known, default=None))
        order = [USD.alone] if limit.cost is None else [limit.cost.alone, USD.alone]
        nearest = self.model.solve(self.problem.ahead(free), order)
        return None if nearest is None else self._verified([limit], nearest)

    def together(
        self, everything: Sequence[Choice], size: int, singles: Mapping[Limit, Relief]
    ) -> Relief | None:
        """Return the cheapest change of `size` limits at once: the least sum of shares.

        Ties go to the plan that costs fewer dollars. A set is left out if one of its changes is no
        smaller than that limit's change alone, which would be enough by itself.

        Args:
            everything: the frontier before the limits.
            size: how many limits are to be changed.
            singles: the limits that can be changed alone, with their least changes.
        """
        sets = []
        for choice in everything:
            shares = {limit: self._share(limit, choice) for limit in LIMITS}
            broken = {limit: share for limit, share in shares.items() if share > SLACK}
            is_new = all(
                limit not in singles or share < singles[limit].share - SLACK
                for limit, share in broken.items()
            )
            if len(broken) == size and is_new:
                sets.append((sum(broken.values()), choice.usd, choice.sort_name, broken, choice))
        for *_, broken, choice in sorted(sets, key=lambda row: row[:3]):
            if (relief := self._verified([*broken], choice)) is not None:
                return relief
        return None

    def needed(self, limit: Limit, choice: Choice) -> float:
        """Return the value that a limit must have for a plan to meet it: what to type."""
        value = limit.value(choice)
        if limit.cost is USD:
            value = max(value, self.problem.set_aside_usd(choice))
        return value + self.problem.spent_of(limit.key)

    def _share(self, limit: Limit, choice: Choice) -> float:
        """Return by what share of a limit a plan passes it, 0 if it keeps it."""
        given = limit.of(self.limits)
        if given is None:
            return 0.0
        if limit.is_floor:
            if not choice.candidate.is_known:
                return 1.0 if given > 0 else 0.0
            return max(0.0, given - limit.value(choice)) / (given or 1.0)
        value = self.needed(limit, choice)
        return max(0.0, value - given) / (given or value or 1.0)

    def _verified(self, broken: Sequence[Limit], choice: Choice) -> Relief | None:
        """Set the limits to what a plan needs, as it is typed, and solve again."""
        while True:
            changes = [self._change(limit, choice) for limit in broken]
            moved = self.limits
            for change in changes:
                moved = with_limit(moved, change.limit, change.value)
            proof = self.model.solve(self.problem.ahead(moved), self.order)
            if proof is None:
                return None
            # Of a larger budget the plan may be another one, whose jobs set more aside.
            if not any(
                change.limit.cost is USD
                and change.value is not None
                and self.needed(change.limit, proof) > change.value + SLACK
                for change in changes
            ):
                return Relief(tuple(changes), proof)
            choice = proof

    def _change(self, limit: Limit, choice: Choice) -> Change:
        share = self._share(limit, choice)
        if limit.is_floor and not choice.candidate.is_known:
            return Change(limit, "null", None, share)
        typed = limit.typed(self.needed(limit, choice), limit.of(self.limits))
        is_low_end = limit.is_floor and choice.limit_accuracy < choice.candidate.accuracy.mean
        return Change(limit, typed, float(typed), share, is_low_end)


def no_candidates(problem: Problem, variants: Variants | None = None) -> InfeasibleError:
    """Return the error of a problem in which no pair is left to choose from.

    Args:
        problem: what there was to choose from.
        variants: how to ask again with other clouds or students; None leaves that out.
    """
    lines = ["No teacher, student and strategy can be taken together:"]
    lines += [f"  {who}: {why}" for who, why in by_reason(dict(sorted(problem.left_out.items())))]
    lines += [f"  {evidence}" for evidence in problem.evidence]
    remedies: list[tuple[str, str, Choice]] = []
    if variants is not None:
        remedies = [(c.text, c.override, c.choice) for c in variants.relaxations()]
        if remedies:
            lines.append("One change is enough, with everything else unchanged:")
        for remedy in remedies:
            lines += _entry(*remedy)
        lines += nearest_student(variants)
    lines += _less_coverage(problem) or _without_answers(problem, variants)
    more = "Type strategy=auto, teacher=auto and student=auto to consider more of them"
    if any(excluded.reason is Reason.NO_SERVER for excluded in problem.exclusions):
        more += (
            ", or allow larger servers (cloud=multi, without cloud.max_usd_per_hour and "
            "cloud.regions)"
        )
    return _refused([*lines, f"{more}."], remedies, problem)


def _refused(
    lines: Sequence[str], remedies: Sequence[tuple[str, str, Choice]], problem: Problem
) -> InfeasibleError:
    """Return the error, with the changes that are enough as values."""
    values = [
        Remedy(
            text,
            tuple(shlex.split(override)),
            choice.usd,
            choice.hours,
            choice.latency_ms,
            choice.accuracy if choice.candidate.is_known else None,
        )
        for text, override, choice in remedies
    ]
    return InfeasibleError("\n".join(lines), values, problem.left_out)


def _less_coverage(problem: Problem) -> list[str]:
    """Say what to type where a teacher covers too little of the task for a strategy."""
    excluded = [pair for pair in problem.exclusions if pair.reason is Reason.COVERAGE]
    if not excluded:
        return []
    strategy = problem.strategies[min(excluded, key=lambda pair: pair.subject).strategy]
    if strategy.learns_rows:
        return ["Type strategy=supervised to learn the labelled rows alone."]
    return [
        f"Type strategy={strategy.kind} strategy.min_coverage=0 to learn from a teacher that "
        "covers so little: only its right answers are kept, and they are few."
    ]


def _without_answers(problem: Problem, variants: Variants | None) -> list[str]:
    """Say what to type where teachers had no right answer at all, which no threshold mends."""
    blind = {pair.teacher for pair in problem.exclusions if pair.reason is Reason.NONE_RIGHT}
    config = None if variants is None else variants.config
    if not blind or (config is not None and injects(config.strategies, config.complexity)):
        return []
    text = f"{listed(sorted(blind))} gave no right answer, and there is nothing else to learn from:"
    if config is not None and config.task.can_reverse:
        return [f"{text} type strategy=injection, whose items the task makes answer first."]
    return [f"{text} type teacher=<name> for another teacher."]


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
    search = Search(model, limits, levels(counted_by(problem.objective, net), net))
    given = [limit for limit in LIMITS if limit.of(limits) is not None]
    singles = {limit: relief for limit in given if (relief := search.alone(limit))}
    relaxed = list(variants.relaxations()) if variants is not None else []
    pair = search.together(everything, 2, singles)

    lines = [f"No plan meets {listed(limit.now(limits) for limit in given)}."]
    entries = [(relief.text(limits), relief.override, relief.choice) for relief in singles.values()]
    entries += [(change.text, change.override, change.choice) for change in relaxed]
    if entries:
        lines.append("One change is enough, with everything else unchanged:")
    for entry in entries:
        lines += _entry(*entry)
    stuck = [limit.label for limit in given if limit not in singles]
    if stuck and len(given) > 1:
        lines.append(f"No amount of {listed(stuck, 'or')} alone is enough.")
    if pair is not None:
        lines.append("The cheapest pair of changes (each counted as a share of its limit):")
        entries.append((pair.text(limits), pair.override, pair.choice))
        lines += _entry(*entries[-1])
    least = min(singles.values(), key=lambda relief: relief.share, default=pair)
    # A student whose accuracy is known is worth more than a limit that is given up.
    if relaxed and (not singles or (least is not None and least.drops_accuracy)):
        first = relaxed[0].override
    elif least is not None:
        first = least.override
    else:
        most = _fewest(search, everything, len(given))
        lines.append("Two changes are not enough either. Without the others:")
        lines += [_reach(search, everything, limit) for limit in given]
        lines.append(f"The smallest sufficient set has {len(most.changes)} changes:")
        entries.append((most.text(limits), most.override, most.choice))
        lines += _entry(*entries[-1])
        first = most.override
    reliefs = [*singles.values(), *([] if pair is None else [pair])]
    drops_accuracy = bool(reliefs) and all(relief.drops_accuracy for relief in reliefs)
    if drops_accuracy and problem.settings.pilot is not True and not relaxed:
        lines.append("Type: plan.pilot=true")
        lines.append(
            f"It measures the accuracy that is unknown. To plan without knowing it: {first}"
        )
    else:
        lines.append(f"Type: {first}")
    cut = None if variants is None or limits.model_mb is None else variants.cut
    if cut is not None and not cut.is_lm:  # of another kind the size is known once it is tried
        lines.append(
            f"student.fit.vocabulary=true keeps the task's tokens of {cut.name} alone; how many "
            "megabytes that leaves is known once it is tried."
        )
    offered = {choice.candidate.student for *_, choice in entries}
    return _refused([*lines, *_notes(problem, offered)], entries, problem)


def _fewest(search: Search, everything: Sequence[Choice], n_given: int) -> Relief:
    """Return the cheapest change of the fewest limits, where one or two are not enough."""
    for size in range(3, n_given + 1):
        relief = search.together(everything, size, {})
        if relief is not None:
            return relief
    raise AssertionError("without limits every candidate is a plan")


def _reach(search: Search, everything: Sequence[Choice], limit: Limit) -> str:
    """Say what the best value is that any plan has when no limit is set."""
    best = min(everything, key=limit.value if limit.cost is None else limit.cost.alone)
    if limit.is_floor:
        best = max(everything, key=limit.value)
    if limit.is_floor and not best.candidate.is_known:
        return f"  the best {limit.label} of any plan is unknown"
    typed = limit.typed(search.needed(limit, best))
    return f"  the best {limit.label} of any plan is {limit.shown(typed)}"


def _entry(text: str, override: str, choice: Choice) -> list[str]:
    """Say what to change and to type, and the plan that it gives."""
    return [
        f"  {text}   ({override})",
        f"      {describe(choice)}",
        f"      {servers(choice)}",
    ]


def _notes(problem: Problem, offered: Set[str]) -> list[str]:
    """Say what else made the limits tight.

    Args:
        problem: what no plan was found for.
        offered: students of the plans that a change gives.
    """
    limits, settings = problem.limits, problem.settings
    lines = [problem.more_rows] if limits.accuracy is not None and problem.more_rows else []
    if problem.spent_usd and limits.budget_usd is not None:
        lines.append(f"Of the budget ${problem.spent_usd:.2f} is spent already.")
    if problem.spent_hours and limits.deadline_hours is not None:
        before = sentence(taken_before(problem.spent_hours))
        lines.append(f"{before}, which the deadline counts.")
    least = limits.accuracy
    unknown = sorted({c.student for c in problem.candidates if not c.is_known})
    if least is not None and unknown:
        pilot = "Short trainings measure it: plan.pilot=true."
        if settings.pilot is True:
            pilot = (
                "The pilot did not settle it: longer trainings may, with "
                f"plan.pilot_tokens={2 * settings.pilot_tokens}."
            )
        lines.append(
            f"An accuracy that is unknown meets no accuracy limit: {', '.join(unknown)}. {pilot}"
        )
    unsure = {
        c.student: c.accuracy
        for c in problem.candidates
        if least is not None
        and c.is_known
        and c.limit_accuracy < min(least, c.accuracy.mean)
        and (c.student in offered or least <= c.accuracy.mean)
    }
    if unsure:
        ends = listed(f"{name} {predicted(unsure[name])}" for name in sorted(unsure))
        lines.append(
            f"The low end of the predicted interval counts: {ends}. With limits.confidence=mean "
            "its mean would."
        )
    left_out = by_reason(dict(sorted(problem.left_out.items())))
    return [*lines, *(f"Left out: {who}: {why}." for who, why in left_out)]
