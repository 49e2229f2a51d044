r"""Queueing time of a request: closed forms of an M/G/c queue (Erlang C).

Requests come at random (Poisson), each of c slots answers one at a time, and a slot is busy to the
share ρ. S is the mean seconds of an answer and v its coefficient of variation.

    C  = P(all slots are busy)           Erlang's formula for c servers; ρ for one
    θ  = S (1 + v²) / (2 c (1 - ρ))      mean wait of those that wait (Allen and Cunneen 1990;
                                         exact for one slot: Pollaczek and Khinchine)
    P(wait > t) = C exp(-t / θ)
    answer      = wait + service         service is lognormal with mean S and variation v

With several sizes of requests on one server, the wait is that of their mixture, E[S²] / E[S] in
the place of S (1 + v²), and each size adds a service of its own. `benchmarks/estimate/queues.py`
compares all of it with a simulation, and the load test of `deploy` with a server that runs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.estimate import constants as k

Floats = NDArray[np.float64]

N_QUANTILES = 200
"""Values that stand for the distribution of a service."""

NEVER_BUSY = 1e-3
"""Probability below which no wait shows in a 95th percentile."""

WAITS = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 48)])
"""θ over S that the percentile is tabulated at; it is linear between them and beyond."""


def spread() -> float:
    """Return σ of the logarithm of a service, such that its 95th percentile is `P95_OVER_MEAN`."""
    z = NormalDist().inv_cdf(0.95)
    return z - math.sqrt(z * z - 2 * math.log(k.P95_OVER_MEAN))


def variation_squared() -> float:
    """Return v² of a service."""
    return math.expm1(spread() ** 2)


def busy_probability(slots: int, utilisation: float) -> float:
    """Return the probability that a request finds every slot busy (Erlang C).

    Args:
        slots: answers that are given at once.
        utilisation: share of the time that a slot is busy, below 1.
    """
    load = slots * utilisation
    blocked = 1.0  # Erlang's B by its recursion over the slots, which cannot overflow.
    for n in range(1, slots + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1.0 - utilisation * (1.0 - blocked))


def wait_of_waiting(
    slots: int, utilisation: float, mean: Any, mean_square: Any | None = None
) -> Any:
    """Return θ: the mean seconds that those wait who have to.

    Args:
        slots: answers that are given at once.
        utilisation: share of the time that a slot is busy, below 1.
        mean: seconds of an answer.
        mean_square: its mean square; None for the variation that is assumed.
    """
    if mean_square is None:
        mean_square = mean**2 * (1.0 + variation_squared())
    return mean_square / mean / (2.0 * slots * (1.0 - utilisation))


def p95_over_service(slots: int, utilisation: float, wait_over_service: Any) -> Floats:
    """Return the 95th percentile of wait and service together, over the mean service.

    Args:
        slots: answers that are given at once.
        utilisation: share of the time that a slot is busy, below 1.
        wait_over_service: θ over S, a number or an array.
    """
    table = _table(busy_probability(slots, utilisation))
    ratio = np.asarray(wait_over_service, dtype=np.float64)
    inside: Floats = np.interp(ratio, WAITS, table)
    beyond = table[-1] * ratio / WAITS[-1]
    return np.where(ratio > WAITS[-1], beyond, inside)


@lru_cache(maxsize=256)
def _table(busy: float) -> Floats:
    """Return the percentile at each of `WAITS`, for S = 1, by bisection at all of them at once."""
    alone = k.P95_OVER_MEAN
    if busy < NEVER_BUSY:
        return np.full(len(WAITS), alone)
    normal, sigma = NormalDist(), spread()
    ranks = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    points = np.array([normal.inv_cdf(rank) for rank in ranks.tolist()])
    service = np.exp(sigma * points - sigma**2 / 2)
    theta = WAITS[1:, None]
    low, high = np.full(theta.shape, 0.5), alone + 20.0 * theta
    for _ in range(40):
        middle = (low + high) / 2
        waited = busy * np.exp(np.minimum(service - middle, 0.0) / theta)
        late = np.where(service > middle, 1.0, waited).mean(axis=1, keepdims=True) > 0.05
        low, high = np.where(late, middle, low), np.where(late, high, middle)
    return np.maximum(np.concatenate([[alone], high[:, 0]]), alone)
