"""Scorecard rows: one per slice and one for all; the confusion of labels, accuracy per field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, isinf
from typing import TYPE_CHECKING, Any

from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.evaluate.metrics import mcnemar_exact, mean, ratio_interval
from stratos.records import NO_LABEL, Comparison, Interval, ModelScore, SliceScore, Versus
from stratos.tasks.base import Item, Score, Task
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.label_sets import labels_of
from stratos.tasks.objects import Path, fields_of, object_of, same

if TYPE_CHECKING:
    import numpy as np

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
            micro_f1=_micro_f1(chosen),
        )
        for name, chosen in _groups(items, scores).items()
    )


_N_RESAMPLES = 1_000


def _label_counts(scores: Sequence[Score]) -> np.ndarray | None:
    """Return `Score.labels` of items, shape (items, 2); None where texts have one label each."""
    import numpy as np

    counts = [score.labels for score in scores if score.labels is not None]
    return np.array(counts) if counts and len(counts) == len(scores) else None


def _micro_f1(scores: Sequence[Score]) -> Interval | None:
    """Return the F1 over all labels with its bootstrap interval; None where texts have one each."""
    if (rows := _label_counts(scores)) is None:
        return None
    import numpy as np

    from stratos.models.kinds.kind_choice import micro_f1

    drawn = np.random.default_rng(0).integers(0, len(rows), (_N_RESAMPLES, len(rows)))
    low, high = np.quantile(micro_f1(rows[drawn]), (0.025, 0.975))
    source = f"{counted(len(rows), 'item')}, bootstrap"
    return Interval(float(micro_f1(rows)), float(low), float(high), source)


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


def against(score: ModelScore, student: Sequence[Score], baseline: Sequence[Score]) -> Versus:
    """Compare the student with a baseline on the same items, given in the same order.

    Args:
        score: the baseline's.
        student: the student's scores of the items.
        baseline: the baseline's.
    """
    compared = compare(student, baseline)
    counts = [_label_counts(scores) for scores in (student, baseline)]
    micro_f1, p_value = None, compared.p_value
    if counts[0] is not None and counts[1] is not None:
        micro_f1, p_value = _permuted(counts[0], counts[1])
    return Versus(
        role=score.role,
        name=score.name,
        n_items=compared.n_items,
        student_exact=compared.student_exact,
        other_exact=compared.teacher_exact,
        only_student=compared.only_student,
        only_other=compared.only_teacher,
        p_value=p_value,
        micro_f1=micro_f1,
    )


def _permuted(first: np.ndarray, second: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return two micro-F1s on the same items, and the p-value of their difference, two-sided.

    If neither model is better, the answers to an item are as likely to be the other's
    (approximate randomisation, Noreen 1989).

    Args:
        first: counts of the labels of each item, shape (items, 2).
        second: the same of the other model.
    """
    import numpy as np

    from stratos.models.kinds.kind_choice import micro_f1

    swapped = np.random.default_rng(0).random((_N_RESAMPLES, len(first))) < 0.5
    moved = swapped.astype(np.float64) @ (second - first)  # (resamples, 2)
    sums = first.sum(axis=0) + moved, second.sum(axis=0) - moved
    gaps = np.abs(micro_f1(sums[0][:, None]) - micro_f1(sums[1][:, None]))
    both = float(micro_f1(first)), float(micro_f1(second))
    n_as_far = int((gaps >= abs(both[0] - both[1]) - 1e-12).sum())
    return both, (n_as_far + 1) / (_N_RESAMPLES + 1)


def _groups(items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, list[Score]]:
    groups: dict[str, list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        groups.setdefault(item.slice, []).append(score)
    groups[ALL] = list(scores)
    return groups


_MOST_LABELS = 40
"""Labels above which nobody reads a table of them."""
_ITEMS_PER_LABEL = 2


def confusion(items: Sequence[Item], answers: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """Return right label to answered label to how often; empty where answers are no labels.

    Args:
        items: with their gold answers.
        answers: as the task reads them, in the same order; None where nothing could be read.
    """
    if all(labels_of(item.answer) is not None for item in items):
        return {}  # sets of labels: which label was taken for which is not known
    labels = {normalised(item.answer): item.answer for item in items}
    if not 2 <= len(labels) <= min(_MOST_LABELS, len(items) // _ITEMS_PER_LABEL):
        return {}
    counts: dict[str, Counter[str]] = {label: Counter() for label in sorted(labels.values())}
    for item, answer in zip(items, answers, strict=True):
        gold = labels[normalised(item.answer)]
        counts[gold][labels.get(normalised(answer or ""), NO_LABEL)] += 1
    return {gold: dict(sorted(row.items())) for gold, row in counts.items()}


def objects_of(answers: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the objects that answers are; None unless each of them is one."""
    objects = []
    for answer in answers:
        value = object_of(answer)
        if value is None:
            return None
        objects.append(value)
    return objects


def field_shares(
    task: Task, items: Sequence[Item], answers: Sequence[str | None]
) -> dict[str, Interval]:
    """Return field to the share of items that have it and were answered with its value."""
    return {name: wilson(*pair) for name, pair in _field_counts(task, items, answers).items()}


def fields_wrong(
    task: Task, items: Sequence[Item], answers: Sequence[str | None]
) -> dict[str, int]:
    """Return field to the number of items that have it and were answered with another value."""
    counts = _field_counts(task, items, answers)
    return {name: ceil(n - n_right) for name, (n_right, n) in counts.items()}


def _field_counts(
    task: Task, items: Sequence[Item], answers: Sequence[str | None]
) -> dict[str, tuple[float, int]]:
    """Return field to the number of items in which it is right, and that of all which have it.

    Empty where some gold answer is no object. An answer that is none has no field right. A task
    that scores fields itself may count a part of one; then it is the mean.

    Args:
        task: that the items are of.
        items: with their gold answers.
        answers: as the task reads them, in the same order; None where nothing could be read.
    """
    if scored := [task.field_scores(*pair) for pair in zip(items, answers, strict=True)]:
        names = dict.fromkeys(name for scores in scored for name in scores)
        by_name = {name: [fields[name] for fields in scored if name in fields] for name in names}
        if by_name:
            return {name: (sum(some), len(some)) for name, some in by_name.items()}
    golds = objects_of([item.answer for item in items])
    if not golds:
        return {}
    right: Counter[Path] = Counter()
    n: Counter[Path] = Counter()
    for gold, answer in zip(golds, answers, strict=True):
        given = fields_of(object_of(answer or "") or {})
        for path, value in fields_of(gold).items():
            n[path] += 1
            right[path] += path in given and same(given[path], value)
    return {".".join(path): (right[path], n[path]) for path in n}
