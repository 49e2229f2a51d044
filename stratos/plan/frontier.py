"""The exact set of non-dominated plans, merged role by role.

A plan's dollars and hours are sums over its roles, its latency is the server's and its accuracy
the candidate's. So the frontier of a candidate is the Pareto filter of all sums of its roles'
frontiers, and no other plan of the candidate can be on it; the whole frontier is the filter of
the candidates' frontiers together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from stratos.config import LimitsConfig
from stratos.plan.problem import Choice, Option, Problem, prune

Pair = tuple[float, float, Option, Option]


def frontier(problem: Problem) -> list[Choice]:
    """Return every non-dominated plan before the limits, one for each vector of values.

    The limits are left aside on purpose: they are monotone, so the frontier under limits is the
    part of this one that meets them (`within`).
    """
    pruned = {key: prune(options) for key, options in problem.options.items()}
    before_serving: dict[tuple[str, str], list[Pair]] = {}
    choices: list[Choice] = []
    for candidate in problem.candidates:
        teacher, train, serve = candidate.work
        if (teacher, train) not in before_serving:
            before_serving[teacher, train] = _merge(pruned[teacher], pruned[train])
        choices += [
            Choice(candidate, (a, b, c))
            for _, _, a, b in before_serving[teacher, train]
            for c in pruned[serve]
        ]
    return _non_dominated(choices)


def within(choices: Iterable[Choice], limits: LimitsConfig, spent_usd: float = 0.0) -> list[Choice]:
    """Return the plans that meet the limits, with what is spent already in the budget."""
    return [choice for choice in choices if meets(choice, limits, spent_usd)]


def meets(
    choice: Choice, limits: LimitsConfig, spent_usd: float = 0.0, slack: float = 1e-9
) -> bool:
    """Return whether a plan meets every limit, up to rounding."""

    def at_most(value: float, limit: float | None) -> bool:
        return limit is None or value <= limit + slack * max(1.0, abs(limit))

    return (
        at_most(choice.usd + spent_usd, limits.budget_usd)
        and at_most(choice.hours, limits.deadline_hours)
        and at_most(choice.latency_ms, limits.latency_ms)
        and (limits.accuracy is None or choice.accuracy >= limits.accuracy - slack)
    )


def _merge(first: tuple[Option, ...], second: tuple[Option, ...]) -> list[Pair]:
    """Return the non-dominated sums of (dollars, hours) of two roles."""
    sums = sorted(
        ((a.usd + b.usd, a.hours + b.hours, a, b) for a in first for b in second),
        key=lambda pair: (pair[0], pair[1], pair[2].name, pair[3].name),
    )
    kept: list[Pair] = []
    for pair in sums:
        if not kept or pair[1] < kept[-1][1]:
            kept.append(pair)
    return kept


def _non_dominated(choices: list[Choice]) -> list[Choice]:
    """Filter four costs: sorted by the first two, a staircase over the last two.

    After sorting by (accuracy downwards, dollars), whatever could dominate a plan in the first
    cost is already seen; of those, the ones that are no dearer must be asked about hours and
    latency. A staircase per level of accuracy answers that in logarithmic time, since within a
    level dollars only grow; levels are as many as there are distinct accuracies.
    """
    levels: dict[float, list[Choice]] = {}
    for choice in choices:
        levels.setdefault(choice.accuracy, []).append(choice)
    kept: list[Choice] = []
    for accuracy in sorted(levels, reverse=True):
        # Better levels come first; their kept plans are merged into this level's sweep by dollars.
        sweep: list[tuple[float, float, float, int, tuple[str, ...], Choice]]
        sweep = [(c.usd, c.hours, c.latency_ms, 0, (), c) for c in kept]
        sweep += [(c.usd, c.hours, c.latency_ms, 1, c.sort_name, c) for c in levels[accuracy]]
        stairs = _Staircase()
        for _, hours, latency, own, _, choice in sorted(sweep, key=lambda row: row[:5]):
            if stairs.add(hours, latency) and own:
                kept.append(choice)
    return kept


class _Staircase:
    """The lower-left staircase of the points seen so far: hours rise, latency falls."""

    def __init__(self) -> None:
        self.hours: list[float] = []
        self.latency: list[float] = []

    def add(self, hours: float, latency: float) -> bool:
        """Add a point; return False if one that is seen already is nowhere worse."""
        at = bisect_left(self.hours, hours)
        if at < len(self.hours) and self.hours[at] == hours and self.latency[at] <= latency:
            return False
        if at and self.latency[at - 1] <= latency:
            return False
        end = at
        while end < len(self.hours) and self.latency[end] >= latency:
            end += 1
        self.hours[at:end] = [hours]
        self.latency[at:end] = [latency]
        return True
