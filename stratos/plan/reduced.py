"""A problem without what can be no part of a best plan: small enough for frontier and solver.

The rule of `pareto` is applied four times, each time exactly:

- to the options of every work, with the most egress that another place can cost as slack;
- to pairs of training and serving together, once their egress is known: what is left for the slack
  is the egress of the teacher's answers;
- to a teacher's options as each place of training that is left sees them;
- to whole plans: of the options the solver gets those that some plan of the frontier uses.

Serving that has to keep up with a rate is a staircase of mixes (`serving`), which depends on the
place of training through the egress of each server. Solving it for every place would be wasteful:
a staircase without egress bounds all of them from below, its mixes with egress from above, and only
a place whose lower bound some other plan does not beat is solved by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stratos.plan.egress import Place
from stratos.plan.frontier import merged
from stratos.plan.option import Mix, Option, Served
from stratos.plan.pareto import Floats, Staircase, kept, prune, unbeaten
from stratos.plan.serving import Step, mix_steps, single_steps
from stratos.plan.solver import Solver

if TYPE_CHECKING:
    from stratos.plan.problem import Choice, Problem


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
    """The pruned options of a problem, and the merges of its roles; everything is made once."""

    def __init__(self, problem: Problem) -> None:
        """Prune the options of every work by themselves."""
        self.problem = problem
        settings = problem.settings
        self.solver = Solver(settings.solver, settings.time_limit_s, settings.gap)
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

    def steps(self, work: str, source: Place | None) -> list[Step]:
        """Return the staircase of serving for a training at `source`."""
        options = self.options[work]
        egress = tuple(self.problem.bundle_usd(work, source, o.place) for o in options)
        key = self._key(work, egress)
        if key not in self._steps:
            self._steps[key] = self._staircase(work, egress)
        return self._steps[key]

    def floor(self, work: str) -> list[Step]:
        """Return the staircase of serving without egress: no place of training has a lower one."""
        egress = (0.0,) * len(self.options[work])
        key = self._key(work, egress)
        if key not in self._steps:
            self._steps[key] = self._staircase(work, egress)
        return self._steps[key]

    def _key(self, work: str, egress: tuple[float, ...]) -> tuple[object, ...]:
        """Return what a staircase is made from: strategies of one student may share it."""
        return self.options[work], self.problem.rates.get(work), egress

    def _staircase(self, work: str, egress: tuple[float, ...]) -> list[Step]:
        options = self.options[work]
        if work not in self.problem.rates:
            return single_steps(options, egress)
        rates = self.problem.rates[work]
        return mix_steps(options, egress, rates, self.problem.caps, self.solver)

    def tails(self, train: str, serve: str) -> list[Tail]:
        """Return the pairs of training and serving that are left."""
        if (train, serve) not in self._tails:
            by_place: dict[Place | None, list[Option]] = defaultdict(list)
            for option in self.options[train]:
                by_place[option.place].append(option)
            slack = self.dataset_slack[train]
            guessed: dict[Place | None, list[Step]] = {}
            if serve in self.problem.rates:
                guessed = self._good_enough(by_place, serve, slack)
            pairs = [
                Tail(o.usd + step.usd, o.hours, step.latency_ms, o, step)
                for place, options in by_place.items()
                for step in guessed.get(place) or self.steps(serve, place)
                for o in options
            ]
            self._tails[train, serve] = _left(pairs, slack)
        return self._tails[train, serve]

    @cached_property
    def plans(self) -> list[Choice]:
        """The frontier before the limits; made once."""
        return merged(self)

    def for_solver(self) -> dict[str, tuple[Served, ...]]:
        """Return the options that the solver may choose from: those that the frontier's plans use.

        Limits and objectives are monotone in the four costs, so some plan of the frontier is an
        optimum of each; the solver is still free to put its parts together in any way.
        """
        used: dict[str, dict[int, Served]] = {work: {} for work in self.options}
        for choice in self.plans:
            for work, option in zip(choice.candidate.work, choice.options, strict=True):
                used[work][id(option)] = option
        return {w: tuple(sorted(found.values(), key=_order)) for w, found in used.items()}

    def _good_enough(
        self, by_place: dict[Place | None, list[Option]], serve: str, slack: float
    ) -> dict[Place | None, list[Step]]:
        """Return the places of training that need no staircase of their own, with one that exists.

        The staircase without egress bounds that of every place from below. Its mixes, each server
        where its like is cheapest from there, exist. A place needs no other mixes if what exists,
        here or anywhere, beats all its bounds, each raised by the share `mix_gap`.
        """
        floor = self.floor(serve)
        if not floor:
            return {}
        exist = {place: [self._placed(serve, place, step) for step in floor] for place in by_place}
        numbers = {place: i for i, place in enumerate(by_place)}

        def points(steps: Mapping[Place | None, Sequence[Step]], raised: float) -> Floats:
            return np.array(
                [
                    ((o.usd + step.usd) * (1 + raised), o.hours, step.latency_ms, numbers[place])
                    for place, options in by_place.items()
                    for step in steps[place]
                    for o in options
                ]
            )

        bounds = points(dict.fromkeys(by_place, floor), self.problem.mix_gap)
        places = bounds[:, 3].astype(int)
        needed = {int(places[i]) for i in unbeaten(bounds, points(exist, 0.0), slack)}
        return {place: exist[place] for place, i in numbers.items() if i not in needed}

    def _placed(self, work: str, source: Place | None, step: Step) -> Step:
        """Return the mix of a step for a training at `source`, with its egress.

        Where no cap can bind, each server stands where its like is cheapest, egress included.
        """
        caps = self.problem.caps
        mix = step.served
        free = not caps.any_quota and caps.max_usd_per_hour is None
        if free and isinstance(mix, Mix):
            twins = self._twins(work, source)
            parts = []
            for part in mix.parts:
                twin = twins[_likeness(part)]
                parts.append(
                    replace(twin, count=part.count, usd=part.count * twin.usd,
                            latency_ms=part.latency_ms)
                )  # fmt: skip
            mix = Mix(tuple(parts), mix.shares)
        egress = sum(p.count * self.problem.bundle_usd(work, source, p.place) for p in mix.parts)
        return Step(mix.usd + egress, step.latency_ms, mix)

    def _twins(self, work: str, source: Place | None) -> dict[object, Option]:
        """Return the cheapest of the servers that answer alike, by what they answer."""

        def usd(option: Option) -> tuple[float, str]:
            egress = self.problem.bundle_usd(work, source, option.place)
            return option.usd + egress, option.sort_name

        lowest: dict[object, Option] = {}
        for option in self.options[work]:
            alike = _likeness(option)
            lowest[alike] = min(lowest.get(alike, option), option, key=usd)
        return lowest


def _order(option: Served) -> tuple[float, float, float, str]:
    return option.usd, option.hours, option.latency_ms, option.sort_name


def _likeness(option: Option) -> object:
    return option.latencies_ms, option.requests_per_s


def _left(pairs: list[Tail], slack: float) -> list[Tail]:
    if not pairs:
        return []
    places: dict[Place | None, int] = {}
    numbers = np.array([places.setdefault(p.train.place, len(places)) for p in pairs])
    usd, hours, latency = np.array([(p.usd, p.hours, p.latency_ms) for p in pairs]).T
    names = np.unique(np.array([p.name for p in pairs]), return_inverse=True)[1]
    return [pairs[i] for i in kept(usd, hours, latency, numbers, names, slack)]
