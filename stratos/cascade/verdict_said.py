"""What a cascade of a run comes to: threshold, promise, share escalated, dollars."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stratos.cascade.answered import Answered
from stratos.cascade.threshold import (
    ALWAYS,
    UNREADABLE_ONLY,
    choose,
    is_escalated,
    is_right,
    n_needed,
)
from stratos.core.counted import counted
from stratos.core.formats import interval, percent, usd
from stratos.core.intervals import wilson
from stratos.records import Interval


@dataclass(frozen=True)
class Cascade:
    """A student that asks its teacher where it is unsure, and what that comes to."""

    text: str
    """The verdict in words."""
    is_promised: bool
    """False where nothing can be promised, for the reason in `text`."""
    accuracy: float
    """That is promised."""
    confidence: float
    """With which."""
    n_choosing: int
    """Items that chose the threshold."""
    student: float
    """Shares right of the items that both answered."""
    teacher: float
    probability: float | None = None
    """The teacher is asked below this probability of the student's answer; None where nothing is
    promised."""
    escalated: Interval | None = None
    """Share of requests that go to the teacher, on items that did not choose."""
    measured: Interval | None = None
    """Accuracy of the cascade on these items."""
    usd_per_1000: float | None = None
    """Student's server and teacher together; None where a price is not known."""
    student_usd_per_1000: float | None = None
    teacher_usd_per_1000: float | None = None
    n_needed: int | None = None
    """Items both would have to answer, half of which choose; None where no number is enough."""


def cascade_of(run: Answered, accuracy: float, confidence: float) -> Cascade:
    """Return the cascade of a run with a promised accuracy, or why it cannot be promised.

    Args:
        run: the items that both answered.
        accuracy: to be promised.
        confidence: with which, such as 0.95.
    """
    plain = Cascade(
        text="",
        is_promised=False,
        accuracy=accuracy,
        confidence=confidence,
        n_choosing=len(run.choosing),
        student=run.student,
        teacher=run.teacher,
        student_usd_per_1000=run.usd_per_1000,
        teacher_usd_per_1000=run.teacher_usd_per_1000,
    )
    found = choose(run.choosing, accuracy, 1 - confidence)
    if found is None:
        needed = _needed(run, accuracy, confidence)
        return replace(plain, text=_refused(run, accuracy, needed), n_needed=needed)
    n = len(run.measuring)
    escalated = wilson(
        sum(is_escalated(one.confidence, found.threshold) for one in run.measuring), n
    )
    measured = wilson(sum(is_right(one, found.threshold) for one in run.measuring), n)
    dollars = None
    if run.usd_per_1000 is not None and run.teacher_usd_per_1000 is not None:
        dollars = run.usd_per_1000 + escalated.mean * run.teacher_usd_per_1000
    probability = 1.0 if found.threshold == ALWAYS else math.exp(found.threshold)
    head = {
        ALWAYS: "No cascade: only the teacher alone keeps the promise",
        UNREADABLE_ONLY: "The student alone keeps the promise; the teacher is asked only where its "
        "answer cannot be read",
    }.get(found.threshold, f"Ask the teacher below a probability of {probability:.4g}")
    text = (
        f"{head}: at least {percent(accuracy)} right with {percent(confidence, 0)} confidence "
        f"({counted(found.n_items, 'item')} chose it). On {counted(n, 'other item')} "
        f"{percent(measured.mean)} ({interval(measured)}) are right, and "
        f"{percent(escalated.mean)} ({interval(escalated)}) of the requests go to the teacher"
        f"{_dollars(run, dollars)}."
    )
    return replace(
        plain,
        text=text,
        is_promised=True,
        probability=probability,
        escalated=escalated,
        measured=measured,
        usd_per_1000=dollars,
    )


def _dollars(run: Answered, dollars: float | None) -> str:
    if dollars is None:
        return ""
    return (
        f": {usd(dollars)} for 1,000 answers, the student alone {usd(run.usd_per_1000)}, the "
        f"teacher alone {usd(run.teacher_usd_per_1000)}"
    )


def _needed(run: Answered, accuracy: float, confidence: float) -> int | None:
    """Return about how many items both would have to answer; the better of the two counts."""
    half = n_needed(max(run.student, run.teacher), accuracy, 1 - confidence)
    return None if half is None else 2 * half


def _refused(run: Answered, accuracy: float, needed: int | None) -> str:
    both = (
        f"of {counted(run.n, 'item')} that both answered the student has {percent(run.student)} "
        f"right, the teacher {percent(run.teacher)}"
    )
    if needed is None:
        return (
            f"{percent(accuracy)} cannot be promised: {both}. Promise less, or take a better "
            "teacher."
        )
    if needed <= run.n:  # enough by expectation, and they fell short by chance
        needed = 2 * run.n
    return (
        f"{percent(accuracy)} cannot be promised with so few items: {both}. About {needed:,} would "
        f"be enough: evaluate.n_items={needed} evaluate.n_teacher_items={needed}."
    )
