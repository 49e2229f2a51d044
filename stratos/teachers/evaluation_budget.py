"""How many test items the teacher answers within money and time.

The lower end of student over teacher can be no larger than the teacher's items let it: of n items
with no right answer the teacher may still have z²/(n + z²) of all, so that no ratio above n/z² can
be shown (33 of 128 items, 260 of 1,000).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from stratos.config import EvaluateConfig, LimitsConfig
from stratos.records import TeacherProbe
from stratos.tasks.base import Task
from stratos.teachers.call_budget import price

T = TypeVar("T")

LEAST_PAID = 128
"""Answers that a paid teacher gives at least, unless `evaluate.teacher_usd` says what they cost."""
_SHARE_OF_BUDGET = 0.1
_FIRST, _MOST = 32, 128
"""Items that are asked first, whatever they take, and at most at once."""


def n_allowed(
    probed: TeacherProbe, evaluate: EvaluateConfig, limits: LimitsConfig, task: Task
) -> int:
    """Return how many test items a teacher may answer, whatever time that takes.

    The model of a log is asked none: its answers are what all others are compared with.
    """
    if probed.logged is not None or probed.is_nobody:
        return 0
    most = min(evaluate.n_teacher_items, evaluate.n_items)
    if task.has_rows:
        most = min(most, task.n_test)
    return n_payable(probed, most, evaluate.teacher_usd, limits)


def n_payable(
    probed: TeacherProbe, most: int, limit_usd: float | None, limits: LimitsConfig
) -> int:
    """Return how many of some items the money is for.

    Args:
        probed: what an answer costs.
        most: items that there are.
        limit_usd: dollars for their answers; None takes a part of the budget.
        limits: of the run.
    """
    usd = price(probed.card, probed.input_tokens, probed.output_tokens) / max(1, probed.n_items)
    if not usd:
        return most
    if limit_usd is not None:
        return min(most, max(1, int(limit_usd / usd)))
    budget = limits.budget_usd
    part = limits.probe_usd if budget is None else _SHARE_OF_BUDGET * budget
    return min(most, max(LEAST_PAID, int(part / usd)))


def n_expected(
    probed: TeacherProbe, evaluate: EvaluateConfig, limits: LimitsConfig, task: Task
) -> int:
    """Return how many it is expected to answer in its time, by the pace of the probe.

    A hosted teacher answers many at once: its time is not foretold.
    """
    most = n_allowed(probed, evaluate, limits, task)
    pace = pace_of(probed)
    if price(probed.card, 1, 1) or not pace:
        return most
    return min(most, max(_FIRST, int(60 * evaluate.teacher_minutes / pace)))


def pace_of(probed: TeacherProbe) -> float:
    """Return the seconds that one answer took in the probe; 0 where that is not known."""
    return probed.seconds / probed.n_items if probed.n_items else 0.0


def parts_in_time(items: Sequence[T], minutes: float, pace: float) -> Iterator[Sequence[T]]:
    """Yield a part of the items after the other, as many as can be dealt with in the time.

    Args:
        items: in their order.
        minutes: what they may take between the first part and the last; the first one is given out
            whatever it takes.
        pace: seconds that one item is expected to take; the measured pace replaces it.
    """
    started, n_done = time.monotonic(), 0
    while n_done < len(items):
        seconds_left = 60 * minutes - (time.monotonic() - started)
        n = min(_MOST, int(max(0.0, seconds_left) / pace) if pace else _MOST)
        n = n if n_done else max(_FIRST, n)
        if not n:
            return
        yield items[n_done : n_done + n]
        n_done += n
        pace = (time.monotonic() - started) / n_done
