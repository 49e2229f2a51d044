"""How hard a task is, in one word and with the evidence for it.

Two things make a task hard: that a general model does not master it, and that its answers need a
long way. Each is put into low, medium or high by the thresholds below; the task is as hard as the
harder of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from stratos.config import ComplexityConfig
from stratos.records import Complexity, TeacherProbe
from stratos.tasks.base import Item, Task

LEVELS = ("low", "medium", "high")

COVERAGE_LOW = 0.7
"""A task that the best teacher surely answers at least this well is of low complexity."""
COVERAGE_HIGH = 0.3
"""A task that the best teacher surely answers less well than this is of high complexity."""

COMPLETION_LOW = 100
"""Median characters of a whole answer, reasoning path included, up to which it is short."""
COMPLETION_HIGH = 1000
"""Median characters from which it is long."""


def judge(
    declared: ComplexityConfig,
    task: Task,
    items: Sequence[Item],
    teachers: Sequence[TeacherProbe],
) -> Complexity:
    """Return the task's complexity: as declared, or measured on validation items.

    Args:
        declared: the config group; "measured" leaves it to the numbers.
        task: writes out the items' reasoning paths.
        items: validation items.
        teachers: what the probe found.
    """
    if declared.level != "measured":
        return Complexity(
            declared.level, True, (f"declared with complexity={declared.level}, not measured",)
        )
    best = max(teachers, key=lambda probe: probe.exact.mean)
    completions = [len(task.completion(item)) for item in items]
    length = int(median(completions))
    answers = sorted(len(item.answer) for item in items)
    by_coverage = coverage_level(best.exact.low, best.exact.high)
    by_length = length_level(length)
    evidence = (
        f"best coverage {best.exact.mean:.1%} (95% interval {best.exact.low:.1%} to "
        f"{best.exact.high:.1%}, {best.teacher}): {by_coverage}",
        f"median answer with its reasoning path {length} characters: {by_length}",
        f"answers alone have {answers[0]} to {answers[-1]} characters, median "
        f"{int(median(answers))}",
    )
    return Complexity(max(by_coverage, by_length, key=LEVELS.index), False, evidence)


def coverage_level(low: float, high: float) -> str:
    """Return the level that an interval of the best teacher's accuracy speaks for.

    Where the interval does not lie on one side of a threshold, the level is medium.
    """
    if low >= COVERAGE_LOW:
        return "low"
    return "high" if high < COVERAGE_HIGH else "medium"


def length_level(n_characters: int) -> str:
    """Return the level that the length of an answer speaks for."""
    if n_characters <= COMPLETION_LOW:
        return "low"
    return "high" if n_characters >= COMPLETION_HIGH else "medium"
