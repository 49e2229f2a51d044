"""How good predictions are: their error, their rank, and how often their intervals hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.records import Interval

Array = NDArray[np.float64]


def spearman(a: Array, b: Array) -> float:
    """Return the rank correlation."""
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def figures(mean: Array, measured: Array) -> dict[str, Any]:
    """Return error and rank of predictions, and where measurements lay (95%) over them."""
    ratio = measured / mean
    return {
        "rows": len(measured),
        "mape": round(float(np.abs(1 / ratio - 1).mean()), 4),
        "spearman": round(spearman(mean, measured), 3) if len(measured) > 2 else None,
        "ratio_low": round(float(np.quantile(ratio, 0.025)), 3),
        "ratio_high": round(float(np.quantile(ratio, 0.975)), 3),
    }


def covered(predicted: Sequence[Interval], measured: Array) -> dict[str, float]:
    """Return the share of measurements inside their intervals, and the median ends over means."""
    low, mean, high = (
        np.array([getattr(one, end) for one in predicted]) for end in ("low", "mean", "high")
    )
    return {
        "coverage": round(float(((low <= measured) & (measured <= high)).mean()), 4),
        "low": round(float(np.median(low / mean)), 3),
        "high": round(float(np.median(high / mean)), 3),
    }
