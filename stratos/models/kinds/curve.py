"""What more rows would bring: the accuracy of a kind at parts of its rows, and a power law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stratos.models.kinds.cross_validation import Study

_SHARES = (0.25, 0.5)
_N_RESAMPLES = 300


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy by number of rows, under cross-validation."""

    points: tuple[tuple[float, float], ...]
    """Rows that a model learnt from, and the share of other rows that it answers right."""
    n_doubled: int
    """Twice the rows that there are."""
    gain_low: float
    gain_high: float
    """95% interval of what so many rows would add to the accuracy, as a share; never below 0."""


def learning_curve(study: Study, kind: str) -> LearningCurve:
    """Return the learning curve of a kind, with what twice the rows would bring.

    The error is taken to fall as a power of the rows (Hestness et al. 2017), fitted to a quarter,
    half and all of them. The interval comes from resamples of the scored rows, which all sizes
    share.
    """
    sizes, rights = [], []
    for share in _SHARES:
        size, right = study.right_of_share(kind, share)
        sizes.append(size)
        rights.append(right)
    sizes.append(sizes[-1] / _SHARES[-1])
    rights.append(study.score(kind).right)
    right = np.stack(rights).astype(float)  # (sizes, rows)
    random = np.random.default_rng(0)
    n = right.shape[1]
    drawn = random.integers(0, n, (_N_RESAMPLES, n))
    gains = [_gain(np.array(sizes), right[:, rows].mean(axis=1), n, study.n_rows) for rows in drawn]
    low, high = np.quantile(gains, (0.025, 0.975))
    points = tuple(zip(sizes, map(float, right.mean(axis=1)), strict=True))
    return LearningCurve(points, 2 * study.n_rows, float(low), float(high))


def _gain(sizes: np.ndarray, accuracies: np.ndarray, n_scored: int, n_rows: int) -> float:
    """Return how far a power law of the error falls from `n_rows` to twice as many."""
    errors = (1 - accuracies) * n_scored + 0.5  # never 0, whose logarithm has no end
    slope, level = np.polyfit(np.log(sizes), np.log(errors / (n_scored + 1)), 1)
    error = min(1.0, float(np.exp(level + slope * np.log(n_rows))))
    return max(0.0, error * (1 - 2 ** min(0.0, float(slope))))
