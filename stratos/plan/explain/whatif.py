"""Sensitivity analysis: what each limit is worth, found by solving again.

Variants of a problem with other clouds, quotas, hours or traffic.

The limits of `limits` are constraints of the model and can be moved in it. What `cloud` and
`traffic` allow decides which servers there are in the first place, so another value of them is
another problem.

Other relaxations: caps, quotas, regions, serving hours, traffic, students.

These decide which servers there are at all, so each is changed in the config and the whole problem
is built and solved again. A number is moved to where a plan just becomes possible by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from stratos.catalog import Catalog, load_catalog
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

    said: str
    """The change as a reader would say it: "server cap $1/h → $1.21/h"."""
    override: str
    choice: Choice


@dataclass
class Variants:
    """A run's config, and problem and plan of any variant of it."""

    config: Config
    catalog: Catalog
    """The offers that `config.cloud` allows."""
    build: Callable[[Config, Catalog], Problem]
    """Makes the problem, with probe, history and what is spent already bound in."""
    cache_dir: Path | None = None
    """Where cleaned catalogs are kept."""
    _catalogs: dict[str, Catalog | None] = field(default_factory=dict, init=False, repr=False)

    def problem(self, config: Config) -> Problem | None:
        """Return the problem of a variant; None if its catalog has no offer."""
        catalog = self._offers(config.cloud)
        return None if catalog is None else self.build(config, catalog)

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

    def plan(self, config: Config, order: Sequence[Linear] | None = None) -> Choice | None:
        """Return the plan of a variant, None if it has none.

        Args:
            config: the variant.
            order: what the plan is chosen by; None takes the run's objective.
        """
        problem = self.problem(config)
        if problem is None or not problem.candidates:
            return None
        model = Model(problem)
        if order is None:
            if model.solve(problem.ahead(problem.limits), CHEAPEST) is None:
                return None
            net = net_cost(problem.objective, problem.limits, frontier(problem))
            order = levels(counted_by(problem.objective, net), net)
        return model.solve(problem.ahead(problem.limits), order)

    def cheapest(self, config: Config) -> Choice | None:
        """Return the cheapest plan of a variant, None if it has none."""
        return self.plan(config, CHEAPEST)

    def relaxations(self) -> Iterator[Relaxed]:
        """Yield the least change of each setting beside `limits` that is enough with all else kept.

        In the order in which a user would think of them.
        """
        cloud, limits, traffic = self.config.cloud, self.config.limits, self.config.traffic
        if cloud.max_usd_per_hour is not None:
            yield from self._cap(cloud.max_usd_per_hour)
        yield from self._quotas(cloud)
        yield from self._places(cloud)
        if cloud.residency != ("any",) and (choice := self.plan(self._cloud(residency=("any",)))):
            yield Relaxed("data may not cross borders → may", "cloud.residency=any", choice)
        if not cloud.spot and (choice := self.plan(self._cloud(spot=True))):
            yield Relaxed("spot servers not allowed → allowed", "cloud.spot=true", choice)
        if limits.budget_usd is not None and limits.serve_hours > 0:
            yield from self._fewer(
                "serving", " h", "limits.serve_hours", limits.serve_hours,
                lambda hours: replace(self.config, limits=replace(limits, serve_hours=hours)),
            )  # fmt: skip
        if traffic.requests_per_s is not None:
            yield from self._fewer(
                "traffic", " requests/s", "traffic.requests_per_s", traffic.requests_per_s,
                lambda rate: replace(self.config, traffic=replace(traffic, requests_per_s=rate)),
            )  # fmt: skip
            yield from self._count(
                "servers of a role", "cloud.max_nodes=%d", cloud.max_nodes, 64 * cloud.max_nodes,
                lambda n: self._cloud(max_nodes=n),
            )  # fmt: skip

    def _cloud(self, **changes: Any) -> Config:
        return replace(self.config, cloud=replace(self.config.cloud, **changes))

    def _cap(self, cap: float) -> Iterator[Relaxed]:
        def capped(value: float | None) -> Config:
            return self._cloud(max_usd_per_hour=value)

        free = self.cheapest(capped(None))
        if free is None:
            return
        high = _usd_per_hour(free)
        if high <= cap or self.cheapest(capped(high)) is None:
            return
        least = _bisect(cap, high, lambda value: self.cheapest(capped(value)) is not None)
        typed = _typed(least)
        choice = self.plan(capped(float(typed)))
        if choice is not None:
            said = f"servers of a role ${cap:g} → ${typed} an hour"
            yield Relaxed(said, f"cloud.max_usd_per_hour={typed}", choice)

    def _quotas(self, cloud: CloudConfig) -> Iterator[Relaxed]:
        n_found = 0
        for key, quota in cloud.quotas.items():

            def changed(n: int, key: str = key) -> Config:
                return self._cloud(quotas={**cloud.quotas, key: n})

            most = 3 * cloud.max_nodes
            override = f"'++cloud.quotas={{{key}: %d}}'"
            for change in self._count(f"quota of {key}", override, quota, most, changed):
                n_found += 1
                yield change
        if cloud.quotas and not n_found:
            most_of_each = dict.fromkeys(cloud.quotas, 3 * cloud.max_nodes)
            choice = self.plan(self._cloud(quotas=most_of_each))
            if choice is not None:
                typed = ", ".join(f"{key}: {n}" for key, n in most_of_each.items())
                yield Relaxed(
                    f"all quotas → {3 * cloud.max_nodes}", f"'++cloud.quotas={{{typed}}}'", choice
                )

    def _places(self, cloud: CloudConfig) -> Iterator[Relaxed]:
        """Add as few regions, then clouds, as the cheapest plan without that limit is in."""
        for key, label, of_offer in (
            ("regions", "regions", "region"),
            ("providers", "clouds", "cloud"),
        ):
            allowed: tuple[str, ...] = getattr(cloud, key)
            free = self.cheapest(self._cloud(**{key: ()})) if allowed else None
            if free is None:
                continue
            places = [role.offer for role in free.roles() if role.offer is not None]
            wanted = sorted({getattr(offer, of_offer) for offer in places} - {*allowed, "local"})
            more = (new for n in range(1, len(wanted) + 1) for new in combinations(wanted, n))
            for new in more:
                choice = self.plan(self._cloud(**{key: (*allowed, *new)}))
                if choice is not None:
                    names = ",".join((*allowed, *new))
                    said = f"{label} {', '.join(allowed)} → also {', '.join(new)}"
                    yield Relaxed(said, f"cloud.{key}=[{names}]", choice)
                    break

    def _fewer(
        self, label: str, unit: str, key: str, now: float, changed: Callable[[float], Config]
    ) -> Iterator[Relaxed]:
        """Lower a number as little as is enough; a thousandth of it is the least looked at."""
        low = now / 1000
        if self.cheapest(changed(low)) is None:
            return
        most = _bisect(now, low, lambda value: self.cheapest(changed(value)) is not None)
        typed = _typed(most, down=True)
        choice = self.plan(changed(float(typed)))
        if choice is not None:
            yield Relaxed(f"{label} {now:g} → {typed}{unit}", f"{key}={typed}", choice)

    def _count(
        self, label: str, override: str, now: int, high: int, changed: Callable[[int], Config]
    ) -> Iterator[Relaxed]:
        """Raise a whole number as little as is enough."""
        if high <= now or self.cheapest(changed(high)) is None:
            return
        low = now
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.cheapest(changed(middle)) else (middle, high)
        choice = self.plan(changed(high))
        if choice is not None:
            yield Relaxed(f"{label} {now} → {high}", override % high, choice)


def nearest_student(variants: Variants) -> list[str]:
    """Name the shipped student that can be planned and is nearest in size to one asked for.

    Where no size of those that were asked for is known, it is the largest.
    """
    asked = {student.name for student in variants.config.students}
    sizes = [size for student in variants.config.students if (size := _size(student))]

    def distance(student: StudentConfig) -> float:
        size = _size(student)
        return min((abs(math.log(size / one)) for one in sizes), default=-float(size))

    for student in sorted(shipped_students(), key=distance):
        config = replace(variants.config, students=(student,))
        if student.name in asked or (choice := variants.plan(config)) is None:
            continue
        return [
            f"The nearest student that can be planned is {student.name}: {describe(choice)}",
            f"Type: student={student.name}",
        ]
    return []


def shipped_students() -> list[StudentConfig]:
    """Return the shipped students that start from a config of their own."""
    import yaml

    from stratos.core.extensions import shipped_choices
    from stratos.core.typed import read_dataclass

    found = []
    for path in shipped_choices("student").values():
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        student = read_dataclass(node, StudentConfig, path.stem, []) if "name" in node else None
        if student is not None and student.path is None:
            found.append(student)
    return found


def _size(student: StudentConfig) -> int:
    return (
        student.n_layers * student.hidden_size * (student.hidden_size + student.intermediate_size)
    )


def _usd_per_hour(choice: Choice) -> float:
    """Return the dearest role's dollars an hour, all its servers together."""
    by_role: dict[str, float] = {}
    for role in choice.roles():
        if role.offer is not None:
            price = role.offer.usd_per_hour_spot if role.spot else role.offer.usd_per_hour
            by_role[role.role] = by_role.get(role.role, 0.0) + role.count * (price or 0.0)
    return max(by_role.values(), default=0.0)


def _bisect(bad: float, good: float, works: Callable[[float], bool]) -> float:
    """Return the value nearest to `bad` that works, to a share of `PRECISION`, `good` at worst."""
    while abs(good - bad) > max(PRECISION * max(good, bad), 1e-6):
        # In equal ratios where the ends are far apart, in equal steps near each other.
        middle = math.sqrt(good * bad) if bad > 0 and good > 0 else (good + bad) / 2
        good, bad = (middle, bad) if works(middle) else (good, middle)
    return good


def _typed(value: float, down: bool = False) -> str:
    """Write a number with three or four digits, rounded to the side that works."""
    digits = max(2, 3 - math.floor(math.log10(value))) if value > 0 else 2
    scale = 10.0**digits
    rounded = math.floor(value * scale) if down else math.ceil(value * scale)
    return f"{rounded / scale:.{digits}f}".rstrip("0").rstrip(".")


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
            yield self._slack(limit, now)
            return
        unit, name = limit.unit
        more = max(0.0, now - unit) if limit.is_floor else now + unit
        way = "less" if limit.is_floor else "more"
        step = self._solve(limit, more)
        bought = "buys nothing" if is_same(step, self.chosen) else f"buys {self._bought(step)}"
        text = f"{limit.now(self.limits)} binds. {name.capitalize()} {way}"
        text += f" ({limit.said(f'{more:g}')}) {bought}."
        found: list[Move] = [(more, step, text), *self._next(limit, now, step)]
        if not any(is_same(free, other) for _, other, _ in found):
            text = f"Without the {limit.label} limit the plan would be {self._instead(free)}."
            found.append((None, free, text))
        else:
            *_, (value, other, text) = found
            found[-1] = (value, other, f"{text} Beyond that it buys nothing.")
        for value, other, text in found:
            yield self._moved(limit, value, other, text)

    def _slack(self, limit: Limit, now: float) -> WhatIf:
        used = limit.value(self.chosen) + self.problem.spent_of(limit.key)
        side = "above" if limit.is_floor else "below"
        value = limit.said(limit.typed(used))
        needs = f"reaches {value}" if limit.is_floor else f"needs {value}"
        text = (
            f"{limit.now(self.limits)} does not bind: the plan {needs}, and would be another one "
            f"only with a limit {side} that."
        )
        return self._moved(limit, float(limit.typed(used)), self.chosen, text, binds=False)

    def _next(self, limit: Limit, now: float, step: Choice) -> Iterator[Move]:
        """Yield the least move of a limit that changes the plan, unless one unit is less."""
        rank = self._rank(self.chosen)
        others = self.problem.ahead(with_limit(self.limits, limit, None))
        better = [
            choice
            for choice in within(self.everything, others, self.problem.spent_usd)
            if self._rank(choice) < rank and (not limit.is_floor or choice.candidate.is_known)
        ]
        if not better:
            return
        spent = self.problem.spent_of(limit.key)
        values = [limit.value(choice) + spent for choice in better]
        typed = limit.typed(max(values) if limit.is_floor else min(values), not_as=now)
        other = self._solve(limit, float(typed))
        if is_same(other, self.chosen) or is_same(other, step):
            return
        moved = abs(float(typed) - now)
        text = (
            f"The next better plan needs {limit.label} {limit.said(typed)} "
            f"({limit.said(f'{moved:.3g}')} {'less' if limit.is_floor else 'more'}): "
            f"{self._bought(other)}."
        )
        yield float(typed), other, text

    def _solve(self, limit: Limit, value: float | None) -> Choice:
        moved = with_limit(self.limits, limit, value)
        choice = self.model.solve(self.problem.ahead(moved), self.order)
        assert choice is not None, "a looser limit keeps the chosen plan"
        return choice

    def _rank(self, choice: Choice) -> tuple[float, ...]:
        return tuple(round(level(choice), 9) for level in self.order)

    def _bought(self, other: Choice) -> str:
        """Say what another plan gains, and by whom if the pair is another one."""
        gains = difference(self.chosen, other, self.net, self.objective)
        name = other.candidate.name
        return gains if name == self.chosen.candidate.name else f"{gains}, by {name}"

    def _instead(self, other: Choice) -> str:
        gains = difference(self.chosen, other, self.net, self.objective)
        return f"{describe(other)} ({gains})"

    def _moved(
        self, limit: Limit, value: float | None, choice: Choice, text: str, binds: bool = True
    ) -> WhatIf:
        now, point = limit.of(self.limits), as_point(choice, self.net)
        return WhatIf(f"limits.{limit.key}", now, value, point, _sentence(text), binds)

    def of_cloud(self, variants: Variants) -> Iterator[WhatIf]:
        """Yield what lifting each of the cloud's caps, quotas and regions does."""
        for key, label, value, cloud in _lifted(variants.config.cloud):
            config = replace(variants.config, cloud=cloud)
            other = variants.plan(config, self.order)
            if other is None:
                continue
            binds = not is_same(other, self.chosen)
            text = (
                f"{label} binds: without it the plan would be {self._instead(other)}."
                if binds
                else f"{label} does not bind: without it the plan would be the same."
            )
            point = as_point(other, self.net)
            yield WhatIf(f"cloud.{key}", value, None, point, _sentence(text), binds)


def _lifted(cloud: CloudConfig) -> Iterator[tuple[str, str, float | None, CloudConfig]]:
    """Yield key, name and value of each limit of a cloud, and the cloud without it."""
    cap = cloud.max_usd_per_hour
    if cap is not None:
        free = replace(cloud, max_usd_per_hour=None)
        yield "max_usd_per_hour", f"the cap of ${cap:g} an hour", cap, free
    for key, quota in cloud.quotas.items():
        others = {name: n for name, n in cloud.quotas.items() if name != key}
        free = replace(cloud, quotas=others)
        yield f"quotas.{key}", f"the quota of {quota} on {key}", float(quota), free
    if cloud.regions:
        label = f"the choice of regions {', '.join(cloud.regions)}"
        yield "regions", label, None, replace(cloud, regions=())
    if not cloud.spot:
        yield "spot", "the choice of on-demand servers alone", None, replace(cloud, spot=True)
    if "any" not in cloud.residency:
        free = replace(cloud, residency=("any",))
        yield "residency", "the rule that data cross no border", None, free


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
