"""The exact set of non-dominated plans, merged role by role.

A plan's dollars are a sum over its roles and over the egress of their two borders, its hours are a
sum, its latency is that of its servers and its accuracy the candidate's. For one place of training
the roles before and after the training are independent of each other, so the frontier of all plans
that train there is the Pareto filter of the sums of two frontiers: teachers' options as that place
sees them, and pairs of training there and serving (`Reduced`). Candidates that differ in the
teacher alone are merged at once. The whole frontier is the filter of all these together. Plans are
rows of numbers until then: a `Choice` is made only of those on the frontier.

Reduce the problem: drop everything that cannot be in an optimal plan.

The rule of `pareto` is applied four times, each time exactly:

- to the options of every work, with the most egress that another place can cost as slack;
- to pairs of training and serving together, once their egress is known: what is left for the slack
  is the egress of the teacher's answers;
- to a teacher's options as each place of training that is left sees them;
- to whole plans: of the options the solver gets those that some plan of the frontier uses.

Serving that has to keep up with a rate is a staircase of mixes (`mix_frontier`), which depends on
the place of training through the egress of each server; those of all places are found together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stratos.catalog.table import Floats, Ints
from stratos.config import LimitsConfig
from stratos.plan.option import Option, Place, Served
from stratos.plan.pareto import Staircase, pareto_front, prune, ranks
from stratos.plan.problem import Candidate, Choice, Problem
from stratos.plan.solve.mix import Step, single_steps
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.solver import Solver

_ROUNDING = 1e-9
"""Share by which a limit that is met may be passed."""


@dataclass(frozen=True, eq=False)
class Tails:
    """Pairs of training and serving together, seen from before the training, as columns."""

    trainings: Sequence[Option]
    steps: Sequence[Step]
    """Those of all places of training."""
    bundle_usd: Floats
    """Egress from the training to each part of what serves, by (step, part)."""
    train: Ints
    """Number of the training, by pair."""
    step: Ints
    """Number of the step, by pair."""
    region: Ints
    """Number of the place of training in `places`, by pair."""
    places: Sequence[Place | None]
    usd: Floats
    """With the egress from training to serving."""
    hours: Floats
    latency_ms: Floats
    name: Ints
    """What breaks ties."""

    def of(self, pairs: Ints) -> Tails:
        """Return the same for some of the pairs."""
        by_pair = ("train", "step", "region", "usd", "hours", "latency_ms", "name")
        return replace(self, **{column: getattr(self, column)[pairs] for column in by_pair})


@dataclass(frozen=True, eq=False)
class Heads:
    """A teacher's work, seen from one place of training, as columns."""

    option: Ints
    """Number of the teacher's option in `Reduced.options`."""
    usd: Floats
    """With the egress to the training."""
    hours: Floats
    dataset_usd: Floats
    """The egress to the training alone."""
    name: Ints
    """What breaks ties."""


class Reduced:
    """The pruned options of a problem, and merges of two roles; `Problem.once` makes one."""

    def __init__(self, problem: Problem) -> None:
        """Prune the options of every work by themselves."""
        self.problem = problem
        settings = problem.settings
        self.solver = Solver(settings.time_limit_s, settings.gap)
        self._steps: dict[tuple[object, ...], list[Step]] = {}
        self._tails: dict[tuple[str, str], Tails] = {}
        self._heads: dict[tuple[str, Place | None], Heads] = {}
        self._name_ranks: dict[str, Ints] = {}
        works = list(dict.fromkeys(c.work for c in problem.candidates))
        most = problem.egress.most
        gb = problem.gb
        dataset: dict[str, float] = defaultdict(float)
        bundle: dict[str, float] = defaultdict(float)
        for teacher, train, serve in works:
            dataset[train] = max(dataset[train], most * gb.get(teacher, 0.0))
            n_servers = problem.caps.max_nodes if serve in problem.rates else 1
            bundle[train] = max(bundle[train], most * gb.get(serve, 0.0) * n_servers)
        self.dataset_slack = dict(dataset)
        self.options: dict[str, tuple[Option, ...]] = {}
        for teacher, train, serve in works:
            for work, slack in (
                (teacher, most * gb.get(teacher, 0.0)),
                (train, dataset[train] + bundle[train]),
                (serve, most * gb.get(serve, 0.0)),
            ):
                if work not in self.options:
                    options = problem.options[work]
                    self.options[work] = options if work in problem.rates else prune(options, slack)
        first: dict[tuple[Option, ...], str] = {}
        self._alike = {w: first.setdefault(options, w) for w, options in self.options.items()}
        """Work to the first one of the same options."""

    def heads(self, work: str, target: Place | None) -> Heads:
        """Return the teacher's options that are left for a training at `target`."""
        if (work, target) not in self._heads:
            options = self.options[work]
            egress = np.array([self.problem.egress_usd(work, o.location, target) for o in options])
            usd = np.array([o.usd for o in options]) + egress
            hours = np.array([o.hours for o in options])
            name = self.name_ranks(work)
            order = np.lexsort((name, hours, usd))
            cheapest = order[Staircase().add_all(hours[order], np.zeros(len(order)))]
            self._heads[work, target] = Heads(
                cheapest, usd[cheapest], hours[cheapest], egress[cheapest], name[cheapest]
            )
        return self._heads[work, target]

    def name_ranks(self, work: str) -> Ints:
        """Return the place of each option of a work in the order of their names."""
        if work not in self._name_ranks:
            self._name_ranks[work] = ranks([o.sort_name for o in self.options[work]])
        return self._name_ranks[work]

    def steps(self, work: str, sources: Iterable[Place | None]) -> dict[Place | None, list[Step]]:
        """Return the staircase of serving for a training at each of some places."""
        options, rates = self.options[work], self.problem.rates.get(work)
        places = [o.location for o in options]
        there = {*places, *((region[0], None) for region in places if region is not None)}
        keys = {source: self._key(work, source, there) for source in sources}
        new = {key: source for source, key in keys.items() if key not in self._steps}
        usd = np.array(
            [[self.problem.egress_usd(work, s, p) for p in places] for s in new.values()]
        )
        if rates is None:
            stairs = [single_steps(options, row) for row in usd]
        else:
            stairs = staircases(
                options, usd, rates, self.problem.caps, self.solver, self.problem.mix_gap,
                self.problem.settings.max_kinds,
            )  # fmt: skip
        self._steps.update(zip(new, stairs, strict=True))
        return {source: self._steps[key] for source, key in keys.items()}

    def _key(self, work: str, source: Place | None, there: Set[object]) -> tuple[object, ...]:
        """Return what tells a staircase apart: strategies of one student may share it.

        Of the place of training that is what its GB cost, and to which of the servers they cost
        less or nothing: those of its cloud and of its place, if any are `there`.
        """
        gb = self.problem.gb.get(work)
        same = self._alike[work], self.problem.rates.get(work), gb
        if source is None or not gb:
            return same
        cloud = source[0] if (source[0], None) in there else None
        here = source if source in there else None
        return *same, self.problem.egress.of(source[0]), cloud, here

    def tails(self, train: str, serve: str) -> Tails:
        """Return the pairs of training and serving that are left."""
        if (train, serve) not in self._tails:
            pairs = self._pairs(train, serve)
            front = pareto_front(
                pairs.usd, pairs.hours, pairs.latency_ms, pairs.region, pairs.name,
                self.dataset_slack[train],
            )  # fmt: skip
            self._tails[train, serve] = pairs.of(np.array(front, dtype=np.int64))
        return self._tails[train, serve]

    def _pairs(self, train: str, serve: str) -> Tails:
        """Return all pairs of training and serving."""
        trainings = self.options[train]
        by_place: dict[Place | None, list[int]] = defaultdict(list)
        for i, option in enumerate(trainings):
            by_place[option.location].append(i)
        there = self.steps(serve, by_place)
        steps: list[Step] = []
        bundle: list[list[float]] = []
        starts: dict[int, int] = {}
        rows = [np.zeros((3, 0), dtype=np.int64)]
        for number, (region, here) in enumerate(by_place.items()):
            of_place = there[region]
            if id(of_place) not in starts:  # places that share a staircase see the same egress
                starts[id(of_place)] = len(steps)
                steps += of_place
                bundle += [
                    [
                        part.count * self.problem.egress_usd(serve, region, part.location)
                        for part in row
                    ]
                    for row in (step.served.parts for step in of_place)
                ]
            new = np.arange(len(of_place)) + starts[id(of_place)]
            both = [np.tile(here, len(new)), np.repeat(new, len(here))]
            rows.append(np.stack([*both, np.full_like(both[0], number)]))
        n_parts = max(map(len, bundle), default=0)
        first, second, place_number = np.hstack(rows)
        train_usd, train_hours = np.array([(o.usd, o.hours) for o in trainings]).reshape(-1, 2).T
        step_usd, latency = np.array([(s.usd, s.latency_ms) for s in steps]).reshape(-1, 2).T
        train_name = ranks([f"{o.sort_name}|" for o in trainings])
        step_name = ranks([step.served.sort_name for step in steps])
        return Tails(
            trainings,
            steps,
            np.array([row + [0.0] * (n_parts - len(row)) for row in bundle]).reshape(
                len(bundle), n_parts
            ),
            first,
            second,
            place_number,
            list(by_place),
            train_usd[first] + step_usd[second],
            train_hours[first],
            latency[second],
            train_name[first] * (len(steps) + 1) + step_name[second],
        )

    def for_solver(self, plans: Iterable[Choice]) -> dict[str, tuple[Served, ...]]:
        """Return the options that the solver may choose from: those that some plans use.

        It is still free to put their parts together in any way.
        """
        used: dict[str, dict[int, Served]] = {work: {} for work in self.options}
        for choice in plans:
            for work, option in zip(choice.candidate.work, choice.options, strict=True):
                used[work][id(option)] = option
        return {w: tuple(sorted(by_id.values(), key=_order)) for w, by_id in used.items()}


def _order(option: Served) -> tuple[float, float, float, str]:
    return option.usd, option.hours, option.latency_ms, option.sort_name


def frontier(problem: Problem) -> list[Choice]:
    """Return every non-dominated plan before the limits, one for each vector of values.

    The limits are left aside on purpose: they are monotone, so the frontier under limits is the
    part of this one that meets them (`within`).
    """
    return list(problem.once(merged))


def merged(problem: Problem) -> list[Choice]:
    """Merge the roles of a problem, which it does `once`: nobody may change the list."""
    reduced = problem.once(Reduced)
    groups: dict[tuple[object, ...], list[Candidate]] = defaultdict(list)
    for candidate in problem.candidates:
        groups[*candidate.worth, *candidate.work[1:]].append(candidate)
    plans = [_of_group(reduced, candidates) for candidates in groups.values()]
    return _non_dominated([group for group in plans if len(group.usd)])


def within(choices: Iterable[Choice], limits: LimitsConfig, spent_usd: float = 0.0) -> list[Choice]:
    """Return the plans that meet the limits, with what is spent already in the budget."""
    return [choice for choice in choices if meets(choice, limits, spent_usd)]


def meets(choice: Choice, limits: LimitsConfig, spent_usd: float = 0.0) -> bool:
    """Return whether a plan meets every limit, up to rounding."""

    def at_most(value: float, limit: float | None) -> bool:
        return limit is None or value <= limit + _ROUNDING * max(1.0, abs(limit))

    return (
        at_most(choice.held_usd + spent_usd, limits.budget_usd)
        and at_most(choice.hours, limits.deadline_hours)
        and at_most(choice.latency_ms, limits.latency_ms)
        and at_most(choice.candidate.model_mb, limits.model_mb)
        and at_most(choice.candidate.memory_gb, limits.server_memory_gb)
        and (limits.accuracy is None or choice.limit_accuracy >= limits.accuracy - _ROUNDING)
    )


@dataclass(frozen=True, eq=False)
class _Plans:
    """Plans of candidates that share accuracy, size, training and serving, as columns."""

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
    def worth(self) -> tuple[float, ...]:
        """As of its candidates."""
        return self.candidates[0].worth

    def choice(self, i: int) -> Choice:
        """Return one of the plans."""
        candidate, tails = self.candidates[self.candidate[i]], self.tails
        teacher = self.reduced.options[candidate.work[0]][self.teacher[i]]
        train, step = tails.trainings[tails.train[self.tail[i]]], tails.step[self.tail[i]]
        served = tails.steps[step].served
        return Choice(candidate, (teacher, train, served), float(self.egress_usd[i]))


def _of_group(reduced: Reduced, candidates: list[Candidate]) -> _Plans:
    """Return the frontier of candidates that share accuracy, size, training and serving."""
    _, train, serve = candidates[0].work
    tails = reduced.tails(train, serve)
    works = [candidate.work[0] for candidate in candidates]
    # Ties are broken by the candidate, then by the teacher's option, then by the pair.
    first = ranks([c.name for c in candidates]) * max(len(reduced.options[w]) for w in works)
    n_names = tails.name.max(initial=0) + 1
    by_place = np.argsort(tails.region, kind="stable")
    ends = np.searchsorted(tails.region[by_place], np.arange(len(tails.places) + 1))
    columns: list[tuple[Any, ...]] = []
    for number, region in enumerate(tails.places):
        pairs = by_place[ends[number] : ends[number + 1]]
        if not len(pairs):
            continue
        heads = [reduced.heads(work, region) for work in works]
        candidate = np.repeat(np.arange(len(heads)), [len(head.usd) for head in heads])
        option, usd, hours, dataset_usd, name = (
            np.concatenate(parts)
            for parts in zip(
                *((h.option, h.usd, h.hours, h.dataset_usd, h.name) for h in heads), strict=True
            )
        )
        name += first[candidate]
        best = _front(usd, hours, np.zeros(len(usd)), name)
        head, pair = np.repeat(best, len(pairs)), np.tile(pairs, len(best))
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
    best = _front(usd, hours, tails.latency_ms[pair], name)
    candidate, teacher, pair, hours = candidate[best], teacher[best], pair[best], hours[best]
    egress_usd, step = egress_usd[best], tails.step[pair]
    # Added up in the order of `Problem.choice` and `Choice.usd`, so that they are equal bit by bit.
    for part in tails.bundle_usd.T:
        egress_usd = egress_usd + part[step]
    usd = np.zeros(len(best))
    for k, work in enumerate(works):
        own = candidate == k
        usd[own] = np.array([option.usd for option in reduced.options[work]])[teacher[own]]
    usd = usd + np.array([option.usd for option in tails.trainings])[tails.train[pair]]
    usd = usd + np.array([step.served.usd for step in tails.steps])[step] + egress_usd
    latency_ms = tails.latency_ms[pair]
    return _Plans(
        reduced, candidates, tails, candidate, teacher, pair, egress_usd, usd, hours, latency_ms
    )


def _front(usd: Floats, hours: Floats, latency_ms: Floats, name: Ints) -> Ints:
    """Return which plans are dominated by no other."""
    return np.array(pareto_front(usd, hours, latency_ms, np.zeros_like(name), name), dtype=np.int64)


def _non_dominated(groups: Sequence[_Plans]) -> list[Choice]:
    """Filter seven values: sorted by accuracies, sizes and dollars, a staircase over the last two.

    Accuracy counts twice, in the objective and under an accuracy limit, which may count the low end
    of an interval: a plan dominates another only if it is as good in both. After sorting by
    (accuracies downwards, sizes, dollars), whatever could dominate a plan in these is already seen;
    of those, the ones that are no less accurate under a limit, no larger and no dearer must be
    asked about hours and latency. A staircase a level answers that in logarithmic time: within a
    level dollars only grow; levels are as many as there are distinct accuracies and sizes.
    """
    levels: dict[tuple[float, ...], list[_Plans]] = defaultdict(list)
    for group in groups:
        levels[group.worth].append(group)
    front: list[Choice] = []
    # Accuracy under a limit, sizes, dollars, hours and latency of what is found, by plan.
    better = np.zeros((0, 6))
    for level in sorted(levels, reverse=True):
        # Better levels come first; their kept plans are merged into this level's sweep by dollars.
        here = levels[level]
        sure = better[(better[:, :3] >= level[1:]).all(axis=1), 3:]
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
            front.append(min(choices, key=lambda c: c.sort_name) if len(equal) > 1 else choices[0])
        rows = sweep[order[added]]
        same = np.tile(level[1:], (len(rows), 1))
        better = np.concatenate([better, np.hstack([same, rows])])
    return front


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
    able: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    prices: list[float] = []
    hours: list[float] = []
    pairs: dict[tuple[str, str], str] = {}
    for candidate in problem.candidates:
        pair = (candidate.student, candidate.strategy)
        pairs[pair] = f"{candidate.student} by {candidate.strategy}"
        plans = frontier(replace(problem, candidates=(candidate,)))
        feasible = within(plans, limits, problem.spent_usd)
        if feasible:
            able[pair].append(candidate)
            prices.append(min(plan.held_usd for plan in feasible))
            hours.append(min(plan.hours for plan in feasible))
    return Survivors(
        candidates=tuple(
            min(able[pair], key=_promise)
            for pair in pairs
            if pair in able and not _is_spoken_for(problem, able, *pair)
        ),
        left_out={
            name: "no plan with it meets the limits on money, time and latency"
            for pair, name in pairs.items()
            if pair not in able
        },
        least_usd=min(prices, default=0.0),
        least_hours=min(hours, default=0.0),
    )


def _is_spoken_for(
    problem: Problem, able: Container[tuple[str, str]], student: str, strategy: str
) -> bool:
    """Return whether a student is cut from one that is measured anyway, which speaks for it."""
    cut = problem.cuts.get(student)
    return cut is not None and (cut.whole, strategy) in able


def _promise(candidate: Candidate) -> tuple[float, float, str]:
    """Return what is small for the teacher of a pair that promises most."""
    return -candidate.counted_accuracy, -candidate.accuracy.high, candidate.teacher
