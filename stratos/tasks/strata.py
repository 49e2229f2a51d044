"""Stratified splits by content hash.

Which split a question belongs to is told by a hash of what it says, its place between 0 and 1. That
stays when rows are added or moved, but of a label with ten rows it may leave none to test. So,
label by label, the rows nearest to a border move over it until each split has about its share. Of
many rows none moves; of few, adding some moves some.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2

MOST_LABELS = 200
"""Different answers above which they are no labels."""
_ROWS_PER_LABEL = 2
_LEAST, _MOST = 3 / 4, 4 / 3
"""Part of its share that a split has to have of a label, and may have."""
_FEW = 10
"""Rows of a label below which its training rows are counted exactly."""


def stratified(
    families: NDArray[np.uint64],
    answers: NDArray[np.uint64],
    slices: NDArray[np.uint16],
    validation_share: float,
    test_share: float,
) -> NDArray[np.uint8]:
    """Return the split of each row; rows of one family are of one split.

    Args:
        families: hash of each question, without its spelling.
        answers: hash of each answer; where they are labels, each label is divided by itself.
        slices: number of each row's slice, which are divided by themselves, too.
        validation_share: share of the rows that go to validation.
        test_share: share that go to test; 0 where there is a file of test questions.
    """
    shares = validation_share, test_share
    if not len(families):
        return np.zeros(0, np.uint8)
    found = _by_hash(families / 2.0**64, *shares)
    labelled = are_labels(answers)
    if not labelled and not slices.any() and _fits(found, *shares):
        return found
    # One row of each family stands for it, whatever their order in the file.
    order = np.lexsort((answers, families))
    is_first = np.concatenate([[True], families[order][1:] != families[order][:-1]])
    first = order[is_first]
    places = families[first] / 2.0**64
    split = found[first]
    labelled = labelled and are_labels(answers[first])  # copies repeat any answer
    groups = answers[first] if labelled else np.zeros_like(answers[first])
    for stratum in _strata(groups, slices[first]):
        if not _fits(split[stratum], *shares):
            wanted = _wanted(len(stratum), *_counts(split[stratum]), *shares)
            nearest = stratum[np.argsort(places[stratum], kind="stable")]
            split[nearest] = TRAIN
            split[nearest[: wanted[0]]] = TEST
            split[nearest[wanted[0] : sum(wanted)]] = VALIDATION
    found[order] = split[np.cumsum(is_first) - 1]
    return found


def _by_hash(
    places: NDArray[np.float64], validation_share: float, test_share: float
) -> NDArray[np.uint8]:
    """Return the split of each place between 0 and 1."""
    found = np.where(places < test_share, TEST, TRAIN).astype(np.uint8)
    found[(places >= test_share) & (places < test_share + validation_share)] = VALIDATION
    return found


def are_labels(answers: NDArray[np.uint64]) -> bool:
    """Return whether answers repeat so often that each is divided by itself."""
    return len(np.unique(answers)) <= min(MOST_LABELS, len(answers) // _ROWS_PER_LABEL)


def _strata(answers: NDArray[np.uint64], slices: NDArray[np.uint16]) -> list[NDArray[np.int64]]:
    """Return the places of the rows that are divided together."""
    order = np.lexsort((answers, slices))
    differs = (np.diff(answers[order]) != 0) | (np.diff(slices[order]) != 0)
    return np.split(order, np.flatnonzero(differs) + 1)


def _fits(split: NDArray[np.uint8], validation_share: float, test_share: float) -> bool:
    """Return whether no row has to move."""
    counts = _counts(split)
    return _wanted(len(split), *counts, validation_share, test_share) == counts


def _counts(split: NDArray[np.uint8]) -> tuple[int, int]:
    return int((split == TEST).sum()), int((split == VALIDATION).sum())


def _wanted(
    n: int, n_test: int, n_validation: int, validation_share: float, test_share: float
) -> tuple[int, int]:
    """Return how many of `n` rows are to be tested and to validate, changed as little as can be."""
    least_test = max(floor(_LEAST * test_share * n), int(n >= 2 and test_share > 0))
    least_validation = max(floor(_LEAST * validation_share * n), int(n >= 4))
    train = (1 - validation_share - test_share) * n
    least_train = max(1, round(train) if n < _FEW else floor(_LEAST * train))
    n_test = min(max(n_test, least_test), max(least_test, ceil(_MOST * test_share * n)))
    n_validation = min(
        max(n_validation, least_validation),
        max(least_validation, ceil(_MOST * validation_share * n)),
    )
    n_validation = max(0, min(n_validation, n - least_train - least_test))
    return max(0, min(n_test, n - least_train - n_validation)), n_validation
