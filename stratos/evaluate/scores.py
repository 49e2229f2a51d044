"""Aggregate scored answers into scorecard rows: one per slice, and one for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf

from stratos.core.intervals import wilson
from stratos.evaluate.metrics import mcnemar_exact, mean, ratio_interval
from stratos.records import Comparison, ModelScore, SliceScore, Versus
from stratos.tasks.base import Item, Score

ALL = "all"
"""Name of the row for every slice together."""


def by_slice(items: Sequence[Item], scores: Sequence[Score]) -> tuple[SliceScore, ...]:
    """Return a row for each slice in the order in which it is first met, then one for all."""
    return tuple(
        SliceScore(
            slice=name,
            n_items=len(chosen),
            exact=wilson(sum(score.exact for score in chosen), len(chosen)),
            f1=mean([score.f1 for score in chosen]),
        )
        for name, chosen in _groups(items, scores).items()
    )


def compare(student: Sequence[Score], teacher: Sequence[Score]) -> Comparison:
    """Compare two models on the same items, given in the same order."""
    n = len(student)
    pairs = [(a.exact >= 1, b.exact >= 1) for a, b in zip(student, teacher, strict=True)]
    both, only_student = pairs.count((True, True)), pairs.count((True, False))
    only_teacher = pairs.count((False, True))
    student_exact = wilson(both + only_student, n)
    teacher_exact = wilson(both + only_teacher, n)
    low, high = ratio_interval(both, only_student, only_teacher, n)
    return Comparison(
        n_items=n,
        student_exact=student_exact,
        teacher_exact=teacher_exact,
        ratio=student_exact.mean / teacher_exact.mean if teacher_exact.mean else None,
        ratio_at_least=student_exact.low / teacher_exact.high,
        only_student=only_student,
        only_teacher=only_teacher,
        p_value=mcnemar_exact(only_student, only_teacher),
        ratio_low=low,
        ratio_high=None if isinf(high) else high,
    )


def against(score: ModelScore, student: Sequence[Score], other: Sequence[Score]) -> Versus:
    """Compare the student with a baseline on the same items, given in the same order.

    Args:
        score: the baseline's.
        student: the student's scores of the items.
        other: the baseline's.
    """
    compared = compare(student, other)
    return Versus(
        role=score.role,
        name=score.name,
        n_items=compared.n_items,
        student_exact=compared.student_exact,
        other_exact=compared.teacher_exact,
        only_student=compared.only_student,
        only_other=compared.only_teacher,
        p_value=compared.p_value,
    )


def _groups(items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, list[Score]]:
    groups: dict[str, list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        groups.setdefault(item.slice, []).append(score)
    groups[ALL] = list(scores)
    return groups
