"""The exact set of non-dominated plans, merged role by role.

A plan's dollars are a sum over its roles and over the egress of their two borders, its hours are a
sum, its latency is that of its servers and its accuracy the candidate's. For one place of training
the roles before and after the training are independent of each other, so the frontier of all plans
that train there is the Pareto filter of the sums of two frontiers: teachers' options as that place
sees them, and pairs of training there and serving (`reduced`). Candidates that differ in the
teacher alone are merged at once. The whole frontier is the filter of all these together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from stratos.config import LimitsConfig
from stratos.plan.pareto import Staircase, kept
from stratos.plan.problem import Candidate, Choice, Problem
from stratos.plan.solve.reduced import Head, Reduced, Tail


def frontier(problem: Problem) -> list[Choice]:
    """Return every non-dominated plan before the limits, one for each vector of values.

    The limits are left aside on purpose: they are monotone, so the frontier under limits is the
    part of this one that meets them (`within`).
    """
    return list(problem.once(merged))


def merged(problem: Problem) -> list[Choice]:
    """Merge the roles of a problem, which it does `once`: nobody may change the list."""
    reduced = problem.once(Reduced)
    groups: dict[tuple[float, float, str, str], list[Candidate]] = defaultdict(list)
    for candidate in problem.candidates:
        _, train, serve = candidate.work
        accuracies = candidate.counted_accuracy, candidate.limit_accuracy
        groups[*accuracies, train, serve].append(candidate)
    return _non_dominated(
        [choice for candidates in groups.values() for choice in _of_group(reduced, candidates)]
    )


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
        and (limits.accuracy is None or choice.limit_accuracy >= limits.accuracy - slack)
    )


def _of_group(reduced: Reduced, candidates: list[Candidate]) -> list[Choice]:
    """Return the frontier of candidates that share accuracy, training and serving."""
    _, train, serve = candidates[0].work
    tails = reduced.tails(train, serve)
    places = {tail.train.place for tail in tails}
    heads = {
        place: [(c, head) for c in candidates for head in reduced.heads(c.work[0], place)]
        for place in places
    }
    head_rank = _ranks({_head_name(*pair) for pairs in heads.values() for pair in pairs})
    tail_rank = _ranks({tail.name for tail in tails})
    pairs: list[tuple[Candidate, Head, Tail]] = []
    columns = []
    for place in places:
        first = np.array(
            [(head.usd, head.hours, head_rank[_head_name(c, head)]) for c, head in heads[place]]
        )
        nothing = np.zeros(len(first))
        here = nothing.astype(np.int64)
        left = kept(first[:, 0], first[:, 1], nothing, here, first[:, 2])
        there = [tail for tail in tails if tail.train.place == place]
        last = np.array([(t.usd, t.hours, t.latency_ms, tail_rank[t.name]) for t in there])
        columns.append(
            (
                np.add.outer(first[left, 0], last[:, 0]).ravel(),
                np.add.outer(first[left, 1], last[:, 1]).ravel(),
                np.tile(last[:, 2], len(left)),
                np.add.outer(first[left, 2] * len(tail_rank), last[:, 3]).ravel(),
            )
        )
        pairs += [(*heads[place][i], tail) for i in left for tail in there]
    if not pairs:
        return []
    usd, hours, latency, names = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    found = kept(usd, hours, latency, np.zeros(len(pairs), dtype=np.int64), names)
    return [
        reduced.problem.choice(candidate, head.teacher, tail.train, tail.step.served)
        for candidate, head, tail in (pairs[i] for i in found)
    ]


def _head_name(candidate: Candidate, head: Head) -> tuple[str, str]:
    return candidate.name, head.teacher.sort_name


def _ranks(names: Collection[Any]) -> dict[Any, int]:
    """Return the place of each name in their order."""
    return {name: i for i, name in enumerate(sorted(names))}


def _non_dominated(choices: list[Choice]) -> list[Choice]:
    """Filter five values: sorted by the first three, a staircase over the last two.

    Accuracy counts twice, in the objective and under an accuracy limit, which may count the low end
    of an interval: a plan dominates another only if it is as good in both. After sorting by
    (accuracies downwards, dollars), whatever could dominate a plan in accuracy is already seen; of
    those, the ones that are no less accurate under a limit and no dearer must be asked about hours
    and latency. A staircase per level of accuracy answers that in logarithmic time, since within a
    level dollars only grow; levels are as many as there are distinct accuracies.
    """
    levels: dict[tuple[float, float], list[Choice]] = {}
    for choice in choices:
        levels.setdefault((choice.accuracy, choice.limit_accuracy), []).append(choice)
    found: list[Choice] = []
    for level in sorted(levels, reverse=True):
        # Better levels come first; their kept plans are merged into this level's sweep by dollars.
        sweep: list[tuple[float, float, float, int, tuple[str, ...], Choice]]
        better = (c for c in found if c.limit_accuracy >= level[1])
        sweep = [(c.usd, c.hours, c.latency_ms, 0, (), c) for c in better]
        sweep += [(c.usd, c.hours, c.latency_ms, 1, c.sort_name, c) for c in levels[level]]
        stairs = Staircase()
        for _, hours, latency, own, _, choice in sorted(sweep, key=lambda row: row[:5]):
            if stairs.add(hours, latency) and own:
                found.append(choice)
    return found
