"""A server that is given back while nobody asks: how long it runs, and how many wait for it.

Requests come at random, r a second. One that finds no server orders it, and it answers after S
seconds. It is given back when it has answered nobody for T seconds:

    off          1 / r                            until somebody asks
    on           S + (e^(rT) - 1) / r             start, and until the first gap of T seconds
    share on     on / (off + on)
    waiting      (1 + r S) / (1 + r S + e^(rT) - 1)    the one that orders it, those of the start

The seconds of an answer are short beside T. Real traffic has nights: then it is off for longer.
"""

from __future__ import annotations

import math

from stratos.estimate.constants import STARTUP_HOURS
from stratos.plan.horizon import Horizon
from stratos.records import ScaledToZero

KEEP_S = 1200.0
"""SkyServe's `downscale_delay_seconds`, by default."""
_POINTS = 48
"""Moments of the horizon that the rate is taken at."""
_SECONDS_A_DAY = 86_400.0
MOST_WAITING = 0.05
"""Share of requests that wait for a start, above which the 95th percentile is that of a start."""


def share_on(per_s: float, start_s: float, keep_s: float) -> float:
    """Return the share of the time in which a server is paid.

    Args:
        per_s: requests a second.
        start_s: seconds until it answers.
        keep_s: seconds without a request after which it is given back.
    """
    if per_s <= 0:
        return 0.0
    # All in numbers of requests: off is one, on is r times its seconds.
    on = per_s * start_s + math.expm1(min(per_s * keep_s, 700.0))
    return on / (1 + on)


def share_waiting(per_s: float, start_s: float, keep_s: float) -> float:
    """Return the share of requests that come before the server answers; see `share_on`."""
    first = 1 + per_s * start_s
    return first / (first + math.expm1(min(per_s * keep_s, 700.0)))


def scaled_to_zero(
    usd_per_day: float,
    requests_per_day: float,
    horizon: Horizon,
    start_s: float = 3600 * STARTUP_HOURS,
    keep_s: float = KEEP_S,
) -> ScaledToZero:
    """Return what one server costs if it is given back while nobody asks.

    Args:
        usd_per_day: of the server that runs all day.
        requests_per_day: at first.
        horizon: for how long, and how they grow.
        start_s: seconds until a server answers.
        keep_s: seconds without a request after which it is given back.
    """
    days = [horizon.days * (i + 0.5) / _POINTS for i in range(_POINTS)]
    rates = [requests_per_day * horizon.rate_at(day) / _SECONDS_A_DAY for day in days]
    on = sum(share_on(rate, start_s, keep_s) for rate in rates) / _POINTS
    asked = sum(rates)
    waiting = sum(rate * share_waiting(rate, start_s, keep_s) for rate in rates)
    return ScaledToZero(
        usd_per_day=on * usd_per_day,
        share_on=on,
        share_waiting=waiting / asked if asked else 1.0,
        start_s=start_s,
        keep_s=keep_s,
    )
