"""The four limits, for explanations: how far a plan is from a limit, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stratos.config import LimitsConfig
from stratos.plan.objective import ACCURACY, HOURS, LATENCY, USD, Cost
from stratos.plan.problem import Choice

ROUNDING = 0.005
"""Largest part of a value that rounding it for the user may add."""


@dataclass(frozen=True)
class Limit:
    """One limit: its key, the cost that it bounds, and how it is written."""

    key: str
    label: str
    form: str
    """How a value is shown, with the typed number in the place of {}."""
    cost: Cost
    """Whose best value is the best for it."""
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

    def said(self, typed: str) -> str:
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
)
