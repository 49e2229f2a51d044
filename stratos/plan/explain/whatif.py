"""Sensitivity analysis: what each limit is worth, found by solving again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stratos.config import CloudConfig
from stratos.plan.explain.in_words import describe, difference, is_same
from stratos.plan.explain.point import as_point
from stratos.plan.explain.relaxations import again
from stratos.plan.explain.variants import Variants
from stratos.plan.limits import LIMITS, Limit, with_limit
from stratos.plan.objective import Linear, counted_by, levels
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import within
from stratos.plan.solve.model import Model
from stratos.records import WhatIf

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
    told = _Told(problem, model, chosen, everything, net)
    found = [one for limit in LIMITS for one in told.of(limit)]
    if variants is not None:
        found += told.of_cloud(variants)
    return tuple(found)


class _Told:
    """One chosen plan, and what it is compared with."""

    def __init__(
        self,
        problem: Problem,
        model: Model,
        chosen: Choice,
        everything: Sequence[Choice],
        net: Linear,
    ) -> None:
        self.limits = problem.limits
        self.model = model
        self.chosen = chosen
        self.everything = everything
        self.net = net
        self.objective = problem.objective
        self.order = levels(counted_by(self.objective, net), net)

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
            yield self._told(limit, value, other, text)

    def _slack(self, limit: Limit, now: float) -> WhatIf:
        used = limit.value(self.chosen) + self.model.problem.spent_of(limit.key)
        side = "above" if limit.is_floor else "below"
        value = limit.said(limit.typed(used))
        needs = f"reaches {value}" if limit.is_floor else f"needs {value}"
        text = (
            f"{limit.now(self.limits)} does not bind: the plan {needs}, and would be another one "
            f"only with a limit {side} that."
        )
        return self._told(limit, float(limit.typed(used)), self.chosen, text, binds=False)

    def _next(self, limit: Limit, now: float, step: Choice) -> Iterator[Move]:
        """Yield the least move of a limit that changes the plan, unless one unit is less."""
        rank = self._rank(self.chosen)
        others = self.model.problem.ahead(with_limit(self.limits, limit, None))
        better = [
            choice
            for choice in within(self.everything, others, self.model.spent_usd)
            if self._rank(choice) < rank and (not limit.is_floor or choice.candidate.is_known)
        ]
        if not better:
            return
        spent = self.model.problem.spent_of(limit.key)
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
        choice = self.model.solve(self.model.problem.ahead(moved), self.order)
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

    def _told(
        self, limit: Limit, value: float | None, choice: Choice, text: str, binds: bool = True
    ) -> WhatIf:
        now, point = limit.of(self.limits), as_point(choice, self.net)
        return WhatIf(f"limits.{limit.key}", now, value, point, _sentence(text), binds)

    def of_cloud(self, variants: Variants) -> Iterator[WhatIf]:
        """Yield what lifting each of the cloud's caps, quotas and regions does."""
        for key, label, value, cloud in _lifted(variants.config.cloud):
            config = replace(variants.config, cloud=cloud)
            other = again(variants, config, self.order)
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
