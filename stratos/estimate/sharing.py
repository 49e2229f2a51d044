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
        slots: answers that are given at once; of the tables the nearest is taken.
        utilisation: share of what it answers at most, below 1.
        ratio: seconds of an answer alone over those with all slots busy, a number or an array.
    """
    ratios, busy, tables = _tables()
    nearest = min(tables, key=lambda known: abs(np.log(known / slots)))
    most = float(busy[-1])
    share = min(utilisation, most)
    column = np.array([np.interp(share, busy, row) for row in tables[nearest]])
    beyond = max(1.0, (1.0 - most) / (1.0 - utilisation))
    found: Floats = beyond * np.interp(np.asarray(ratio, dtype=np.float64), ratios, column)
    return found
