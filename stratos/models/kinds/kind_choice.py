"""What the choice among kinds rests on: prior knowledge, honest estimates, mislabelled rows.

The score of the chosen kind comes from bootstrap bias-corrected cross-validation (Tsamardinos,
Greasidou, Borboudakis 2018): the kind is chosen again on each resample of the rows and scored on
the rows that the resample left out.

Rows look mislabelled by confident learning (Northcutt, Jiang, Chuang 2021). Of each row that
cross-validation held out there are probabilities of all labels, by a model that has not learnt it.
A row counts as of the label that is likelier for it than on average for the rows of that label; the
rows off the diagonal of this confident joint are suspects. Beside these a row is named only where
its own label is next to impossible, and another likelier than all others. With one label in twenty
flipped, three in four of the rows that are named are flipped, or more, and two in three of these
are named (1,000 rows of banking77, 300 of ten of its labels, 1,000 of R8). Where two labels are
hard to tell (headlines, film reviews), one in ten is; of labels at random, none. With three or four
rows a label only one named row in two was flipped: then nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stratos.models.kinds.student_kinds import LABELS

_IMPOSSIBLE, _CHANCE, _LIKELY = 0.01, 0.1, 0.5
"""Probability of the label that a row has, up to which it is a suspect (of few labels up to a part
of what chance gives it, for wrong labels are no rarer than that), and of the likelier one."""
_FEWEST, _FEWEST_SHARE, _FEWEST_OF_LABEL = 3, 0.004, 10
"""Suspects, and share of the rows, below which none is named: a model is surely wrong sometimes.
Last: rows a label below which a model knows too little of the labels."""


def suspects(log_probabilities: np.ndarray, given: np.ndarray) -> dict[int, int]:
    """Return the rows whose label looks wrong to the one that is likelier, the surest first.

    Args:
        log_probabilities: of held-out rows, shape (rows, labels).
        given: number of the label of each, shape (rows,).
    """
    if len(given) < _FEWEST_OF_LABEL * len(np.unique(given)):
        return {}
    shares = np.exp(log_probabilities)
    own = shares[np.arange(len(given)), given]
    thresholds = np.full(shares.shape[1], np.inf)
    for label in np.unique(given):
        thresholds[label] = own[given == label].mean()
    likely = np.where(shares >= thresholds, shares, 0.0).argmax(axis=1)
    is_likely = (likely == shares.argmax(axis=1)) & (shares.max(axis=1) >= _LIKELY)
    most = max(_IMPOSSIBLE, _CHANCE / shares.shape[1])
    is_suspect = is_likely & (likely != given) & (own <= most)
    rows = np.flatnonzero(is_suspect)
    rows = rows[np.argsort(own[rows], kind="stable")]
    if len(rows) < max(_FEWEST, _FEWEST_SHARE * len(given)):
        return {}
    return {int(row): int(likely[row]) for row in rows}


_PRIOR_ROWS = 150
"""How many rows the `prior_gain` of kinds is worth where half of the answers are right. On 50 rows
the accuracies of kinds differ by chance more than by nature: to choose by them alone lost 2.4
points to the best kind on training rows of public sets, with such a prior 0.4. From 1,000 rows on
it decides near-ties only."""
_N_RESAMPLES = 200
"""Resamples of the bias-corrected estimate."""


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the ratio of summed counts; 1 where there are no labels at all.

    Args:
        counts: as in `KindScore`, shape (..., rows, 2).
    """
    both, all_labels = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return np.where(all_labels > 0, both / np.maximum(all_labels, 1), 1.0)


def ahead_by_prior(kinds: Sequence[str], reached: np.ndarray) -> np.ndarray:
    """Return the right answers that the prior gives each kind, shape (kinds,).

    They are fewer where an answer tells more: where nearly all are right, or none.

    Args:
        kinds: their names.
        reached: share that each answers right.
    """
    best = float(reached.max())
    gains = np.array([LABELS[kind].prior_gain for kind in kinds])
    return gains * _PRIOR_ROWS * 4 * best * (1 - best)


def without_optimism(
    right: np.ndarray, counts: np.ndarray, ahead: np.ndarray, seed: int
) -> tuple[float, float]:
    """Return accuracy and micro-F1 of a choice, by choosing again on resamples.

    Args:
        right: whether each kind is right on each row, shape (kinds, rows).
        counts: of the labels of each row, shape (kinds, rows, 2).
        ahead: right answers that the prior gives each kind.
        seed: of the resamples.
    """
    if len(right) == 1:  # nothing was chosen
        return float(right.mean()), float(micro_f1(counts[0]))
    random = np.random.default_rng(seed)
    n = right.shape[1]
    means, scores = [], []
    for _ in range(_N_RESAMPLES):
        drawn = random.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        chosen = (micro_f1(counts[:, drawn]) * n + ahead).argmax()
        if len(out):
            means.append(right[chosen, out].mean())
            scores.append(micro_f1(counts[chosen, out]))
    if not means:  # of one row
        chosen = (micro_f1(counts) * n + ahead).argmax()
        return float(right[chosen].mean()), float(micro_f1(counts[chosen]))
    return float(np.mean(means)), float(np.mean(scores))


def deviations(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """Return how far below and above its value a micro-F1 lies on 95% of resamples.

    Args:
        counts: of the labels of each row, shape (rows, 2).
        seed: of the resamples.
    """
    n = len(counts)
    drawn = np.random.default_rng(seed).integers(0, n, (_N_RESAMPLES, n))
    low, high = np.quantile(micro_f1(counts[drawn]), (0.025, 0.975)) - micro_f1(counts)
    return float(low), float(high)


def wilson_ends(mean: float, n: float) -> tuple[float, float]:
    """Return the 95% interval of a share of n rows (Wilson 1927)."""
    z2 = 1.96**2
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = float(np.sqrt(z2 * (mean * (1 - mean) / n + z2 / (4 * n * n)))) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
