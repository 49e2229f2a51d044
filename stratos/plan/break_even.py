"""When distilling pays: payback and break-even of one alternative, from dollars alone.

    ahead(t) = c · N(t) + e · t − d · t − once        dollars by which the student is ahead

c dollars of an answer of a hosted model, N(t) requests until then (`horizon`), e dollars a day of
the servers of an open model, d of the student's, which cost as much when they are idle, `once` what
teacher, data and training cost from now on. Payback is the day from which on `ahead` stays above
zero until the horizon ends. It counts from the plan on: while the student is made, the requests
are answered as before, and nothing is saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stratos.plan.horizon import DAYS_A_MONTH, Horizon
from stratos.records import Interval

_STEPS = 200
"""Halvings of a bisection, of which the last fifty change nothing."""

Outcome = Literal["distil", "stay", "open"]


@dataclass(frozen=True)
class Money:
    """What decides: each number at one end of its range, or in the middle."""

    once: float
    """Dollars."""
    per_day: float
    """Dollars of the student's servers."""
    per_answer: float
    """Dollars of the hosted model."""
    other_per_day: float = 0.0
    """Dollars of the servers of an open model."""

    def ahead(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return the dollars by which the student is ahead after so many days."""
        return self.alternative(days, requests_per_day, horizon) - self.per_day * days - self.once

    def alternative(self, days: float, requests_per_day: float, horizon: Horizon) -> float:
        """Return what the alternative costs in so many days."""
        answers = requests_per_day * horizon.days_of_first_rate(days)
        return self.per_answer * answers + self.other_per_day * days

    def payback_days(self, requests_per_day: float, horizon: Horizon) -> float | None:
        """Return the day from which on the student stays ahead; None if not at the horizon's end.

        `ahead` bends one way alone, up where requests grow and down where they shrink, so that it
        rises through zero once between the day at which it is lowest and the end.
        """
        if self.ahead(horizon.days, requests_per_day, horizon) < 0:
            return None
        low, high = self._lowest_day(requests_per_day, horizon), horizon.days
        if self.ahead(low, requests_per_day, horizon) >= 0:
            return 0.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self.ahead(middle, requests_per_day, horizon) < 0:
                low = middle
            else:
                high = middle
        return high

    def _lowest_day(self, requests_per_day: float, horizon: Horizon) -> float:
        """Return the day at which the student is farthest behind, of those that matter."""
        growth, first = math.log1p(horizon.growth_per_month), self.per_answer * requests_per_day
        per_day = self.per_day - self.other_per_day
        if growth <= 0 or first <= 0 or per_day <= first:
            return 0.0
        return min(horizon.days, math.log(per_day / first) / growth * DAYS_A_MONTH)

    def break_even_per_day(self, horizon: Horizon) -> float:
        """Return the requests a day from which on the student is cheaper over the whole horizon."""
        costs = self.once + (self.per_day - self.other_per_day) * horizon.days
        if costs <= 0:
            return 0.0
        if self.per_answer <= 0:
            return math.inf
        return costs / (self.per_answer * horizon.days_of_first_rate(horizon.days))


@dataclass(frozen=True)
class Ends:
    """The same numbers three times."""

    mean: Money
    against: Money
    """With the ends that speak against distilling."""
    in_favour: Money

    def outcome(self, requests_per_day: float, horizon: Horizon) -> Outcome:
        """Return who is cheaper at the horizon's end, whatever the ends."""
        if self.against.ahead(horizon.days, requests_per_day, horizon) > 0:
            return "distil"
        lost = self.in_favour.ahead(horizon.days, requests_per_day, horizon) < 0
        return "stay" if lost else "open"

    def payback(
        self, requests_per_day: float, horizon: Horizon, made_days: float = 0.0
    ) -> Interval | None:
        """Return the days until it has paid; None where it does not by its expected costs.

        Args:
            requests_per_day: at first.
            horizon: for how long the student serves.
            made_days: from now on until it serves.
        """
        days = [
            one.payback_days(requests_per_day, horizon)
            for one in (self.mean, self.in_favour, self.against)
        ]
        if days[0] is None or days[1] is None:
            return None
        high = math.inf if days[2] is None else days[2]
        return Interval(made_days + days[0], made_days + days[1], made_days + high)

    def break_even(self, horizon: Horizon) -> Interval:
        """Return the requests a day from which on distilling is cheaper."""
        return Interval(
            self.mean.break_even_per_day(horizon),
            self.in_favour.break_even_per_day(horizon),
            self.against.break_even_per_day(horizon),
        )


def joint(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome against several alternatives.

    Distil only where it wins against each of them; stay where it loses against one.
    """
    if "stay" in outcomes:
        return "stay"
    return "open" if "open" in outcomes else "distil"
