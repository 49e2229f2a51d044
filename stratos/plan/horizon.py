"""Traffic over months: how many requests come, and the rate and hours that servers are planned for.

    N(t) = R · m · ((1 + g)^(t/m) − 1) / ln(1 + g)        requests in t days,   R · t where g = 0

R requests a day at first, g their growth from month to month, m days of a month.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stratos.config import Config, TrafficConfig

DAYS_A_MONTH = 365.25 / 12
_SECONDS_A_DAY = 86_400.0
MAX_SERVE_HOURS = 87_600
"""Ten years: no price is valid for longer."""


@dataclass(frozen=True)
class Horizon:
    """Requests that come within some months."""

    months: float
    growth_per_month: float = 0.0

    @property
    def days(self) -> float:
        """Return its length."""
        return self.months * DAYS_A_MONTH

    def days_of_first_rate(self, days: float) -> float:
        """Return N(t) / R: in how many days of the first rate as many requests would come."""
        g = self.growth_per_month
        if abs(g) < 1e-9:
            return days
        growth = math.log1p(g)
        return DAYS_A_MONTH * math.expm1(growth * days / DAYS_A_MONTH) / growth

    def rate_at(self, days: float) -> float:
        """Return the requests a day by then, over those at first."""
        return math.exp(math.log1p(self.growth_per_month) * days / DAYS_A_MONTH)

    @property
    def most(self) -> float:
        """Return the highest rate within it, over the first."""
        return max(1.0, self.rate_at(self.days))


def horizon_of(traffic: TrafficConfig) -> Horizon:
    """Return the horizon of a config."""
    return Horizon(traffic.months, traffic.growth_per_month)


def with_horizon(config: Config) -> Config:
    """Return a config that serves for the months of its traffic, where requests a day are given."""
    traffic = config.traffic
    if traffic.requests_per_day is None:
        return config
    horizon = horizon_of(traffic)
    busiest = traffic.requests_per_day * horizon.most * traffic.peak_over_mean / _SECONDS_A_DAY
    rate = busiest if traffic.requests_per_s is None else traffic.requests_per_s
    return replace(
        config,
        traffic=replace(traffic, requests_per_s=rate),
        limits=replace(config.limits, serve_hours=min(24 * horizon.days, MAX_SERVE_HOURS)),
    )
