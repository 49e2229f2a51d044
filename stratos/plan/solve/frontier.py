"""The exact set of non-dominated plans, merged role by role.

A plan's dollars are a sum over its roles and over the egress of their two borders, its hours are a
sum, its latency is that of its servers and its accuracy the candidate's. For one place of training
the roles before and after the training are independent of each other, so the frontier of all plans
that train there is the Pareto filter of the sums of two frontiers: teachers' options as that place
sees them, and pairs of training there and serving (`reduced`). Candidates that differ in the
teacher alone are merged at once. The whole frontier is the filter of all these together. Plans are
rows of numbers until then: a `Choice` is made only of those on the frontier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.config import LimitsConfig
from stratos.plan.pareto import Staircase, kept, ranks
from stratos.plan.problem import Candidate, Choice, Problem
from stratos.plan.solve.reduced import Reduced, Tails

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    plans = [_of_group(reduced, candidates) for candidates in groups.values()]
    return _non_dominated([group for group in plans if len(group.usd)])


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
        at_most(choice.held_usd + spent_usd, limits.budget_usd)
        and at_most(choice.hours, limits.deadline_hours)
        and at_most(choice.latency_ms, limits.latency_ms)
        and (limits.accuracy is None or choice.limit_accuracy >= limits.accuracy - slack)
    )


@dataclass(frozen=True, eq=False)
class _Plans:
    """Plans of candidates that share accuracy, training and serving, as columns."""

    reduced: Reduced
    candidates: Sequence[Candidate]
    tails: Tails
    candidate: Ints
    """Number of the candidate, by plan."""
    teacher: Ints
    """Number of the option of its teacher."""
    tail: Ints
    """Number of the pair of training and serving."""
    egress_usd: Floats
    usd: Floats
    hours: Floats
    latency_ms: Floats

    @property
    def accuracies(self) -> tuple[float, float]:
        """Accuracy that objectives count, and that a limit counts."""
        return self.candidates[0].counted_accuracy, self.candidates[0].limit_accuracy

    def choice(self, i: int) -> Choice:
        """Return one of the plans."""
        candidate, tails = self.candidates[self.candidate[i]], self.tails
        teacher = self.reduced.options[candidate.work[0]][self.teacher[i]]
        train, step = tails.trainings[tails.train[self.tail[i]]], tails.step[self.tail[i]]
        served = tails.steps[step].served
        return Choice(candidate, (teacher, train, served), float(self.egress_usd[i]))


def _of_group(reduced: Reduced, candidates: list[Candidate]) -> _Plans:
    """Return the frontier of candidates that share accuracy, training and serving."""
    _, train, serve = candidates[0].work
    tails = reduced.tails(train, serve)
    works = [candidate.work[0] for candidate in candidates]
    # Ties are broken by the candidate, then by the teacher's option, then by the pair.
    first = ranks([c.name for c in candidates]) * max(len(reduced.options[w]) for w in works)
    n_names = tails.name.max(initial=0) + 1
    by_place = np.argsort(tails.place, kind="stable")
    ends = np.searchsorted(tails.place[by_place], np.arange(len(tails.places) + 1))
    columns: list[tuple[Any, ...]] = []
    for number, place in enumerate(tails.places):
        pairs = by_place[ends[number] : ends[number + 1]]
        if not len(pairs):
            continue
        heads = [reduced.heads(work, place) for work in works]
        candidate = np.repeat(np.arange(len(heads)), [len(head.usd) for head in heads])
        option, usd, hours, dataset_usd, name = (
            np.concatenate(parts)
            for parts in zip(
                *((h.option, h.usd, h.hours, h.dataset_usd, h.name) for h in heads), strict=True
            )
        )
        name += first[candidate]
        left = _kept(usd, hours, np.zeros(len(usd)), name)
        head, pair = np.repeat(left, len(pairs)), np.tile(pairs, len(left))
        columns.append(
            (
                candidate[head],
                option[head],
                pair,
                dataset_usd[head],
                usd[head] + tails.usd[pair],
                hours[head] + tails.hours[pair],
                name[head] * n_names + tails.name[pair],
            )
        )
    if not columns:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return _Plans(
            reduced, candidates, tails, none, none, none, nothing, nothing, nothing, nothing
        )
    candidate, teacher, pair, egress_usd, usd, hours, name = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    left = _kept(usd, hours, tails.latency_ms[pair], name)
    candidate, teacher, pair, hours = candidate[left], teacher[left], pair[left], hours[left]
    egress_usd, step = egress_usd[left], tails.step[pair]
    # Added up in the order of `Problem.choice` and `Choice.usd`, so that they are equal bit by bit.
    for part in tails.bundle_usd.T:
        egress_usd = egress_usd + part[step]
    usd = np.zeros(len(left))
    for k, work in enumerate(works):
        own = candidate == k
        usd[own] = np.array([option.usd for option in reduced.options[work]])[teacher[own]]
    usd = usd + np.array([option.usd for option in tails.trainings])[tails.train[pair]]
    usd = usd + np.array([step.served.usd for step in tails.steps])[step] + egress_usd
    latency_ms = tails.latency_ms[pair]
    return _Plans(
        reduced, candidates, tails, candidate, teacher, pair, egress_usd, usd, hours, latency_ms
    )


def _kept(usd: Floats, hours: Floats, latency_ms: Floats, name: Ints) -> Ints:
    """Return which plans are dominated by no other."""
    return np.array(kept(usd, hours, latency_ms, np.zeros_like(name), name), dtype=np.int64)


def _non_dominated(groups: Sequence[_Plans]) -> list[Choice]:
    """Filter five values: sorted by the first three, a staircase over the last two.

    Accuracy counts twice, in the objective and under an accuracy limit, which may count the low end
    of an interval: a plan dominates another only if it is as good in both. After sorting by
    (accuracies downwards, dollars), whatever could dominate a plan in accuracy is already seen; of
    those, the ones that are no less accurate under a limit and no dearer must be asked about hours
    and latency. A staircase per level of accuracy answers that in logarithmic time, since within a
    level dollars only grow; levels are as many as there are distinct accuracies.
    """
    levels: dict[tuple[float, float], list[_Plans]] = defaultdict(list)
    for group in groups:
        levels[group.accuracies].append(group)
    found: list[Choice] = []
    # Accuracy under a limit, dollars, hours and latency of what is found, by plan.
    better = np.zeros((0, 4))
    for level in sorted(levels, reverse=True):
        # Better levels come first; their kept plans are merged into this level's sweep by dollars.
        here = levels[level]
        sure = better[better[:, 0] >= level[1], 1:]
        own = np.concatenate([np.stack([g.usd, g.hours, g.latency_ms], axis=1) for g in here])
        sweep = np.concatenate([sure, own])
        usd, hours, latency_ms = sweep.T
        is_own = np.arange(len(sweep)) >= len(sure)
        order = np.lexsort((is_own, latency_ms, hours, usd))
        added = Staircase().add_all(hours[order], latency_ms[order]) & is_own[order]
        plans = [(group, i) for group in here for i in range(len(group.usd))]
        # Plans of equal values stand side by side: of these the first by name is taken.
        new = np.ones(len(order) + 1, dtype=bool)
        new[1:-1] = (np.diff(sweep[order], axis=0) != 0).any(axis=1)
        starts = np.flatnonzero(added)
        ends = np.flatnonzero(new)[np.searchsorted(np.flatnonzero(new), starts, side="right")]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            equal = [plans[i] for i in (order[start:end] - len(sure)).tolist()]
            choices = [group.choice(i) for group, i in equal]
            found.append(min(choices, key=lambda c: c.sort_name) if len(equal) > 1 else choices[0])
        rows = sweep[order[added]]
        better = np.concatenate([better, np.column_stack([np.full(len(rows), level[1]), rows])])
    return found


# Pairs worth a pilot: those in some plan within the limits.


@dataclass(frozen=True)
class Survivors:
    """The pairs of student and strategy that are left, and those that are not."""

    candidates: tuple[Candidate, ...]
    """One for each pair: with the teacher that promises most."""
    left_out: dict[str, str]
    """Pair to the reason why no plan can take it."""
    least_usd: float
    """Dollars that the cheapest plan needs that takes one of them."""
    least_hours: float = 0.0
    """Hours of the fastest."""


def survivors(problem: Problem) -> Survivors:
    """Return the pairs that a plan within the limits can take, whatever their accuracy is.

    The accuracy limit is left aside: what a pair may reach is what a pilot is to find out.
    """
    limits = problem.ahead(replace(problem.limits, accuracy=None))
    found: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    prices: list[float] = []
    hours: list[float] = []
    pairs: dict[tuple[str, str], str] = {}
    for candidate in problem.candidates:
        pair = (candidate.student, candidate.strategy)
        pairs[pair] = f"{candidate.student} by {candidate.strategy}"
        plans = frontier(replace(problem, candidates=(candidate,)))
        feasible = within(plans, limits, problem.spent_usd)
        if feasible:
            found[pair].append(candidate)
            prices.append(min(plan.held_usd for plan in feasible))
            hours.append(min(plan.hours for plan in feasible))
    return Survivors(
        candidates=tuple(min(found[pair], key=_promise) for pair in pairs if pair in found),
        left_out={
            name: "no plan with it meets the limits on money, time and latency"
            for pair, name in pairs.items()
            if pair not in found
        },
        least_usd=min(prices, default=0.0),
        least_hours=min(hours, default=0.0),
    )


def _promise(candidate: Candidate) -> tuple[float, float, str]:
    """Return what is small for the teacher of a pair that promises most."""
    return -candidate.counted_accuracy, -candidate.accuracy.high, candidate.teacher
