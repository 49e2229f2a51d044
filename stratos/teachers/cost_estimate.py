"""Cost before the first question, with a range, and the test items that money and time allow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import TypeVar

from stratos.config import EvaluateConfig, LimitsConfig
from stratos.core.context import Context
from stratos.core.errors import BudgetError
from stratos.core.formats import exact_usd
from stratos.records import Interval, TeacherProbe
from stratos.tasks.base import Task
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cache import look_up
from stratos.teachers.call_budget import most_usd, n_bytes, price

_LOOKED_UP = 20_000
"""Questions looked up in the cache; of more, evenly spaced ones stand for all."""
_ENOUGH = 8
"""Kept answers from which the others are foretold."""
_TOKENS_PER_BYTE = Interval(0.27, 0.17, 0.5, "English text under common tokenizers")
_SHARE_OF_LIMIT = Interval(0.5, 0.02, 1.0, "nothing kept to go by")


@dataclass(frozen=True)
class CostEstimate:
    """Tokens and dollars of questions that are still to be asked."""

    teacher: str
    n_questions: int
    n_asked: int
    """Those that the cache does not know."""
    input_tokens: Interval
    output_tokens: Interval
    usd: Interval
    left_usd: float | None
    """What may still be spent; None without a limit."""
    is_guess: bool = False
    """True if no kept answer tells how long one is."""
    noun: str = "questions"
    """What is paid for, in the plural."""
    last_call_usd: float = 0.0
    """How much more than a call costs is set aside for it: the last one needs it."""
    vain_usd: float = 0.0
    """Part of the dollars that goes to tries which may be billed and bring no answer."""
    n_kept: int = 0
    """Answers that are kept from before, and cost nothing."""

    @property
    def n_fitting(self) -> int:
        """How many of the questions the money is expected to suffice for."""
        if self.left_usd is None or self.usd.mean <= self.left_usd:
            return self.n_asked
        return int(self.n_asked * self.left_usd / self.usd.mean)

    @property
    def passes_limit(self) -> bool:
        """Whether the answers alone are expected to cost more than is left.

        Tries in vain are left out: perhaps the endpoint is better by now, and where it is not, the
        asking ends where the money does. Of a guess the low end counts.
        """
        surely = self.usd.low if self.is_guess else self.usd.mean - self.vain_usd
        return self.left_usd is not None and surely > self.left_usd

    def text(self) -> str:
        """Return it as a sentence without a full stop."""
        return (
            f"Teacher {self.teacher}: {self.n_asked:,} {self.noun} are expected to take "
            f"{self.input_tokens.mean:,.0f} tokens in and {self.output_tokens.mean:,.0f} out, "
            f"{exact_usd(self.usd.mean)} ({exact_usd(self.usd.low)} to {exact_usd(self.usd.high)})"
            + (f", {exact_usd(self.vain_usd)} of it for tries in vain" if self.vain_usd else "")
            + (f"; {self.n_kept:,} more are answered already, for $0" if self.n_kept else "")
        )

    def show(self, context: Context) -> None:
        """Say what is expected and put it into the ledger, unless nothing is to be paid."""
        if self.usd.high == 0:
            return
        counted = {self.noun: self.n_asked}
        context.ledger.foretell(f"teacher {self.teacher}", self.usd, **counted)
        remainder = ""
        if self.left_usd is not None:
            remainder = f"; {exact_usd(self.left_usd)} is left"
            if self.usd.mean > self.left_usd:
                remainder += f", for about {self.n_fitting:,} of them"
        context.note(f"{self.text()}{remainder}.")

    def check(self, less: str = "ask less") -> None:
        """Refuse what `passes_limit`.

        Args:
            less: what to type for fewer questions.

        Raises:
            BudgetError: it says what would fit.
        """
        if self.left_usd is None or not self.passes_limit:
            return
        raise BudgetError(
            f"{self.text()}, and {exact_usd(self.left_usd)} is left. That suffices for about "
            f"{self.n_fitting:,} of them. Give limits.budget_usd (for a probe limits.probe_usd) "
            f"{exact_usd(self.usd.high + self.last_call_usd - self.left_usd)} more, {less}, or "
            "choose a cheaper teacher."
        )


def expect(
    teacher: Teacher,
    questions: Sequence[Question],
    context: Context,
    limit_usd: float | None = None,
    *,
    like: Sequence[Question] = (),
    n_questions: int | None = None,
    noun: str = "questions",
    is_more: bool = False,
) -> CostEstimate:
    """Foretell what questions will cost; it is shown, and kept by a line in the ledger.

    What this teacher has answered before sets tokens per byte and length of an answer; without
    that, wide ranges of common tokenizers and of the longest answer do. Tries that may be billed
    and bring no answer are expected as often as the run's ledger has them of this teacher, at what
    an answer is expected to cost; where it has none, none are expected. Where nothing costs
    anything, nothing is said.

    Args:
        teacher: who is to be asked.
        questions: all of them, those in the cache too.
        context: cache folder and ledger.
        limit_usd: a tighter cap than the budget.
        like: questions that are answered alike; of those, kept answers are looked at too.
        n_questions: how many there will be, where `questions` are a sample of them.
        noun: what they are called, in the plural.
        is_more: they follow on others, so that nothing is said where all are kept.
    """
    n_questions = n_questions or len(questions)
    card = teacher.card()
    left_usd = context.ledger.left_usd(limit_usd)
    nothing = Interval(0.0, 0.0, 0.0)
    if price(card, 1, 1) == 0 or not questions:
        n = n_questions
        return CostEstimate(teacher.name, n, n, nothing, nothing, nothing, left_usd)
    step = math.ceil(len(questions) / _LOOKED_UP)
    seen = questions[::step]
    known, unknown = look_up(teacher, seen, context.cache_dir)
    n_kept = round(len(known) * n_questions / len(seen))
    if like:
        known += look_up(teacher, like[:_LOOKED_UP], context.cache_dir)[0]
    unknown = [question for question in unknown if teacher.too_long(question) is None]
    what = f"teacher {teacher.name}"
    scale = n_questions / len(seen)
    if teacher.batch and unknown:
        # What an earlier run handed in is paid from what it set aside.
        scale *= max(0.0, 1 - context.ledger.batches.n_under_way(what) / (len(unknown) * scale))
    n_input = _times(_per_byte(known), sum(n_bytes(question.chat) for question in unknown) * scale)
    n_output = _answer_tokens(known, unknown, scale)
    over = context.ledger.overrun(what)
    ceilings = [most_usd(card, question.chat, question.max_tokens, over) for question in unknown]
    most = sum(ceilings) * scale
    again = _cached_share(known)

    def usd_of(n_input: float, n_output: float) -> float:
        return min(most, price(card, n_input, n_output, again * n_input))

    answers = Interval(
        usd_of(n_input.mean, n_output.mean),
        usd_of(n_input.low, n_output.low),
        usd_of(n_input.high, n_output.high),
        n_output.source,
    )
    vain = _times(_in_vain(*context.ledger.tries(what)), answers.mean)
    usd = Interval(
        answers.mean + vain.mean, answers.low + vain.low, answers.high + vain.high, answers.source
    )
    n_asked = round(len(unknown) * scale)
    estimate = CostEstimate(
        teacher=teacher.name,
        n_questions=n_questions,
        n_asked=n_asked,
        input_tokens=n_input,
        output_tokens=n_output,
        usd=usd,
        left_usd=left_usd,
        is_guess=len(known) < _ENOUGH,
        noun=noun,
        vain_usd=vain.mean,
        last_call_usd=max(0.0, max(ceilings, default=0.0) - answers.mean / max(1, n_asked)),
        n_kept=n_kept,
    )
    if n_asked:
        estimate.show(context)
    elif n_kept and not is_more:
        context.note(
            f"Teacher {teacher.name}: all {n_kept:,} {noun} are answered already; nothing is paid."
        )
    return estimate


expect_again = partial(expect, noun="cut answers to ask again", is_more=True)
"""Say what cut answers will cost that are asked again with more room; arguments as of `expect`."""
expect_longer = partial(expect, noun="questions with longer answers", is_more=True)
"""Say the same of questions that were not asked yet, where their answers may be longer."""


def _per_byte(known: Sequence[tuple[Question, Answer]]) -> Interval:
    """Return input tokens per byte of text, templates included."""
    ratios = [answer.input_tokens / max(1, n_bytes(question.chat)) for question, answer in known]
    if len(ratios) < _ENOUGH:
        return _TOKENS_PER_BYTE
    return Interval(fmean(ratios), min(ratios), max(ratios), f"{len(ratios)} kept answers")


def _cached_share(known: Sequence[tuple[Question, Answer]]) -> float:
    """Return the share of input tokens that the endpoint had read before; 0 if few answers tell."""
    if len(known) < _ENOUGH:
        return 0.0
    n_input = sum(answer.input_tokens for _, answer in known)
    return sum(answer.cached_input_tokens for _, answer in known) / max(1, n_input)


def _answer_tokens(
    known: Sequence[tuple[Question, Answer]], unknown: Sequence[Question], scale: float
) -> Interval:
    """Return output tokens of all unknown questions together."""
    if len(known) < _ENOUGH:
        return _times(_SHARE_OF_LIMIT, sum(question.max_tokens for question in unknown) * scale)
    lengths = [answer.output_tokens for _, answer in known]
    mean = fmean(lengths)
    # Both the mean that is known and the sum to come vary.
    n = max(1.0, len(unknown) * scale)
    error = 2 * stdev(lengths) * math.sqrt(1 / len(lengths) + 1 / n)
    per_answer = Interval(
        mean, max(1.0, mean - error), mean + error, f"{len(lengths)} kept answers"
    )
    return _times(per_answer, len(unknown) * scale)


def _in_vain(n_answers: int, n_unanswered: int) -> Interval:
    """Return tries that are billed and bring nothing, for each answer (a Poisson count, 95%)."""
    share = n_unanswered / max(1, n_answers)
    error = 2 / math.sqrt(max(1, n_unanswered))
    return Interval(share, share * max(0.0, 1 - error), share * (1 + error), "the run's ledger")


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(
        interval.mean * factor, interval.low * factor, interval.high * factor, interval.source
    )


# How many test items the teacher answers within money and time.
#
# The lower end of student over teacher can be no larger than the teacher's items let it: of n items
# with no right answer the teacher may still have z²/(n + z²) of all, so that no ratio above n/z²
# can be shown (33 of 128 items, 260 of 1,000).

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
    input_usd = probed.usd_per_input_token * probed.input_tokens
    usd = (input_usd + price(probed.card, 0, probed.output_tokens)) / max(1, probed.n_items)
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


def parts_in_time(items: Sequence[T], minutes: float) -> Iterator[Sequence[T]]:
    """Yield a part of the items after the other, as many as can be dealt with in the time.

    Args:
        items: in their order.
        minutes: what they may take, by the pace of the parts before. The first part, which is small
            since it may be enough, is given out in any case.
    """
    started, n_done = time.monotonic(), 0
    while n_done < len(items):
        n = _FIRST
        if n_done:
            taken_s = time.monotonic() - started
            left_s = max(0.0, 60 * minutes - taken_s)
            n = int(min(_MOST, left_s * n_done / taken_s if taken_s else _MOST))
        if not n:
            return
        yield items[n_done : n_done + n]
        n_done += n
