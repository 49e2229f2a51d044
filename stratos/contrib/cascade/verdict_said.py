"""What a cascade of a run comes to: threshold, promise, share escalated, dollars, milliseconds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace

from stratos.contrib.cascade.answered import Answered
from stratos.contrib.cascade.judge import agreement
from stratos.contrib.cascade.looks import level
from stratos.contrib.cascade.threshold import (
    ALWAYS,
    UNREADABLE_ONLY,
    choose,
    is_escalated,
    is_right,
    n_needed,
)
from stratos.core.counted import counted
from stratos.core.formats import interval, milliseconds, percent, percent_least, usd
from stratos.core.intervals import wilson
from stratos.plan.horizon import DAYS_A_MONTH
from stratos.records import Cascade, CascadeAt

_NEARLY_ALL = 0.9
"""Share of requests from which on the verdict says that the teacher answers nearly all."""

_STEP = 0.005
"""By which lower promises are looked into where one is refused."""


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
        chosen_on=run.chosen_on,
        student_ms=run.student_ms,
        teacher_ms=run.teacher_ms,
        look=run.look,
        n_answers=run.n_answers,
        n_too_long=run.n_too_long,
        left_out=run.left_out,
    )
    # What is left out counts as wrong: the others make up for it.
    counted_in = 1 - run.left_out
    goal = accuracy / counted_in
    delta = level(1 - confidence, run.look)
    found = choose(run.choosing, goal, delta) if goal < 1 else None
    if found is None:
        needed, most = _needed(run, accuracy, confidence), _most(run, accuracy, delta)
        text = _refused(run, accuracy, needed)
        if most is not None:
            text += f" These items are enough for a promise of {percent_least(most)}."
        return replace(plain, text=text, n_needed=needed, most_promised=most)
    n = len(run.measuring)
    escalated = wilson(
        sum(is_escalated(one.confidence, found.threshold) for one in run.measuring), n
    )
    measured = wilson(sum(is_right(one, found.threshold) for one in run.measuring), n)
    measured = replace(
        measured, mean=counted_in * measured.mean, low=counted_in * measured.low,
        high=counted_in * measured.high,
    )  # fmt: skip
    everything = [*run.choosing, *run.measuring]
    sent_on = [one for one in everything if is_escalated(one.confidence, found.threshold)]
    # Of what is sent on, over all: it may be longer.
    slower = _ratio(
        [one.teacher_seconds for one in sent_on], [one.teacher_seconds for one in everything]
    )
    dearer = _ratio([one.teacher_usd for one in sent_on], [one.teacher_usd for one in everything])
    if dearer is None:  # it has no price for tokens, and is paid by the time that it takes
        dearer = slower
    sent_on_usd = escalated.mean * (1.0 if dearer is None else dearer)
    sent_on_s = escalated.mean * (1.0 if slower is None else slower)
    dollars = None
    if run.usd_per_1000 is not None and run.teacher_usd_per_1000 is not None:
        dollars = run.n_answers * run.usd_per_1000 + sent_on_usd * run.teacher_usd_per_1000
    found_ms = None
    if run.student_ms is not None and run.teacher_ms is not None:
        found_ms = run.n_answers * run.student_ms + sent_on_s * run.teacher_ms
    made = replace(
        plain,
        is_promised=True,
        probability=1.0 if found.threshold == ALWAYS else math.exp(found.threshold),
        is_always=found.threshold == ALWAYS,
        escalated=escalated,
        measured=measured,
        usd_per_1000=dollars,
        cascade_ms=found_ms,
        month=_month(run, sent_on_usd),
    )
    return replace(made, text=_promised(made, found.threshold, n))


def threshold_of(cascade: Cascade) -> float:
    """Return the threshold of a cascade that keeps its promise, as `is_escalated` takes it."""
    assert cascade.probability is not None
    if cascade.is_always:
        return ALWAYS
    return math.log(cascade.probability) if cascade.probability else UNREADABLE_ONLY


def _promised(made: Cascade, threshold: float, n: int) -> str:
    assert made.measured is not None and made.escalated is not None
    head = _when_asked(made, threshold)
    kind = "validation item" if made.chosen_on == "validation" else "item"
    other = "test item" if made.chosen_on == "validation" else "other item"
    return (
        f"{head}: at least {percent_least(made.accuracy)} right with {percent(made.confidence, 0)} "
        f"confidence ({_items(made.n_choosing, kind)} chose it). On {_items(n, other)} "
        f"{percent(made.measured.mean)} ({interval(made.measured)}) are right, and "
        f"{percent(made.escalated.mean)} ({interval(made.escalated)}) of the requests go to the "
        f"teacher{_dollars(made)}.{_in_a_month(made)}{_latency(made)}{_asides(made)}"
    )


def _when_asked(made: Cascade, threshold: float) -> str:
    assert made.escalated is not None and made.probability is not None
    if threshold == ALWAYS:
        return "No cascade: only the teacher alone keeps the promise"
    if threshold == UNREADABLE_ONLY:
        return (
            "The student alone keeps the promise; the teacher is asked only where its answer "
            "cannot be read"
        )
    if made.n_answers > 1:
        n = made.n_answers - 1
        least = least_agreeing(threshold, n)
        where = f"fewer than {least} of {n} drawn answers say the same as the student's"
    else:
        where = f"the student's answer has a probability below {probability(made.probability)}"
    share = made.escalated.mean
    if share == 1:
        return f"Ask the teacher all requests: {where} on all items that measured"
    if share >= _NEARLY_ALL:
        return f"Ask the teacher nearly all requests, those where {where}"
    return f"Ask the teacher where {where}"


def least_agreeing(threshold: float, n: int) -> int:
    """Return from how many of n drawn answers that say the same on the teacher is not asked."""
    able = (k for k in range(n + 1) if not is_escalated(agreement(k, n), threshold))
    return next(able, n + 1)


def probability(value: float) -> str:
    """Write a probability so that one below 1 does not read as 1: "0.6396", "0.99999"."""
    if not 0.9995 <= value < 1:
        return f"{value:.4g}"
    return f"{value:.{1 - math.floor(math.log10(1 - value))}f}".rstrip("0")


def _items(n: int, what: str) -> str:
    return counted(n, what, spec=",")


def _asides(made: Cascade) -> str:
    told = ""
    if made.n_answers > 1:
        told += (
            f" Each request takes {made.n_answers} answers of the student: dollars, servers and "
            "milliseconds count all of them, one after the other, so that they are upper ends."
        )
    if made.n_too_long:
        told += (
            f" The promise is not about {counted(made.n_too_long, 'item')} longer than the "
            "teacher's context: they neither chose nor measured."
        )
    if made.left_out:
        told += (
            f" {percent(made.left_out, 2)} of the items are of slices too rare to be drawn, and "
            "count as wrong."
        )
    if made.look > 1:
        told += f" {made.look} sets of answers were tried, and the last has a stricter level."
    return told


def _ratio(sent_on: Sequence[float | None], everything: Sequence[float | None]) -> float | None:
    """Return the mean of what is sent on over that of all; None where that is not known."""
    some, all_known = ([one for one in group if one is not None] for group in (sent_on, everything))
    if not some or sum(all_known) <= 0:
        return None
    return (sum(some) / len(some)) / (sum(all_known) / len(all_known))


def _month(run: Answered, sent_on: float) -> CascadeAt | None:
    rate, dollars = run.requests_per_day, run.teacher_usd_per_1000
    if rate is None or dollars is None:
        return None
    servers = DAYS_A_MONTH * run.plan.servers_usd_per_day
    teacher = DAYS_A_MONTH * rate * dollars / 1000
    served = run.n_answers * servers
    return CascadeAt(rate, servers, teacher, served + sent_on * teacher)


def _dollars(made: Cascade) -> str:
    if made.usd_per_1000 is None:
        return ""
    return (
        f": {usd(made.usd_per_1000)} for 1,000 answers, the student alone "
        f"{usd(made.student_usd_per_1000)}, the teacher alone {usd(made.teacher_usd_per_1000)}"
    )


def _in_a_month(made: Cascade) -> str:
    if (at := made.month) is None:
        return ""
    return (
        f" At {at.requests_per_day:,.0f} requests a day a month costs {usd(at.cascade_usd)}, with "
        f"servers that are paid when they are idle; the student alone {usd(at.student_usd)}, the "
        f"teacher alone {usd(at.teacher_usd)}."
    )


def _latency(made: Cascade) -> str:
    if made.cascade_ms is None:
        return ""
    return (
        f" An answer takes {milliseconds(made.cascade_ms)} on average, of the student "
        f"{milliseconds(made.student_ms)}, of the teacher {milliseconds(made.teacher_ms)}: as in "
        "the evaluation, which asks the teacher several at once."
    )


def _most(run: Answered, accuracy: float, delta: float) -> float | None:
    """Return the highest accuracy below one that is refused for which the items are enough."""
    for step in range(math.ceil(accuracy / _STEP) - 1, 0, -1):
        lower = _STEP * step
        goal = lower / (1 - run.left_out)
        if goal < 1 and choose(run.choosing, goal, delta) is not None:
            return round(lower, 3)
    return None


def _needed(run: Answered, accuracy: float, confidence: float) -> int | None:
    """Return about how many items both would have to answer; the better of the two counts."""
    right = (1 - run.left_out) * max(run.student, run.teacher)
    found = n_needed(right, accuracy, level(1 - confidence, run.look + 1))
    return None if found is None else found * (2 if run.chosen_on == "test" else 1)


def _refused(run: Answered, accuracy: float, needed: int | None) -> str:
    both = (
        f"of {_items(run.n, 'item')} that both answered the student has {percent(run.student)} "
        f"right, the teacher {percent(run.teacher)}"
    )
    if needed is None:
        return (
            f"{percent(accuracy)} cannot be promised: {both}. Promise less, or take a better "
            "teacher."
        )
    before = len(run.choosing) if run.chosen_on == "validation" else run.n
    if needed <= before:  # enough by expectation, and they fell short by chance
        needed = 2 * before
    if run.chosen_on == "validation":
        return (
            f"{percent(accuracy)} cannot be promised with {_items(before, 'validation item')}: "
            f"{both}. About {needed:,} would be enough, if the task has as many: "
            f"cascade.n_items={needed}{_again(run)}."
        )
    return (
        f"{percent(accuracy)} cannot be promised with so few items: {both}. About {needed:,} would "
        f"be enough: evaluate.n_items={needed} evaluate.n_teacher_items={needed}{_again(run)}."
    )


def _again(run: Answered) -> str:
    """Name the run's folder: only there is another try counted as another look."""
    return "" if run.folder is None else f" hydra.run.dir={shlex.quote(str(run.folder))}"
