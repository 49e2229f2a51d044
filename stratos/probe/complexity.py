"""The task's complexity: measures, a level, and the evidence.

Two things make a task hard: that a general model does not master it, and that its answers need a
long way. Each is put into low, medium or high by the thresholds of `complexity`; the task is as
hard as the harder of the two. Beside them is told how far the answers of a teacher agree (to
different prompts, which costs nothing, and drawn with the same one), and what students that start
from existing weights can do before any training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import log2
from statistics import fmean, median

from stratos.config import ComplexityConfig
from stratos.core.counted import counted, cut_short
from stratos.records import Complexity, Interval, Measure, StudentProbe, TeacherProbe
from stratos.tasks.base import Item, Task

LEVELS = ("low", "medium", "high")


def judge(
    declared: ComplexityConfig,
    task: Task,
    items: Sequence[Item],
    teachers: Sequence[TeacherProbe],
    students: Sequence[StudentProbe] = (),
) -> Complexity:
    """Return the task's complexity: as declared, or measured on validation items.

    Args:
        declared: the config group; "measured" leaves it to the numbers.
        task: writes out the items' reasoning paths.
        items: validation items.
        teachers: what the probe found.
        students: what those that start from existing weights can do.
    """
    if declared.is_declared:
        return Complexity(
            declared.level, True, (f"declared with complexity={declared.level}, not measured",)
        )
    best = max(teachers, key=lambda probe: probe.exact.mean)
    completions = [len(task.completion(item)) for item in items]
    length = int(median(completions))
    answers = sorted(len(item.answer) for item in items)
    by_coverage = coverage_level(best.exact.low, best.exact.high, declared)
    by_length = length_level(length, declared)
    cut = f", {cut_short(best.n_truncated, best.n_items)}" if best.is_cut_short else ""
    evidence = (
        f"best coverage {best.exact.mean:.1%} (95% interval {best.exact.low:.1%} to "
        f"{best.exact.high:.1%}, {best.teacher}{cut}): {by_coverage}",
        f"median answer with its reasoning path {counted(length, 'character')}: {by_length}",
        f"answers alone have {answers[0]} to {answers[-1]} characters, median "
        f"{int(median(answers))}",
    )
    measures = [measure for teacher in teachers for measure in _of_teacher(teacher, declared)]
    measures += [_of_student(student) for student in students]
    measures.append(_plain("answer with its path", length, "characters", "task", by_length))
    measures.append(_plain("answer alone", int(median(answers)), "characters", "task"))
    level = max(by_coverage, by_length, key=LEVELS.index)
    return Complexity(level, False, evidence, tuple(measures))


def coverage_level(low: float, high: float, thresholds: ComplexityConfig) -> str:
    """Return the level that an interval of the best teacher's accuracy speaks for.

    Where the interval does not lie on one side of a threshold, the level is medium.
    """
    if low >= thresholds.coverage_low:
        return "low"
    return "high" if high < thresholds.coverage_high else "medium"


def length_level(n_characters: int, thresholds: ComplexityConfig) -> str:
    """Return the level that the length of an answer speaks for."""
    if n_characters <= thresholds.completion_low:
        return "low"
    return "high" if n_characters >= thresholds.completion_high else "medium"


def agreement_and_entropy(answers: Sequence[Sequence[str | None]]) -> tuple[float, float] | None:
    """Return how far answers to the same question agree: share of equal pairs, entropy in bits.

    Both are means over the questions. An answer that could not be read is like no other.

    Args:
        answers: of each question, what several ways of asking it gave; None could not be read.

    Returns:
        None where no question has two answers.
    """
    several = [given for given in answers if len(given) > 1]
    if not several:
        return None
    equal = [fmean(a == b is not None for a, b in combinations(given, 2)) for given in several]
    return fmean(equal), fmean(_entropy_bits(given) for given in several)


def _entropy_bits(given: Sequence[str | None]) -> float:
    counts = Counter(
        ("unread", index) if answer is None else ("read", answer)
        for index, answer in enumerate(given)
    )
    return sum(n / len(given) * log2(len(given) / n) for n in counts.values())


def _of_teacher(teacher: TeacherProbe, thresholds: ComplexityConfig) -> list[Measure]:
    name, exact = teacher.teacher, teacher.exact
    level = coverage_level(exact.low, exact.high, thresholds)
    cut = cut_short(teacher.n_truncated, teacher.n_items) if teacher.is_cut_short else ""
    measures = [Measure("coverage", exact, "share", name, level, cut)]
    if teacher.agreement is not None:
        measures.append(_plain("agreement between prompts", teacher.agreement, "share", name))
    if teacher.entropy_bits is not None:
        measures.append(_plain("entropy of the answers", teacher.entropy_bits, "bits", name))
    if (drawn := teacher.samples) is not None:
        on = f"{counted(drawn.n_items, 'item')}, {counted(drawn.n_samples, 'answer')} each"
        note = drawn.reason or f"{on} at temperature {drawn.temperature:g}"
        for what, value, unit in (
            ("agreement between samples", drawn.agreement, "share"),
            ("entropy of the samples", drawn.entropy_bits, "bits"),
        ):
            measures.append(replace(_plain(what, value, unit, name), note=note))
    if teacher.entropy_nats is not None:
        note = "over its own answers"
        entropy = _plain("entropy of the next token", teacher.entropy_nats, "nats a token", name)
        measures.append(replace(entropy, note=note))
    length = teacher.output_tokens / max(1, teacher.n_items)
    measures.append(_plain("length of an answer", length, "tokens", name))
    return measures


def _of_student(student: StudentProbe) -> Measure:
    note = student.reason or counted(student.n_items, "validation item")
    return Measure("exact match before training", student.exact, "share", student.student, "", note)


def _plain(name: str, value: float | None, unit: str, of: str, level: str = "") -> Measure:
    return Measure(name, None if value is None else Interval(value, value, value), unit, of, level)
