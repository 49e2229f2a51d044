"""The objective of a plan as one linear function of accuracy, cost, time and latency.

An objective has weights on the four (`objective.weights`). Without weights it is the *net cost*, in
dollars:

    dollars + hours · usd_per_hour_of_waiting + p95 / 100 ms · usd_per_100ms
            - points of accuracy · usd_per_accuracy_point

The three exchange rates are the user's (`objective`). One that is not given follows from how much
money is at stake: the budget, where there is one, else the cheapest plan before the limits, and
`LEAST_STAKE_USD` at least. A point of accuracy is worth 5% of that, an hour 10%, 100 ms 2%; where
there is a deadline or a latency limit, using up the whole of it costs a quarter of the stake. So no
offer that is absurdly dear, and no limit on another quantity, changes what an hour is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.core.formats import cents, listed
from stratos.plan.problem import Choice


@dataclass(frozen=True)
class Linear:
    """A function of the four costs that is to be small."""

    weights: tuple[float, float, float, float]
    """In the order of `COSTS`."""
    constant: float = 0.0

    def __call__(self, choice: Choice) -> float:
        """Return the value of a plan."""
        costs = choice.costs
        return self.constant + sum(w * v for w, v in zip(self.weights, costs, strict=True))


@dataclass(frozen=True)
class Cost:
    """One of the four things that a plan is judged by."""

    name: str
    label: str
    """How a difference in it is named."""
    alternative: str
    """Name of the plan that is the best in it alone, among those beside the chosen one."""
    alone: Linear
    value: Callable[[Choice], float]
    write: Callable[[float], str]
    """Writes an amount of it."""


def money(usd: float) -> str:
    """Write dollars with cents, or two digits where there are less than ten cents."""
    return cents(usd) if usd >= 0.1 or usd == 0 else f"${usd:.2g}"


ACCURACY = Cost(
    name="accuracy",
    label="accuracy",
    alternative="accuracy_first",
    alone=Linear((1.0, 0.0, 0.0, 0.0)),
    value=lambda choice: choice.accuracy,
    write="{:.3f}".format,
)
USD = Cost(
    name="cost",
    label="cost",
    alternative="cost_first",
    alone=Linear((0.0, 1.0, 0.0, 0.0)),
    value=lambda choice: choice.usd,
    write=money,
)
HOURS = Cost(
    name="time",
    label="time",
    alternative="fastest",
    alone=Linear((0.0, 0.0, 1.0, 0.0)),
    value=lambda choice: choice.hours,
    write=lambda hours: f"{hours:.3g} h",
)
LATENCY = Cost(
    name="latency",
    label="p95",
    alternative="lowest_latency",
    alone=Linear((0.0, 0.0, 0.0, 1.0)),
    value=lambda choice: choice.latency_ms,
    write=lambda latency_ms: f"{latency_ms:.3g} ms",
)
COSTS = (ACCURACY, USD, HOURS, LATENCY)
"""In the order of `Choice.costs`, where accuracy counts negatively."""

LEAST_STAKE_USD = 10.0
"""Dollars that are taken to be at stake where plans cost less, or nothing at all."""
SHARE_OF_LIMIT = 0.25
"""Part of the stake that using up a whole deadline or latency limit costs."""


@dataclass(frozen=True)
class Rate:
    """One of the exchange rates."""

    key: str
    """Key of `objective`."""
    name: str
    share: float
    """Of the stake, where no limit says more."""
    limit: str = ""
    """Key of the limit that it is scaled to."""
    per: float = 1.0
    """Units of the limit that it is for: 100 of a latency limit's milliseconds."""


RATES = (
    Rate("usd_per_accuracy_point", "worth of one percentage point of accuracy", 0.05),
    Rate(
        "usd_per_hour_of_waiting",
        "worth of one hour until the student serves",
        0.10,
        limit="deadline_hours",
    ),
    Rate("usd_per_100ms", "worth of 100 ms of p95 latency", 0.02, limit="latency_ms", per=100.0),
)


@dataclass(frozen=True)
class Rates:
    """What points, hours and milliseconds count in dollars, and where each number is from."""

    usd: Mapping[str, float]
    why: Mapping[str, str | None]
    """Key to where a default is from; None where the user gave it."""

    @property
    def net_cost(self) -> Linear:
        """The net cost of a plan in dollars."""
        point, hour, tenth = (self.usd[rate.key] for rate in RATES)
        return Linear((100.0 * point, 1.0, hour, tenth / 100.0))


def exchange_rates(
    config: ObjectiveConfig, limits: LimitsConfig, reference: Sequence[Choice]
) -> Rates:
    """Return the exchange rates of a run."""
    cheapest = min((choice.usd for choice in reference), default=0.0)
    stake, of_what = cheapest, f"the {cents(cheapest)} of the cheapest plan"
    if limits.budget_usd is not None:
        stake, of_what = limits.budget_usd, f"the budget of {cents(limits.budget_usd)}"
    if stake < LEAST_STAKE_USD:
        stake, of_what = LEAST_STAKE_USD, f"${LEAST_STAKE_USD:g}, where less is at stake"
    usd: dict[str, float] = {}
    why: dict[str, str | None] = {}
    for rate in RATES:
        own: float | None = getattr(config, rate.key)
        scale: float | None = getattr(limits, rate.limit) if rate.limit else None
        if own is not None:
            usd[rate.key], why[rate.key] = own, None
        elif scale:
            usd[rate.key] = SHARE_OF_LIMIT * stake * rate.per / scale
            why[rate.key] = (
                f"the whole of limits.{rate.limit}={scale:g} counts as {SHARE_OF_LIMIT:.0%} of "
                f"{of_what}"
            )
        else:
            usd[rate.key] = rate.share * stake
            why[rate.key] = f"{rate.share:.0%} of {of_what}"
    return Rates(usd, why)


def net_cost(config: ObjectiveConfig, limits: LimitsConfig, reference: Sequence[Choice]) -> Linear:
    """Return the net cost of a plan in dollars, as a linear function; see `exchange_rates`."""
    return exchange_rates(config, limits, reference).net_cost


def counted_by(objective: ObjectiveConfig, net: Linear) -> Linear:
    """Return what an objective minimises: its weights, else the net cost."""
    return net if objective.weights is None else Linear(astuple(objective.weights))


def weighted(objective: ObjectiveConfig) -> tuple[Cost, ...]:
    """Return the costs that an objective has weights on."""
    weights = () if objective.weights is None else astuple(objective.weights)
    return tuple(cost for cost, weight in zip(COSTS, weights, strict=False) if weight)


def goal_of(objective: ObjectiveConfig) -> str:
    """Return what the chosen plan has among all that there are: "the lowest cost"."""
    if objective.goal:
        return objective.goal
    if objective.weights is None:
        return "the lowest net cost"
    names = listed([cost.name for cost in weighted(objective)])
    return f"the best {names}, weighted by objective.weights"


def levels(first: Linear, net: Linear) -> list[Linear]:
    """Return what is minimised, one after the other: the objective, dollars, the net cost.

    Ties of the objective go to the cheaper plan, ties of both to the lower net cost. Where a rate
    is 0, a last level counts all four values, so that no plan is chosen that another dominates.

    Args:
        first: what the objective counts; see `counted_by`.
        net: the net cost.
    """
    order = [first, USD.alone, net]
    if 0.0 in net.weights:
        order.append(Linear((1.0, 1.0, 1.0, 0.001)))  # seconds, so that all are of one size
    return [level for i, level in enumerate(order) if level not in order[:i]]


def best(choices: Sequence[Choice], first: Linear, net: Linear) -> Choice:
    """Return the best of plans by enumeration, ties as in the solver's model."""
    costs = np.array([choice.costs for choice in choices])
    ties = np.arange(len(choices))
    for level in levels(first, net):
        values = np.round(costs[ties] @ np.array(level.weights) + level.constant, 9)
        ties = ties[values == values.min()]
    return min((choices[i] for i in ties.tolist()), key=lambda choice: choice.sort_name)


# The limits, for explanations: how far a plan is from a limit, and how it is written.


ROUNDING = 0.005
"""Largest part of a value that rounding it for the user may add."""


@dataclass(frozen=True)
class Limit:
    """One limit: its key, what it bounds, and how that is written."""

    key: str
    label: str
    form: str
    """How a value is shown, with the typed number in the place of {}."""
    cost: Cost | None
    """Whose best value is the best for it; None where it bounds what no objective counts."""
    value: Callable[[Choice], float]
    decimals: int
    is_floor: bool = False
    unit: tuple[float, str] = (1.0, "")
    """A step that a user would think of, and its name."""

    def of(self, limits: LimitsConfig) -> float | None:
        """Return the limit's value, None if it is not set."""
        value: float | None = getattr(limits, self.key)
        return value

    def typed(self, value: float, not_as: float | None = None) -> str:
        """Write a value as one would type it, rounded to the side that stays feasible.

        Args:
            value: what to write.
            not_as: a value that it must not read like; digits are added until it does not.
        """
        for decimals in range(self.decimals, 12):
            scale = 10.0**decimals
            # A hair's breadth beside a whole number is that number, not the next one.
            if self.is_floor:
                rounded = math.floor(value * scale + 1e-6) / scale
            else:
                rounded = math.ceil(value * scale - 1e-6) / scale
            off = abs(rounded - value) > ROUNDING * abs(value) + 1e-12
            if not off and (not_as is None or abs(rounded - not_as) > 1e-12):
                break
        text = f"{rounded:.{decimals}f}"
        is_money = self.form.startswith("$")
        return text.rstrip("0").rstrip(".") if decimals and not is_money else text

    def shown(self, typed: str) -> str:
        """Return a typed value with its unit, or how it is said that there is none."""
        return "none" if typed == "null" else self.form.format(typed)

    def now(self, limits: LimitsConfig) -> str:
        """Return the limit as it is, with its label and unit."""
        return f"{self.label} {self.form.format(f'{getattr(limits, self.key):g}')}"


def with_limit(limits: LimitsConfig, limit: Limit, value: float | None) -> LimitsConfig:
    """Return the limits with one of them set to another value; None lifts it."""
    changes: dict[str, Any] = {limit.key: value}
    return replace(limits, **changes)


LIMITS = (
    Limit(
        key="budget_usd",
        label="budget",
        form="${}",
        cost=USD,
        value=lambda c: c.held_usd,
        decimals=2,
        unit=(1.0, "one dollar"),
    ),
    Limit(
        key="deadline_hours",
        label="deadline",
        form="{} h",
        cost=HOURS,
        value=lambda c: c.hours,
        decimals=2,
        unit=(1.0, "one hour"),
    ),
    Limit(
        key="latency_ms",
        label="p95",
        form="{} ms",
        cost=LATENCY,
        value=lambda c: c.latency_ms,
        decimals=0,
        unit=(100.0, "100 ms"),
    ),
    Limit(
        key="accuracy",
        label="accuracy",
        form="{}",
        cost=ACCURACY,
        value=lambda c: c.limit_accuracy,
        decimals=3,
        is_floor=True,
        unit=(0.01, "one percentage point"),
    ),
    Limit(
        key="model_mb",
        label="model size",
        form="{} MB",
        cost=None,
        value=lambda c: c.candidate.model_mb,
        decimals=0,
        unit=(10.0, "ten megabytes"),
    ),
    Limit(
        key="server_memory_gb",
        label="server memory",
        form="{} GB",
        cost=None,
        value=lambda c: c.candidate.memory_gb,
        decimals=2,
        unit=(0.1, "100 megabytes"),
    ),
)
