"""Which rows of a file are of which split, and in what order they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stratos.tasks import doubts
from stratos.tasks.base import Split
from stratos.tasks.near_duplicates import is_even
from stratos.tasks.split import id_of, order_key
from stratos.tasks.strata import TEST, TRAIN, VALIDATION, are_labels, stratified
from stratos.tasks.table import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_SPELLINGS = 10_000
"""Different answers from which on they are no labels, whatever their spelling."""


def split_by_hash(
    rows: Rows,
    tested: Rows,
    families: Callable[[Rows], NDArray[np.uint64]],
    groups: Callable[[Rows], NDArray[np.uint64]],
    normal: Callable[[str], str],
    validation_share: float,
    test_share: float,
) -> tuple[dict[Split, Rows], dict[str, int]]:
    """Return the rows of each split, and how many are in none, by reason.

    Of rows that differ in case, punctuation or spacing alone and have one answer, one is
    measured: copies of a question are no further evidence.

    Args:
        rows: that are split.
        tested: that are the test split, whatever their hash; without any, it is a part of `rows`.
        families: gives of each row a hash that it shares with those of the same question.
        groups: gives of each one that it shares with all that have to be of its split.
        normal: gives an answer in a form that all spellings share that the metric takes for equal.
        validation_share: of the rows.
        test_share: of the rows, where there are none in `tested`.
    """
    keys = groups(rows)
    is_known = np.isin(keys, groups(tested))
    n_exact = int(np.isin(families(rows), families(tested)).sum())
    free = np.flatnonzero(~is_known)
    split = stratified(
        keys[free],
        _forms(rows, normal)[free],
        rows.column("slices")[free],
        validation_share,
        0.0 if len(tested) else test_share,
    )
    held: dict[Split, Rows] = {
        "validation": rows.take(free[split == VALIDATION]),
        "test": tested if len(tested) else rows.take(free[split == TEST]),
    }
    once: dict[Split, Rows] = {name: without_copies(some, normal) for name, some in held.items()}
    n_copies = sum(len(held[name]) - len(once[name]) for name in held)
    left = {
        "training question of the test file": n_exact,
        doubts.NEAR: int(is_known.sum()) - n_exact,
        doubts.COPY: n_copies,
    }
    return {"train": rows.take(free[split == TRAIN]), **once}, left


def are_even(
    found: Mapping[Split, Rows],
    apart: Mapping[Split, Rows],
    rows: Rows,
    normal: Callable[[str], str],
) -> bool:
    """Return whether splits have rows and labels enough.

    Args:
        found: the splits.
        apart: those of the same rows without their groups.
        rows: all that were split.
        normal: as of `split_by_hash`.
    """
    labelled = are_labels(_forms(rows, normal))
    return all(is_even(some, apart[name], labelled) for name, some in found.items())


def without_copies(rows: Rows, normal: Callable[[str], str]) -> Rows:
    """Return one row of each family and answer, whatever their order in the file."""
    families, forms = rows.column("families"), _forms(rows, normal)
    order = np.lexsort((rows.column("ids"), forms, families))
    is_copy = (np.diff(families[order]) == 0) & (np.diff(forms[order]) == 0)
    taken = np.ones(len(rows), bool)
    taken[order[1:][is_copy]] = False
    return rows.take(taken)


def without_answered(rows: Rows, answered: Rows) -> Rows:
    """Return one row of each question, but of none that other rows answer."""
    families = rows.column("families")
    _, first = np.unique(families, return_index=True)
    is_first = np.zeros(len(families), bool)
    is_first[first] = True
    return rows.take(is_first & ~np.isin(families, answered.column("families")))


def order_of(rows: Rows, slice: str, seed: int) -> NDArray[np.int64]:
    """Return the places of a slice's rows among those of their split, shuffled by the seed."""
    places = np.flatnonzero(rows.of_slice(slice))
    ids = rows.column("ids")[places].tolist()
    keys = np.fromiter((int(order_key(id_of(one), seed), 16) for one in ids), np.uint64)
    return places[np.argsort(keys, kind="stable")]


def _forms(rows: Rows, normal: Callable[[str], str]) -> NDArray[np.uint64]:
    """Return a hash of each answer: the same for spellings that the metric takes for equal."""
    answers: NDArray[np.uint64] = rows.column("answers")
    found, first, inverse = np.unique(answers, return_index=True, return_inverse=True)
    if len(found) > _MOST_SPELLINGS:
        return answers
    by_form: dict[str, np.uint64] = {}
    forms = [
        by_form.setdefault(normal(rows[int(place)].answer), answer)
        for place, answer in zip(first, found, strict=True)
    ]
    return np.array(forms, np.uint64)[inverse]
