"""What the room says: its reasons, and the text of a cascade."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Literal

from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.threshold import ALWAYS, UNREADABLE_ONLY, agreement, is_escalated
from stratos.core.formats import (
    counted,
    interval,
    milliseconds,
    percent,
    percent_least,
    percent_range,
    usd,
)
from stratos.core.reasons import Reason
from stratos.records import Interval

_NEARLY_ALL = 0.9
"""Share of requests from which on the text says that the teacher answers nearly all."""


class NoPromise(Reason):
    """A limit on dollars is set, and nothing is promised."""

    key: str

    says = "cascade.{key} is set without a promise. Add cascade.accuracy=0.95."


class NothingServed(Reason):
    """A run that serves nothing cannot promise anything."""

    accuracy: float

    says = (
        "cascade.accuracy={accuracy:g}: the student that asks its teacher is a served "
        "one. Leave deploy=none out."
    )


class MeasureUnknown(Reason):
    """The engine does not give what tells how sure the student is."""

    measure: str
    engine: str

    says = (
        "cascade.measure={measure}: {engine} does not tell that of its answers. "
        "Type cascade.measure=auto."
    )


class LateTeacher(Reason):
    """The teacher took longer for some answers than a request waits."""

    n_late: int
    n_answers: int
    most_s: float
    """Seconds that a request waits."""
    instead: Literal["student", "error"]
    """What it gets then."""

    def __str__(self) -> str:
        gets = "the student's answer" if self.instead == "student" else "an error"
        return (
            f"cascade: the teacher took longer for {self.n_late:,} of {self.n_answers:,} answers "
            "than the endpoint waits, and these count as what is given then. "
            f"cascade.teacher_seconds={self.most_s:g} is all that a request waits, and then it "
            f"gets {gets}."
        )


class WithCascade(Reason):
    """What a cascade would come to for a student that misses its limit."""

    cascade: Cascade

    def __str__(self) -> str:
        return f"With a cascade: {self.cascade.text}"


# Why a cascade is no alternative before its student is served.


class StudentUnknown(Reason):
    """Nothing predicts the student's accuracy."""

    says = "the student's accuracy is not known yet"


class OutOfReach(Reason):
    """Student and teacher together are not accurate enough, whoever answers what."""

    best: float

    def __str__(self) -> str:
        return f"not to be reached: {percent(self.best)} is the most that both have together"


class TooFewItems(Reason):
    """The rows have too few items for the promise, even if all are answered right."""

    n_items: int
    least: int | None

    def __str__(self) -> str:
        most = "no number shows that" if self.least is None else f"it takes at least {self.least:,}"
        items = counted(self.n_items, "item", spec=",")
        return f"not to be promised: the rows have {items} to choose a threshold by, and {most}"


class ShareUnmeasured(Reason):
    """How many requests go to the teacher is a range."""

    share: Interval

    def __str__(self) -> str:
        ends = percent_range(self.share.low, self.share.high)
        return f"{ends} of requests go to the teacher: measured when the student is served"


def promised(cascade: Cascade, threshold: float) -> str:
    """Return the text of a cascade that keeps its promise.

    Args:
        cascade: without its text.
        threshold: as `is_escalated` takes it.
    """
    assert cascade.measured is not None and cascade.escalated is not None
    is_validation = cascade.chosen_on == "validation"
    chosen = _items(cascade.n_choosing, "validation item" if is_validation else "item")
    measured = _items(cascade.n_measuring, "test item" if is_validation else "other item")
    return (
        f"{_when_asked(cascade, threshold)}: at least {percent_least(cascade.accuracy)} right "
        f"({chosen} chose it; where it is not so, {percent(1 - cascade.confidence)} of draws at "
        f"most come to this promise). On {measured} "
        f"{percent(cascade.measured.mean)} ({interval(cascade.measured)}) are right, and "
        f"{percent(cascade.escalated.mean)} ({interval(cascade.escalated)}) of the requests go to "
        f"the teacher{_dollars(cascade)}.{_in_a_month(cascade)}{_latency(cascade)}"
        f"{_asides(cascade)}"
    )


def refused(cascade: Cascade, folder: Path | None) -> str:
    """Return why an accuracy cannot be promised, and what would be enough.

    Args:
        cascade: without its text.
        folder: of its run, in which another try is counted; None where it is not known.
    """
    accuracy, needed = percent(cascade.accuracy), cascade.n_needed
    n_both = cascade.n_choosing + cascade.n_measuring
    both = (
        f"of {_items(n_both, 'item')} that both answered the student has "
        f"{percent(cascade.student)} right, the teacher {percent(cascade.teacher)}"
    )
    enough = ""
    if cascade.most_promised is not None:
        most = percent_least(cascade.most_promised)
        enough = f" These items are enough for a promise of {most}."
    if needed is None:
        return (
            f"{accuracy} cannot be promised: {both}. Promise less, or take a better teacher."
            f"{enough}"
        )
    is_validation = cascade.chosen_on == "validation"
    before = cascade.n_choosing if is_validation else n_both
    if needed <= before:  # enough by expectation, and they fell short by chance
        needed = 2 * before
    # Only in the run's folder another try is counted as another look.
    again = "" if folder is None else f" hydra.run.dir={shlex.quote(str(folder))}"
    if is_validation:
        return (
            f"{accuracy} cannot be promised with {_items(before, 'validation item')}: {both}. "
            f"About {needed:,} would be enough, if the task has as many: "
            f"cascade.n_items={needed}{again}.{enough}"
        )
    return (
        f"{accuracy} cannot be promised with so few items: {both}. About {needed:,} would be "
        f"enough: evaluate.n_items={needed} evaluate.n_teacher_items={needed}{again}.{enough}"
    )


def least_agreeing(threshold: float, n: int) -> int:
    """Return from how many of n drawn answers that say the same on the teacher is not asked."""
    able = (k for k in range(n + 1) if not is_escalated(agreement(k, n), threshold))
    return next(able, n + 1)


def probability(value: float) -> str:
    """Write a probability so that one below 1 does not read as 1: "0.6396", "0.99999"."""
    if not 0.9995 <= value < 1:
        return f"{value:.4g}"
    return f"{value:.{1 - math.floor(math.log10(1 - value))}f}".rstrip("0")


def _when_asked(cascade: Cascade, threshold: float) -> str:
    assert cascade.escalated is not None and cascade.probability is not None
    if threshold == ALWAYS:
        return "No cascade: only the teacher alone keeps the promise"
    if threshold == UNREADABLE_ONLY:
        return (
            "The student alone keeps the promise; the teacher is asked only where its answer "
            "cannot be read"
        )
    if cascade.n_answers > 1:
        n = cascade.n_answers - 1
        least = least_agreeing(threshold, n)
        where = f"fewer than {least} of {n} drawn answers say the same as the student's"
    else:
        where = f"the student's answer has a probability below {probability(cascade.probability)}"
    share = cascade.escalated.mean
    if share == 1:
        return f"Ask the teacher all requests: {where} on all items that measured"
    if share >= _NEARLY_ALL:
        return f"Ask the teacher nearly all requests, those where {where}"
    return f"Ask the teacher where {where}"


def _asides(cascade: Cascade) -> str:
    text = ""
    if cascade.n_answers > 1:
        text += (
            f" Each request takes {cascade.n_answers} answers of the student: dollars, servers and "
            "milliseconds count all of them, one after the other, so that they are upper ends."
        )
    if cascade.n_too_long:
        text += (
            f" The promise is not about {counted(cascade.n_too_long, 'item')} longer than the "
            "teacher's context: they neither chose nor measured."
        )
    if cascade.left_out:
        text += (
            f" {percent(cascade.left_out, 2)} of the items are of slices too rare to be drawn, and "
            "count as wrong."
        )
    if cascade.look > 1:
        text += f" {cascade.look} sets of answers were tried, and the last has a stricter level."
    return text


def _dollars(cascade: Cascade) -> str:
    if cascade.usd_per_1000 is None:
        return ""
    return (
        f": {usd(cascade.usd_per_1000)} for 1,000 answers, the student alone "
        f"{usd(cascade.student_usd_per_1000)}, the teacher alone "
        f"{usd(cascade.teacher_usd_per_1000)}"
    )


def _in_a_month(cascade: Cascade) -> str:
    month = cascade.month
    if month is None:
        return ""
    return (
        f" At {month.requests_per_day:,.0f} requests a day a month costs {usd(month.cascade_usd)}, "
        f"with servers that are paid when they are idle; the student alone "
        f"{usd(month.student_usd)}, the teacher alone {usd(month.teacher_usd)}."
    )


def _latency(cascade: Cascade) -> str:
    if cascade.cascade_ms is None:
        return ""
    return (
        f" An answer takes {milliseconds(cascade.cascade_ms)} on average, of the student "
        f"{milliseconds(cascade.student_ms)}, of the teacher {milliseconds(cascade.teacher_ms)}: "
        "as in the evaluation, which asks the teacher several at once."
    )


def _items(n: int, what: str) -> str:
    return counted(n, what, spec=",")
