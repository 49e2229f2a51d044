"""Answers that share a processor: their 95th percentile, by a table of simulations.

The fewer are answered at once, the faster each is, where a step takes as much longer as there are
sequences in it. The queue of `queueing`, in which every answer takes what it takes with all slots
busy, is then too slow. `benchmarks/estimate/sharing.py` writes the table.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.estimate import constants as k
from stratos.estimate.queueing import wait_of_waiting

Floats = NDArray[np.float64]


@lru_cache(maxsize=1)
def _tables() -> tuple[Floats, Floats, dict[int, Floats]]:
    """Return the ratios, the shares busy, and the percentiles by number of slots."""
    text = files("stratos.estimate").joinpath("sharing.toml").read_text(encoding="utf-8")
    kept: dict[str, Any] = tomllib.loads(text)
    ratios, busy = np.array(kept["ratios"]), np.array([0.0, *kept["busy"]])
    alone = k.P95_OVER_MEAN * ratios[:, None]  # nobody else is there
    tables = {
        int(slots): np.hstack([alone, np.array(table["p95"])])
        for slots, table in kept["slots"].items()
    }
    return ratios, busy, tables


def p95_shared(slots: int, utilisation: float, ratio: Any) -> Floats:
    """Return the 95th percentile of wait and answer, over an answer with all slots busy.

    Args:
        slots: answers that are given at once, interpolated by their logarithm; fewer or more than
            the tables have count as the least or the most.
        utilisation: share of what it answers at most, below 1.
        ratio: seconds of an answer alone over those with all slots busy, a number or an array.
    """
    ratios, busy, tables = _tables()
    most = float(busy[-1])
    share = min(utilisation, most)
    known = np.log(list(tables))
    by_slots = np.array([[np.interp(share, busy, row) for row in one] for one in tables.values()])
    column = np.array([np.interp(np.log(slots), known, one) for one in by_slots.T])
    beyond = max(1.0, (1.0 - most) / (1.0 - utilisation))
    found: Floats = beyond * np.interp(np.asarray(ratio, dtype=np.float64), ratios, column)
    return found


def more_wait(
    slots: int, utilisation: float, seconds: Floats, weights: Floats, ratio: Floats
) -> Floats:
    """Return by how much longer answers wait behind all works than behind their own, by work.

    It is added to a 95th percentile of `p95_shared`, which knows answers of one size alone: a short
    one waits for slots that long ones hold. A share C of all finds every slot busy, and those wait
    θ seconds on average (`queueing`), so that 5% of all wait longer than θ · ln(C / 0.05). With 1
    added under the logarithm it is no step where C is about 0.05, and rather too long than too
    short.

    Args:
        slots: answers that are given at once, at least 2.
        utilisation: share of what it answers at most, below 1.
        seconds: mean of an answer with all slots busy, by (server, work).
        weights: share of each work in the requests.
        ratio: seconds of an answer alone over `seconds`, by (server, work) or by work.
    """
    square = seconds**2 @ weights / (seconds @ weights)
    theta = wait_of_waiting(slots, utilisation, 1.0)
    longer: Floats = theta * np.maximum(square[:, None] - seconds, 0.0)
    mixed = (seconds * ratio) @ weights / (seconds @ weights)
    return longer * np.log1p(_all_busy(slots, utilisation, mixed) / 0.05)[:, None]


def _all_busy(slots: int, utilisation: float, ratio: Floats) -> Floats:
    """Return the probability that a request finds every slot busy, where few are faster."""
    answered = np.arange(1, slots + 1)
    slow = ratio[:, None] + (1.0 - ratio[:, None]) * (answered - 1) / (slots - 1)
    states = np.cumprod(utilisation * slots * slow / answered, axis=1)
    states[:, -1] /= 1.0 - utilisation
    found: Floats = states[:, -1] / (1.0 + states.sum(axis=1))
    return found
