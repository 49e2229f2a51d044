"""What each limit is worth, and what else would make a plan possible, by solving again.

The limits of `limits` are constraints of the model and can be moved in it. What `cloud` and
`traffic` allow decides which servers there are in the first place, so for another value of them the
whole problem is built anew. A number is moved to where a plan just becomes possible by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from stratos.catalog import Catalog, load_catalog
from stratos.catalog.table import LOCAL
from stratos.config import CloudConfig, Config, StudentConfig
from stratos.core.errors import CatalogError
from stratos.plan.explain.reasons import as_point, describe, difference, is_same
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
from stratos.plan.solve.frontier import frontier, within
from stratos.plan.solve.model import Model
from stratos.records import WhatIf

PRECISION = 0.005
"""Share of a number at which its bisection ends."""
CHEAPEST = (USD.alone,)


@dataclass(frozen=True)
class Relaxed:
    """A change of the config that is enough alone, and the plan that it gives."""

    text: str
    """The change as a reader would say it: "server cap $1/h → $1.21/h"."""
    override: str
    choice: Choice


@dataclass
class Variants:
    """A run's config, and the plan of any variant of it."""

    config: Config
    catalog: Catalog
    """The offers that `config.cloud` allows."""
    build: Callable[[Config, Catalog], Problem]
    """Makes the problem, with probe, history and what is spent already bound in."""
    cache_dir: Path | None = None
    """Where cleaned catalogs are kept."""
    _catalogs: dict[str, Catalog | None] = field(default_factory=dict, init=False, repr=False)

    def plan(self, config: Config, order: Sequence[Linear] | None = None) -> Choice | None:
        """Return the plan of a variant, None if it has none.

        Args:
            config: the variant.
            order: what the plan is chosen by; None takes the run's objective.
        """
        catalog = self._offers(config.cloud)
        if catalog is None:
            return None
        problem = self.build(config, catalog)
        if not problem.candidates:
            return None
        model, limits = Model(problem), problem.ahead(problem.limits)
        if order is None:
            if model.solve(limits, CHEAPEST) is None:
                return None
            net = net_cost(problem.objective, problem.limits, frontier(problem))
            order = levels(counted_by(problem.objective, net), net)
        return model.solve(limits, order)

    def _offers(self, cloud: CloudConfig) -> Catalog | None:
        if cloud == self.config.cloud:
            return self.catalog
        key = repr(cloud)
        if key not in self._catalogs:
            try:
                self._catalogs[key] = load_catalog(cloud, cache_dir=self.cache_dir)
            except CatalogError:
                self._catalogs[key] = None
        return self._catalogs[key]

    def relaxations(self) -> Iterator[Relaxed]:
        """Yield the least change of each setting beside `limits` that is enough with all else kept.

        In the order in which a user would think of them.
        """
        config, cloud, limits, traffic = (
            self.config, self.config.cloud, self.config.limits, self.config.traffic
        )  # fmt: skip
        yield from self._cap(cloud)
        yield from self._quotas(cloud)
        yield from self._places(cloud)
        if cloud.residency != ("any",) and (choice := self.plan(self._cloud(residency=("any",)))):
            yield Relaxed("data may not cross borders → may", "cloud.residency=any", choice)
        if not cloud.spot and (choice := self.plan(self._cloud(spot=True))):
            yield Relaxed("spot servers not allowed → allowed", "cloud.spot=true", choice)
        hours = limits.serve_hours
        if limits.budget_usd is not None and hours > 0:
            for typed, choice in self._least(
                hours,
                hours / 1000,
                lambda x: replace(config, limits=replace(limits, serve_hours=x)),
            ):
                text = f"serving {hours:g} → {typed} h"
                yield Relaxed(text, f"limits.serve_hours={typed}", choice)
        if (rate := traffic.requests_per_s) is not None:
            for typed, choice in self._least(
                rate,
                rate / 1000,
                lambda x: replace(config, traffic=replace(traffic, requests_per_s=x)),
            ):
                text = f"traffic {rate:g} → {typed} requests/s"
                yield Relaxed(text, f"traffic.requests_per_s={typed}", choice)
            n = cloud.max_nodes
            for typed, choice in self._least(n, 64 * n, lambda n: self._cloud(max_nodes=int(n))):
                text = f"servers of a role {n} → {typed}"
                yield Relaxed(text, f"cloud.max_nodes={typed}", choice)
        if limits.model_mb is not None or limits.server_memory_gb is not None:
            cut = self.cut
            if (
                cut is not None
                and cut.is_lm
                and (choice := self.plan(replace(config, students=(cut,))))
            ):
                text = "whole vocabulary → the task's tokens"
                yield Relaxed(text, "student.fit.vocabulary=true", choice)

    @property
    def cut(self) -> StudentConfig | None:
        """The one student with its vocabulary cut; None if there are several, or it cannot be."""
        student = self.config.students[0]
        is_whole = student.has_vocabulary and student.fit.vocabulary is False
        if len(self.config.students) > 1 or not is_whole:
            return None
        return replace(student, fit=replace(student.fit, vocabulary=True))

    def _cloud(self, **changes: Any) -> Config:
        return replace(self.config, cloud=replace(self.config.cloud, **changes))

    def _least(
        self, now: float, far: float, changed: Callable[[float], Config]
    ) -> Iterator[tuple[str, Choice]]:
        """Yield, as typed, the value nearest to `now` that is enough, and its plan, if any is.

        Whole numbers stay whole.
        """

        def works(value: float) -> bool:
            return self.plan(changed(value), CHEAPEST) is not None

        if far == now or not works(far):
            return
        typed = _typed(_bisect(now, far, works), down=far < now)
        choice = self.plan(changed(float(typed)))
        if choice is not None:
            yield typed, choice

    def _cap(self, cloud: CloudConfig) -> Iterator[Relaxed]:
        cap = cloud.max_usd_per_hour
        free = None if cap is None else self.plan(self._cloud(max_usd_per_hour=None), CHEAPEST)
        if cap is None or free is None:
            return
        high = max(cap, _usd_per_hour(free))
        for typed, choice in self._least(cap, high, lambda x: self._cloud(max_usd_per_hour=x)):
            text = f"servers of a role ${cap:g} → ${typed} an hour"
            yield Relaxed(text, f"cloud.max_usd_per_hour={typed}", choice)

    def _quotas(self, cloud: CloudConfig) -> Iterator[Relaxed]:
        most, is_enough = 3 * cloud.max_nodes, False
        for key, quota in cloud.quotas.items():

            def changed(n: float, key: str = key) -> Config:
                return self._cloud(quotas={**cloud.quotas, key: int(n)})

            for typed, choice in self._least(quota, most, changed) if most > quota else ():
                is_enough = True
                override = f"'++cloud.quotas={{{key}: {typed}}}'"
                yield Relaxed(f"quota of {key} {quota} → {typed}", override, choice)
        if cloud.quotas and not is_enough:
            of_each = dict.fromkeys(cloud.quotas, most)
            at_most = self.plan(self._cloud(quotas=of_each))
            if at_most is not None:
                typed = ", ".join(f"{key}: {n}" for key, n in of_each.items())
                yield Relaxed(f"all quotas → {most}", f"'++cloud.quotas={{{typed}}}'", at_most)

    def _places(self, cloud: CloudConfig) -> Iterator[Relaxed]:
        """Add as few regions, then clouds, as the cheapest plan without that limit is in."""
        if cloud.providers == (LOCAL,):
            clouds = self._cloud(name=CloudConfig.name, providers=())
            if (choice := self.plan(clouds)) is not None:
                yield Relaxed("this machine → any cloud", f"cloud={CloudConfig.name}", choice)
            return
        for key, label, of_offer in (
            ("regions", "regions", "region"),
            ("providers", "clouds", "cloud"),
        ):
            allowed: tuple[str, ...] = getattr(cloud, key)
            free = self.plan(self._cloud(**{key: ()}), CHEAPEST) if allowed else None
            if free is None:
                continue
            offers = [role.offer for role in free.roles() if role.offer is not None]
            new = sorted({getattr(offer, of_offer) for offer in offers} - {*allowed, LOCAL})
            for some in (some for n in range(1, len(new) + 1) for some in combinations(new, n)):
                choice = self.plan(self._cloud(**{key: (*allowed, *some)}))
                if choice is not None:
                    text = f"{label} {', '.join(allowed)} → also {', '.join(some)}"
                    override = f"cloud.{key}=[{','.join((*allowed, *some))}]"
                    yield Relaxed(text, override, choice)
                    break


def in_cloud(variants: Variants, student: str) -> Choice | None:
    """Return the cheapest plan of a student in any cloud; None where it may be in one already.

    Args:
        variants: of the run.
        student: its name.
    """
    config = variants.config
    if config.cloud.providers != (LOCAL,):
        return None
    clouds = replace(config.cloud, name=CloudConfig.name, providers=())
    students = tuple(each for each in config.students if each.name == student)
    return variants.plan(replace(config, cloud=clouds, students=students), CHEAPEST)


def nearest_student(variants: Variants) -> list[str]:
    """Name the shipped student that can be planned and is nearest in size to the user's.

    Where none of their sizes is known, it is the largest.
    """
    task = variants.config.task
    if task.has_rows and task.vocabulary() is None:
        return []  # random weights do not learn natural language from rows
    names = {student.name for student in variants.config.students}
    sizes = [size for student in variants.config.students if (size := _size(student))]

    def distance(student: StudentConfig) -> float:
        size = _size(student)
        return min((abs(math.log(size / near)) for near in sizes), default=-float(size))

    for student in sorted(shipped_students(), key=distance):
        config = replace(variants.config, students=(student,))
        if student.name not in names and (choice := variants.plan(config)) is not None:
            return [
                f"The nearest student that can be planned is {student.name}: {describe(choice)}",
                f"Type: student={student.name}",
            ]
    return []


def shipped_students() -> list[StudentConfig]:
    """Return the shipped students that start from a config of their own."""
    import yaml

    from stratos.core.extensions import shipped_choices
    from stratos.core.values import read_dataclass

    students = []
    for path in shipped_choices("student").values():
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        student = read_dataclass(node, StudentConfig, path.stem, []) if "name" in node else None
        if student is not None and student.path is None:
            students.append(student)
    return students


def _size(student: StudentConfig) -> int:
    width, mlp = student.hidden_size, student.intermediate_size
    return student.n_layers * width * (width + mlp)


def _usd_per_hour(choice: Choice) -> float:
    """Return the dearest role's dollars an hour, all its servers together."""
    return max(sum(part.usd_per_hour for part in option.parts) for option in choice.options)


def _bisect(bad: float, good: float, works: Callable[[float], bool]) -> float:
    """Return the value nearest to `bad` that works, to a share of `PRECISION`, `good` at worst."""
    is_whole = isinstance(bad, int) and isinstance(good, int)
    while abs(good - bad) > (1 if is_whole else max(PRECISION * max(good, bad), 1e-6)):
        # In equal ratios where the ends are far apart, in equal steps near each other.
        middle = math.sqrt(good * bad) if bad > 0 and good > 0 else (good + bad) / 2
        middle = (good + bad) // 2 if is_whole else middle
        good, bad = (middle, bad) if works(middle) else (good, middle)
    return good


def _typed(value: float, down: bool = False) -> str:
    """Write a number with three or four digits, rounded to the side that works."""
    if isinstance(value, int):
        return str(value)
    digits = max(2, 3 - math.floor(math.log10(value))) if value > 0 else 2
    scale = 10.0**digits
    rounded = math.floor(value * scale) if down else math.ceil(value * scale)
    return f"{rounded / scale:.{digits}f}".rstrip("0").rstrip(".")


# What each limit is worth.

Move = tuple[float | None, Choice, str]
"""Another value of a limit, the plan under it, and both as a sentence."""


def whatif(
    problem: Problem,
    model: Model,
    chosen: Choice,
    everything: Sequence[Choice],
    net: Linear,
    variants: Variants | None = None,
) -> tuple[WhatIf, ...]:
    """Return, limit by limit, whether it binds and what more of it would buy.

    A limit binds if another plan is chosen without it. Then the plan is solved again with one unit
    more of it (a dollar, an hour, 100 ms, a percentage point less), with just as much as the next
    better plan needs, and without it.

    Args:
        problem: what was chosen from.
        model: the same, as it is solved.
        chosen: the plan.
        everything: the frontier before the limits.
        net: the net cost.
        variants: how to ask again with other clouds; with it the caps, quotas and regions of
            `cloud` are looked at too.
    """
    comparison = _Comparison(problem, model, chosen, everything, net)
    moves = [move for limit in LIMITS for move in comparison.of(limit)]
    if variants is not None:
        moves += comparison.of_cloud(variants)
    return tuple(moves)


@dataclass
class _Comparison:
    """One chosen plan, and what it is compared with."""

    problem: Problem
    model: Model
    chosen: Choice
    everything: Sequence[Choice]
    net: Linear

    def __post_init__(self) -> None:
        """Say what plans are chosen by."""
        self.limits, self.objective = self.problem.limits, self.problem.objective
        self.order = levels(counted_by(self.objective, self.net), self.net)

    def of(self, limit: Limit) -> Iterator[WhatIf]:
        """Yield what moving one limit does; nothing if it is not set."""
        now = limit.of(self.limits)
        if now is None:
            return
        free = self._solve(limit, None)
        if is_same(free, self.chosen):
            yield self._slack(limit)
            return
        moves = [self._step(limit, now)]
        moves += self._next(limit, now, moves[0][1])
        last = [i for i, (_, choice, _) in enumerate(moves) if is_same(free, choice)]
        if last:
            value, choice, text = moves[last[0]]
            moves[last[0]] = (value, choice, f"{text} Beyond that it buys nothing.")
        else:
            instead = self._instead(free)
            text = f"Without the {limit.label} limit the plan would be {instead}."
            moves.append((None, free, text))
        for move in moves:
            yield self._moved(limit, *move)

    def _slack(self, limit: Limit) -> WhatIf:
        used = limit.typed(limit.value(self.chosen) + self.problem.spent_of(limit.key))
        side = "above" if limit.is_floor else "below"
        needs = "reaches" if limit.is_floor else "needs"
        text = (
            f"{limit.now(self.limits)} does not bind: the plan {needs} {limit.shown(used)}, and "
            f"would be another one only with a limit {side} that."
        )
        return self._moved(limit, float(used), self.chosen, text, binds=False)

    def _step(self, limit: Limit, now: float) -> Move:
        """Return what one unit more of a limit buys."""
        unit, name = limit.unit
        value = max(0.0, now - unit) if limit.is_floor else now + unit
        choice = self._solve(limit, value)
        bought = "nothing" if is_same(choice, self.chosen) else self._bought(choice)
        text = (
            f"{limit.now(self.limits)} binds. {name.capitalize()} "
            f"{'less' if limit.is_floor else 'more'} ({limit.shown(f'{value:g}')}) buys {bought}."
        )
        return value, choice, text

    def _next(self, limit: Limit, now: float, step: Choice) -> Iterator[Move]:
        """Yield the least move of a limit that changes the plan, unless one unit is less."""
        rank = self._rank(self.chosen)
        free = self.problem.ahead(with_limit(self.limits, limit, None))
        spent = self.problem.spent_of(limit.key)
        needed = [
            limit.value(choice) + spent
            for choice in within(self.everything, free, self.problem.spent_usd)
            if self._rank(choice) < rank and (not limit.is_floor or choice.candidate.is_known)
        ]
        if not needed:
            return
        typed = limit.typed(max(needed) if limit.is_floor else min(needed), not_as=now)
        choice = self._solve(limit, float(typed))
        if is_same(choice, self.chosen) or is_same(choice, step):
            return
        moved = limit.shown(f"{abs(float(typed) - now):.3g}")
        text = (
            f"The next better plan needs {limit.label} {limit.shown(typed)} ({moved} "
            f"{'less' if limit.is_floor else 'more'}): {self._bought(choice)}."
        )
        yield float(typed), choice, text

    def _solve(self, limit: Limit, value: float | None) -> Choice:
        moved = with_limit(self.limits, limit, value)
        choice = self.model.solve(self.problem.ahead(moved), self.order)
        assert choice is not None, "a looser limit keeps the chosen plan"
        return choice

    def _rank(self, choice: Choice) -> tuple[float, ...]:
        return tuple(round(level(choice), 9) for level in self.order)

    def _bought(self, choice: Choice) -> str:
        """Say what another plan gains, and by whom if the pair is another one."""
        gains = difference(self.chosen, choice, self.net, self.objective)
        name = choice.candidate.name
        return gains if name == self.chosen.candidate.name else f"{gains}, by {name}"

    def _instead(self, choice: Choice) -> str:
        gains = difference(self.chosen, choice, self.net, self.objective)
        return f"{describe(choice)} ({gains})"

    def _moved(
        self, limit: Limit, value: float | None, choice: Choice, text: str, binds: bool = True
    ) -> WhatIf:
        now, point = limit.of(self.limits), as_point(choice, self.net)
        return WhatIf(f"limits.{limit.key}", now, value, point, _capitalised(text), binds)

    def of_cloud(self, variants: Variants) -> Iterator[WhatIf]:
        """Yield what lifting each of the cloud's caps, quotas and regions does."""
        for key, label, value, cloud in _lifted(variants.config.cloud):
            choice = variants.plan(replace(variants.config, cloud=cloud), self.order)
            if choice is None:
                continue
            binds = not is_same(choice, self.chosen)
            text = f"{label} does not bind: without it the plan would be the same."
            if binds:
                text = f"{label} binds: without it the plan would be {self._instead(choice)}."
            point = as_point(choice, self.net)
            yield WhatIf(f"cloud.{key}", value, None, point, _capitalised(text), binds)


def _lifted(cloud: CloudConfig) -> Iterator[tuple[str, str, float | None, CloudConfig]]:
    """Yield key, name and value of each limit of a cloud, and the cloud without it."""
    cap = cloud.max_usd_per_hour
    if cap is not None:
        free = replace(cloud, max_usd_per_hour=None)
        yield "max_usd_per_hour", f"the cap of ${cap:g} an hour", cap, free
    for key, quota in cloud.quotas.items():
        free = replace(cloud, quotas={name: n for name, n in cloud.quotas.items() if name != key})
        yield f"quotas.{key}", f"the quota of {quota} on {key}", float(quota), free
    if cloud.regions:
        label = f"the choice of regions {', '.join(cloud.regions)}"
        yield "regions", label, None, replace(cloud, regions=())
    if not cloud.spot:
        yield "spot", "the choice of on-demand servers alone", None, replace(cloud, spot=True)
    if "any" not in cloud.residency:
        free = replace(cloud, residency=("any",))
        yield "residency", "the rule that data cross no border", None, free


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
