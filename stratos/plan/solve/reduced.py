"""A problem without what can be no part of a best plan: small enough for frontier and solver.

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
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stratos.plan.egress import Place
from stratos.plan.option import Option, Served
from stratos.plan.options.serving_mix import Step, single_steps
from stratos.plan.pareto import Staircase, kept, prune
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.solver import Solver

if TYPE_CHECKING:
    from stratos.plan.problem import Choice, Problem


SOLVED_GAP = 0.001
"""Most of `Problem.mix_gap` that the solver may leave of a mix of its own; the plan's status says
so."""


@dataclass(frozen=True)
class Tail:
    """Training and serving together, seen from before the training."""

    usd: float
    """With the egress from training to serving."""
    hours: float
    latency_ms: float
    train: Option
    step: Step

    @property
    def name(self) -> str:
        """What breaks ties."""
        return f"{self.train.sort_name}|{self.step.served.sort_name}"


@dataclass(frozen=True)
class Head:
    """A teacher's work, seen from one place of training."""

    usd: float
    """With the egress to the training."""
    hours: float
    teacher: Option


class Reduced:
    """The pruned options of a problem, and merges of two roles; `Problem.once` makes one."""

    def __init__(self, problem: Problem) -> None:
        """Prune the options of every work by themselves."""
        self.problem = problem
        settings = problem.settings
        gap = max(settings.gap, min(problem.mix_gap, SOLVED_GAP))
        self.solver = Solver(settings.solver, settings.time_limit_s, gap)
        self._steps: dict[tuple[object, ...], list[Step]] = {}
        self._tails: dict[tuple[str, str], list[Tail]] = {}
        self._heads: dict[tuple[str, Place | None], list[Head]] = {}
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

    def heads(self, work: str, target: Place | None) -> list[Head]:
        """Return the teacher's options that are left for a training at `target`."""
        if (work, target) not in self._heads:
            options = self.options[work]
            egress = [self.problem.dataset_usd(work, o.place, target) for o in options]
            steps = [
                (o.usd + extra, o.hours, o.sort_name, o)
                for o, extra in zip(options, egress, strict=True)
            ]
            stairs = Staircase()
            self._heads[work, target] = [
                Head(usd, hours, option)
                for usd, hours, _, option in sorted(steps, key=lambda step: step[:3])
                if stairs.add(hours, 0.0)
            ]
        return self._heads[work, target]

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

    def tails(self, train: str, serve: str) -> list[Tail]:
        """Return the pairs of training and serving that are left."""
        if (train, serve) not in self._tails:
            by_place: dict[Place | None, list[Option]] = defaultdict(list)
            for option in self.options[train]:
                by_place[option.place].append(option)
            slack = self.dataset_slack[train]
            steps = self.steps(serve, by_place)
            pairs = [
                Tail(o.usd + step.usd, o.hours, step.latency_ms, o, step)
                for place, options in by_place.items()
                for step in steps[place]
                for o in options
            ]
            self._tails[train, serve] = _left(pairs, slack)
        return self._tails[train, serve]

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


def _left(pairs: list[Tail], slack: float) -> list[Tail]:
    if not pairs:
        return []
    places: dict[Place | None, int] = {}
    numbers = np.array([places.setdefault(p.train.place, len(places)) for p in pairs])
    usd, hours, latency = np.array([(p.usd, p.hours, p.latency_ms) for p in pairs]).T
    names = np.unique(np.array([p.name for p in pairs]), return_inverse=True)[1]
    return [pairs[i] for i in kept(usd, hours, latency, numbers, names, slack)]
