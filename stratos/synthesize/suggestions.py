"""Which rows are worth a label by hand: each time the one that would mend most doubtful answers.

A label settles its own row, and more or less those that are like it. So rows are taken greedily:
the next one has the largest sum of doubts of the rows around it, which are then less doubtful. That
is uncertainty, density and diversity in one sum, a coverage whose greedy solution is within 1 - 1/e
of the best (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from stratos.config import Config
from stratos.tasks.base import Item

if TYPE_CHECKING:
    from stratos.models.kinds.features import Matrix

_SHARPNESS = 8
"""Power of the cosine similarity that says how far a label settles another row."""
_MOST_COMPARED = 8_000
"""Doubtful rows that are compared with each other."""
_LEAST_GAIN = 0.1
"""Rows that a label is expected to put right below which it is not worth the work."""
_VOTE = 0.5
"""How much the teacher's label counts beside the student's answer: both err on the same rows."""


def suggested(vectors: Matrix, doubt: np.ndarray, n: int) -> list[tuple[int, float]]:
    """Return up to n rows, the most useful first, each with its expected gain.

    Args:
        vectors: of the rows, shape (rows, features).
        doubt: probability that the answer to each row is wrong, shape (rows,).
        n: how many are wanted.

    Returns:
        Number of a row, and how many of all rows its label is expected to put right: its own, and
        in part those around it.
    """
    from sklearn.preprocessing import normalize

    if not len(doubt):
        return []
    rows = np.argsort(-doubt, kind="stable")[:_MOST_COMPARED]
    remaining = doubt[rows].astype(np.float32)
    unit = normalize(vectors[rows])
    likeness = unit @ unit.T
    dense = likeness.toarray() if sparse.issparse(likeness) else likeness
    settles = np.maximum(dense, 0).astype(np.float32) ** _SHARPNESS
    picked: list[tuple[int, float]] = []
    for _ in range(min(n, len(rows))):
        gains = settles @ remaining
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        picked.append((int(rows[best]), float(gains[best])))
        remaining *= 1 - np.minimum(settles[best], 1)
        settles[best] = 0  # a row is suggested once
    return picked


def by_expected_gain(
    config: Config, rows: Sequence[tuple[Item, Item | None, float]], n: int
) -> list[tuple[int, float]] | None:
    """Return which rows a student of a kind would learn most from, with the expected gain of each.

    Args:
        config: the run.
        rows: each with the item that has the teacher's label, None without any, and the share of
            the teacher's answers that are this label.
        n: how many are wanted.

    Returns:
        None where no student of the run is of such a kind, or no row has a gold label.
    """
    from stratos.models.kinds.labels_of_teacher import Correction, TeacherRows
    from stratos.models.kinds.learnt_rows import (
        Rows,
        blocks_of,
        students_of_kinds,
        validation_rows,
    )
    from stratos.synthesize.leaks import labelled_rows

    students, task = students_of_kinds(config), config.task
    if not students or not task.has_labels or task.has_several_labels or not rows:
        return None
    gold = Rows.of([*labelled_rows(task), *validation_rows(config)])
    if not gold.texts:
        return None
    # A row without a label counts for nothing in the training, and is answered like the others.
    teacher = TeacherRows(
        tuple(item.question for item, _, _ in rows),
        tuple(gold.labels[0] if best is None else best.answer for _, best, _ in rows),
        tuple(0.0 if best is None else share for _, best, share in rows),
    )
    correction = Correction(gold.texts, gold.labels, teacher, blocks_of(students), config.seed)
    doubt = 1 - correction.probabilities(_VOTE).max(axis=1)
    ranked = suggested(correction.of_teacher, doubt, n)
    return [(index, gain) for index, gain in ranked if gain >= _LEAST_GAIN]
