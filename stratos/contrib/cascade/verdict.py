"""What a cascade of a run comes to: threshold, promise, share escalated, dollars, milliseconds."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stratos.config import Config
from stratos.contrib.cascade import words
from stratos.contrib.cascade.pairs import Answered, answered, level
from stratos.contrib.cascade.record import Cascade, CascadeAt
from stratos.contrib.cascade.threshold import (
    ALWAYS,
    UNREADABLE_ONLY,
    choose,
    is_escalated,
    is_right,
    n_needed,
)
from stratos.core.errors import StratosError
from stratos.core.formats import visible
from stratos.core.intervals import wilson
from stratos.core.output import add_flag, json_line
from stratos.plan.payback import DAYS_A_MONTH

PROMISED, REFUSED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Choose below which confidence a student asks its teacher, so that a promised accuracy "
        "holds with a stated probability, and say what that costs. Nothing is asked."
    )
    parser.epilog = "example: stratos cascade outputs/<run> --accuracy 0.95"
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of an evaluated run")
    parser.add_argument("--accuracy", type=float, required=True, help="share right, promised")
    parser.add_argument("--confidence", type=float, default=0.95, help="with which (default 0.95)")
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print the cascade of a run; return 1 where nothing can be promised.

    Raises:
        StratosError: a share is none, or the folder is none of an evaluated run.
    """
    for name in ("accuracy", "confidence"):
        if not 0 < getattr(args, name) < 1:
            raise StratosError(f"--{name}: type a share between 0 and 1, such as 0.95.")
    cascade = cascade_of(answered(args.run), args.accuracy, args.confidence)
    print(json_line(cascade) if args.json else visible(cascade.text))
    return PROMISED if cascade.is_promised else REFUSED


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
        n_measuring=len(run.measuring),
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
    threshold = choose(run.choosing, goal, delta) if goal < 1 else None
    if threshold is None:
        refusal = replace(
            plain,
            n_needed=_needed(run, accuracy, confidence),
            most_promised=_most(run, accuracy, delta),
        )
        return replace(refusal, text=words.refused(refusal, run.folder))
    n = len(run.measuring)
    escalated = wilson(sum(is_escalated(pair.confidence, threshold) for pair in run.measuring), n)
    measured = wilson(sum(is_right(pair, threshold) for pair in run.measuring), n)
    measured = replace(
        measured, mean=counted_in * measured.mean, low=counted_in * measured.low,
        high=counted_in * measured.high,
    )  # fmt: skip
    everything = [*run.choosing, *run.measuring]
    sent_on = [pair for pair in everything if is_escalated(pair.confidence, threshold)]
    # Of what is sent on, over all: it may be longer.
    slower = _ratio(
        [pair.teacher_seconds for pair in sent_on], [pair.teacher_seconds for pair in everything]
    )
    dearer = _ratio(
        [pair.teacher_usd for pair in sent_on], [pair.teacher_usd for pair in everything]
    )
    if dearer is None:  # it has no price for tokens, and is paid by the time that it takes
        dearer = slower
    sent_on_usd = escalated.mean * (1.0 if dearer is None else dearer)
    sent_on_s = escalated.mean * (1.0 if slower is None else slower)
    dollars = None
    if run.usd_per_1000 is not None and run.teacher_usd_per_1000 is not None:
        dollars = run.n_answers * run.usd_per_1000 + sent_on_usd * run.teacher_usd_per_1000
    mean_ms = None
    if run.student_ms is not None and run.teacher_ms is not None:
        mean_ms = run.n_answers * run.student_ms + sent_on_s * run.teacher_ms
    made = replace(
        plain,
        is_promised=True,
        probability=1.0 if threshold == ALWAYS else math.exp(threshold),
        is_always=threshold == ALWAYS,
        escalated=escalated,
        measured=measured,
        usd_per_1000=dollars,
        cascade_ms=mean_ms,
        month=_month(run, sent_on_usd),
    )
    return replace(made, text=words.promised(made, threshold))


def remedy_of(config: Config) -> words.WithCascade | None:
    """Return what a cascade of an evaluated run would promise of `limits.accuracy`.

    None where the run has no answers of both student and teacher, and where these cannot promise
    it.
    """
    least = config.limits.accuracy
    assert least is not None
    try:
        run = answered(config.run_dir)
    except StratosError:
        return None
    cascade = cascade_of(run, least, 0.95)
    return words.WithCascade(cascade) if cascade.is_promised else None


def threshold_of(cascade: Cascade) -> float:
    """Return the threshold of a cascade that keeps its promise, as `is_escalated` takes it."""
    assert cascade.probability is not None
    if cascade.is_always:
        return ALWAYS
    return math.log(cascade.probability) if cascade.probability else UNREADABLE_ONLY


def _ratio(sent_on: Sequence[float | None], everything: Sequence[float | None]) -> float | None:
    """Return the mean of what is sent on over that of all; None where that is not known."""
    some, all_known = (
        [amount for amount in group if amount is not None] for group in (sent_on, everything)
    )
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
    needed = n_needed(right, accuracy, level(1 - confidence, run.look + 1))
    return None if needed is None else needed * (2 if run.chosen_on == "test" else 1)
