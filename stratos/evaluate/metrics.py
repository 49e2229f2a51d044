"""Accuracy of models on the same items: McNemar's test, intervals, the rows of a scorecard.

Notation: of `n` items, `both` were answered right by student and teacher, `only_student` and
`only_teacher` by one of them, the rest by none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import ceil, inf, isinf, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from stratos.core.formats import counted
from stratos.core.intervals import n_independent, wilson
from stratos.core.pairs import mcnemar_exact
from stratos.records import NO_LABEL, Comparison, Interval, ModelScore, SliceScore, Versus
from stratos.tasks.answers import Path, fields_of, object_of, same
from stratos.tasks.base import Item, Score, Task
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.label_sets import labels_of

if TYPE_CHECKING:
    import numpy as np


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 for no values."""
    return sum(values) / len(values) if values else 0.0


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least a `share` of all do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or `share` is not above 0 and at most 1.
    """
    ordered = sorted(values)
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"No percentile {share} of {len(ordered)} values.")
    # A share such as 0.07 of 100 lies a rounding error above 7, and is meant to be 7.
    return ordered[ceil(share * len(ordered) - 1e-9) - 1]


def ratio_interval(
    both: int, only_student: int, only_teacher: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of student's share right over teacher's, for matched pairs.

    The ratios that a score test would not reject (Tang, Tang and Chan 2003; the restricted
    estimate after Nam and Blackwelder 2002). Unlike a bootstrap or a Wald interval it stands when
    the teacher has nothing right: then its upper end is infinite and its lower end is not.

    Raises:
        ValueError: the counts are negative or more than `n`.
    """
    if min(both, only_student, only_teacher) < 0 or both + only_student + only_teacher > n:
        raise ValueError(
            f"Counts {both}, {only_student} and {only_teacher} do not fit into {n} items."
        )
    student, teacher = both + only_student, both + only_teacher
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    neither = n - both - only_student - only_teacher

    def score(ratio: float) -> float:
        return _ratio_score(both, only_student, only_teacher, neither, ratio)

    # The score falls as the ratio rises. It is above z at 0 unless the student has nothing right,
    # and below -z at infinity unless the teacher has nothing right.
    low = 0.0 if student == 0 else _crossing(score, z)
    high = inf if teacher == 0 else _crossing(score, -z)
    return low, high


def _ratio_score(
    both: int, only_student: int, only_teacher: int, neither: int, ratio: float
) -> float:
    """Return the score statistic of the hypothesis "student = ratio x teacher"."""
    n = both + only_student + only_teacher + neither
    student, teacher = both + only_student, both + only_teacher
    difference = student - ratio * teacher
    # Maximum-likelihood share of "only the teacher" and "only the student" under the hypothesis.
    linear = -student + ratio**2 * (teacher + 2 * only_student)
    root = sqrt((student - ratio**2 * teacher) ** 2 + 4 * ratio**2 * only_student * only_teacher)
    teacher_share = (linear + root) / (2 * ratio * (ratio + 1) * n)
    student_share = ratio * teacher_share - (ratio - 1) * (1 - neither / n)
    variance = n * ratio * max(0.0, student_share + teacher_share)
    if variance <= 0:
        return 0.0 if difference == 0 else inf if difference > 0 else -inf
    return difference / sqrt(variance)


def _crossing(score: Callable[[float], float], level: float) -> float:
    """Return the ratio at which a falling score passes `level`, by bisection of its logarithm."""
    low, high = 1e-9, 1e9
    for _ in range(200):
        middle = sqrt(low * high)
        if score(middle) > level:
            low = middle
        else:
            high = middle
    return sqrt(low * high)


ALL = "all"
"""Name of the row for every slice together."""


def by_slice(
    items: Sequence[Item], scores: Sequence[Score], groups: Sequence[str] = ()
) -> tuple[SliceScore, ...]:
    """Return a row for each slice in the order in which it is first met, then one for all.

    Args:
        items: that were answered.
        scores: theirs.
        groups: of near duplicates, that of each item: intervals count these, as far as they are
            answered right together. Empty where each item is by itself.
    """
    groups = groups or [item.id for item in items]
    places: dict[str, list[int]] = {}
    for k, item in enumerate(items):
        places.setdefault(item.slice, []).append(k)
    places[ALL] = list(range(len(items)))
    return tuple(
        _slice_score(name, [scores[k] for k in some], [groups[k] for k in some])
        for name, some in places.items()
    )


def _slice_score(name: str, scores: Sequence[Score], groups: Sequence[str]) -> SliceScore:
    exact, n, n_groups = [score.exact for score in scores], len(scores), len(set(groups))
    is_grouped = n_groups < n
    interval, worth = wilson(sum(exact), n), float(n)
    if is_grouped:
        worth = n_independent(exact, groups)
        source = f"{counted(n, 'item')} in {counted(n_groups, 'group')}, Wilson"
        interval = wilson(mean(exact) * worth, worth, source=source)
    return SliceScore(
        slice=name,
        n_items=n,
        exact=interval,
        f1=mean([score.f1 for score in scores]),
        micro_f1=_micro_f1(scores, groups),
        n_groups=n_groups if is_grouped else 0,
        n_independent=max(1, round(worth)) if n else 0,
    )


_N_RESAMPLES = 1_000


def _label_counts(scores: Sequence[Score]) -> np.ndarray | None:
    """Return `Score.labels` of items, shape (items, 2); None where texts have one label each."""
    import numpy as np

    counts = [score.labels for score in scores if score.labels is not None]
    return np.array(counts) if counts and len(counts) == len(scores) else None


def _micro_f1(scores: Sequence[Score], groups: Sequence[str]) -> Interval | None:
    """Return the F1 over all labels, with the interval of a bootstrap of groups.

    None where texts have one label each.
    """
    if (rows := _label_counts(scores)) is None:
        return None
    import numpy as np

    from stratos.models.kinds.kind_choice import micro_f1

    numbers = {group: k for k, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), 2), rows.dtype)
    np.add.at(sums, [numbers[group] for group in groups], rows)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_N_RESAMPLES, len(sums)))
    low, high = np.quantile(micro_f1(sums[drawn]), (0.025, 0.975))
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


_FEWEST = 10
"""Items of which one answer to all of them says something."""
_FEWEST_WRONG = 5
"""Items that one answer to all of them gets wrong, so that it says something."""
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


def only_answer(items: Sequence[Item], texts: Sequence[str], scores: Sequence[Score]) -> str | None:
    """Return the one text that wrongly answers all items; None where answers differ, or need not.

    Few items may have one answer by chance, and so may items of which few need another one. Gold
    answers that are written in several ways may need no other one.
    """
    given = {normalised(text) for text in texts}
    is_due = len(items) >= _FEWEST and len({normalised(item.answer) for item in items}) > 1
    is_wrong = sum(score.exact < 1 for score in scores) >= _FEWEST_WRONG
    return texts[0].strip() if len(given) == 1 and is_due and is_wrong else None


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
