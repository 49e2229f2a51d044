"""Reduce the problem: drop everything that cannot be in an optimal plan.

The rule of `pareto` is applied four times, each time exactly:

- to the options of every work, with the most egress that another place can cost as slack;
- to pairs of training and serving together, once their egress is known: what is left for the slack
  is the egress of the teacher's answers;
- to a teacher's options as each place of training that is left sees them;
- to whole plans: of the options the solver gets those that some plan of the frontier uses.

Serving that has to keep up with a rate is a staircase of mixes (`stairs`), which depends on the
place of training through the egress of each server; those of all places are found together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stratos.plan.option import Option, Place, Served
from stratos.plan.options.serving_mix import Step, single_steps
from stratos.plan.pareto import Staircase, kept, prune, ranks
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.solver import Solver

if TYPE_CHECKING:
    from stratos.plan.problem import Choice, Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SOLVED_GAP = 0.001
"""Most of `Problem.mix_gap` that the solver may leave of a mix of its own; the plan's status says
so."""


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
    place: Ints
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
        by_pair = ("train", "step", "place", "usd", "hours", "latency_ms", "name")
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
        gap = max(settings.gap, min(problem.mix_gap, SOLVED_GAP))
        self.solver = Solver(settings.solver, settings.time_limit_s, gap)
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
            egress = np.array([self.problem.dataset_usd(work, o.place, target) for o in options])
            usd = np.array([o.usd for o in options]) + egress
            hours = np.array([o.hours for o in options])
            name = self.name_ranks(work)
            order = np.lexsort((name, hours, usd))
            left = order[Staircase().add_all(hours[order], np.zeros(len(order)))]
            self._heads[work, target] = Heads(
                left, usd[left], hours[left], egress[left], name[left]
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
        places = [o.place for o in options]
        there = {*places, *((place[0], None) for place in places if place is not None)}
        keys = {source: self._key(work, source, there) for source in sources}
        new = {key: source for source, key in keys.items() if key not in self._steps}
        usd = np.array(
            [[self.problem.bundle_usd(work, s, p) for p in places] for s in new.values()]
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
            left = kept(
                pairs.usd, pairs.hours, pairs.latency_ms, pairs.place, pairs.name,
                self.dataset_slack[train],
            )  # fmt: skip
            self._tails[train, serve] = pairs.of(np.array(left, dtype=np.int64))
        return self._tails[train, serve]

    def _pairs(self, train: str, serve: str) -> Tails:
        """Return all pairs of training and serving."""
        trainings = self.options[train]
        by_place: dict[Place | None, list[int]] = defaultdict(list)
        for i, option in enumerate(trainings):
            by_place[option.place].append(i)
        there = self.steps(serve, by_place)
        steps: list[Step] = []
        bundle: list[list[float]] = []
        starts: dict[int, int] = {}
        rows = [np.zeros((3, 0), dtype=np.int64)]
        for number, (place, here) in enumerate(by_place.items()):
            of_place = there[place]
            if id(of_place) not in starts:  # places that share a staircase see the same egress
                starts[id(of_place)] = len(steps)
                steps += of_place
                bundle += [
                    [part.count * self.problem.bundle_usd(serve, place, part.place) for part in row]
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
        return {w: tuple(sorted(found.values(), key=_order)) for w, found in used.items()}


def _order(option: Served) -> tuple[float, float, float, str]:
    return option.usd, option.hours, option.latency_ms, option.sort_name
