"""Other relaxations: caps, quotas, regions, serving hours, traffic, students.

These decide which servers there are at all, so each is changed in the config and the whole problem
is built and solved again. A number is moved to where a plan just becomes possible by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from stratos.config import CloudConfig, Config, StudentConfig
from stratos.plan.explain.in_words import describe
from stratos.plan.explain.variants import Variants
from stratos.plan.objective import USD, Linear, counted_by, levels, net_cost
from stratos.plan.problem import Choice
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.model import Model

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


def relaxations(variants: Variants) -> list[Relaxed]:
    """Return the least change of each setting beside `limits` that is enough with all else kept."""
    return list(_Search(variants).found())


def again(
    variants: Variants, config: Config, order: Sequence[Linear] | None = None
) -> Choice | None:
    """Return the plan of a variant of the run, None if it has none.

    Args:
        variants: how to ask again.
        config: the variant.
        order: what the plan is chosen by; None takes the run's objective.
    """
    problem = variants.problem(config)
    if problem is None or not problem.candidates:
        return None
    model = Model(problem)
    if order is None:
        if model.solve(problem.ahead(problem.limits), CHEAPEST) is None:
            return None
        net = net_cost(problem.objective, problem.limits, frontier(problem))
        order = levels(counted_by(problem.objective, net), net)
    return model.solve(problem.ahead(problem.limits), order)


class _Search:
    """Asks variants of one run for a plan."""

    def __init__(self, variants: Variants) -> None:
        self.variants = variants
        self.config = variants.config

    def found(self) -> Iterator[Relaxed]:
        """Yield the changes, in the order in which a user would think of them."""
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

    def cheapest(self, config: Config) -> Choice | None:
        """Return the cheapest plan of a variant, None if it has none."""
        return again(self.variants, config, CHEAPEST)

    def plan(self, config: Config) -> Choice | None:
        """Return the plan of a variant by the run's objective, None if it has none."""
        return again(self.variants, config)

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
    search = _Search(variants)
    asked = {student.name for student in variants.config.students}
    sizes = [size for student in variants.config.students if (size := _size(student))]

    def distance(student: StudentConfig) -> float:
        size = _size(student)
        return min((abs(math.log(size / one)) for one in sizes), default=-float(size))

    for student in sorted(shipped_students(), key=distance):
        config = replace(variants.config, students=(student,))
        if student.name in asked or (choice := search.plan(config)) is None:
            continue
        return [
            f"The nearest student that can be planned is {student.name}: {describe(choice)}",
            f"Type: student={student.name}",
        ]
    return []


def shipped_students() -> list[StudentConfig]:
    """Return the shipped students that start from a config of their own."""
    import yaml

    from stratos.core.conf import shipped_choices
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
