"""Ask a teacher within the budget: cached answers first, every new answer is kept.

A reorder buffer gives the answers in question order, with bounded memory. Questions are taken as
the teacher has room for them. What the cache knows is not asked; equal questions are asked once;
one that another process is asking is waited for.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count

import msgspec

from stratos.core.context import Context
from stratos.core.errors import BudgetError, OverspentError, StratosError, TeacherError
from stratos.core.formats import counted, exact_usd
from stratos.core.reasons import Reason
from stratos.ledger import Ledger
from stratos.records import ModelCard
from stratos.teachers.base import (
    TOO_LONG,
    WINDOW,
    Answer,
    Keep,
    Question,
    SignalKind,
    Teacher,
    Tick,
)
from stratos.teachers.cache import AnswerCache, KeptAnswers, question_key
from stratos.teachers.call_budget import (
    CallBudget,
    answer_usd,
    is_paid,
    most_usd,
    overrun_of,
    price,
)
from stratos.teachers.words import BeyondEndpoint, NotRead

# Ask teachers that answer many chats at once, in chunks.

_CHUNK = 1024
"""Chats handed over at once: enough to sort them into even batches."""
_PAID_CHUNK = 256
"""Paid chats for which money is set aside at once; fewer where less money is left."""
_WAIT_SECONDS = 0.02


def ask_in_chunks(
    teacher: Teacher,
    questions: Iterator[Question | None],
    put: Callable[[int, Answer], None],
    *,
    ledger: Ledger,
    what: str,
    limit_usd: float | None,
) -> Generator[None, None, None]:
    """Put answers as they come; yield after each chunk, and where there is none just now.

    Args:
        teacher: who is asked.
        questions: taken as far as there are any, up to a chunk.
        put: takes (number of the question, answer) at once.
        ledger: where what a chunk may cost is set aside.
        what: named in its lines.
        limit_usd: a tighter cap than the budget.

    Raises:
        BudgetError: the money does not suffice for one more chat.
        OverspentError: answers took more than was set aside for them, and the budget is passed.
        TeacherError: the teacher failed, or cannot draw samples.
    """
    paid = is_paid(teacher.card())
    most = _PAID_CHUNK if paid else _CHUNK
    waiting: list[tuple[int, Question]] = []
    number, ended, size = 0, False, most
    while True:
        idle = False
        while len(waiting) < most and not ended and not idle:
            question = next(questions, _END)
            if question is None:
                idle = True
            elif isinstance(question, Question):
                waiting.append((number, question))
                number += 1
            else:
                ended = True
        if not waiting:
            if ended:
                return
            time.sleep(_WAIT_SECONDS)
            yield
            continue
        chunk = waiting[:size] if teacher.draws else _alike(waiting, size)
        try:
            _ask(teacher, chunk, put, ledger if paid else None, what, limit_usd)
        except BudgetError:
            if len(chunk) == 1:
                raise
            size = len(chunk) // 2
            continue
        del waiting[: len(chunk)]
        yield


_END = object()


def _alike(waiting: list[tuple[int, Question]], size: int) -> list[tuple[int, Question]]:
    """Return the first questions that one call can ask: `Teacher.ask` takes one longest answer."""
    longest = waiting[0][1].max_tokens
    n = next(
        (i for i, (_, question) in enumerate(waiting) if question.max_tokens != longest),
        len(waiting),
    )
    return waiting[: min(n, size)]


def _ask(
    teacher: Teacher,
    chunk: list[tuple[int, Question]],
    put: Callable[[int, Answer], None],
    ledger: Ledger | None,
    what: str,
    limit_usd: float | None,
) -> None:
    questions = [question for _, question in chunk]
    is_drawn = any(question.sample or question.temperature for question in questions)
    if is_drawn and not teacher.draws:
        raise TeacherError(
            f"Teacher {teacher.name} gives one answer to a question, its likeliest. Ask for one "
            "sample at temperature 0, or serve the model and name the endpoint: teacher=openai "
            "teacher.base_url=…"
        )
    longest = {question.max_tokens for question in questions}
    card = teacher.card()
    usd = 0.0

    def take(index: int, answer: Answer) -> None:
        nonlocal usd
        usd += answer_usd(card, answer)
        if ledger is not None:
            ledger.learn(what, overrun_of(questions[index], answer))
        put(chunk[index][0], answer)

    def ask(keep: Keep) -> None:
        delivered = set[int]()

        def note(index: int, answer: Answer) -> None:
            delivered.add(index)
            keep(index, answer)

        if teacher.draws and (is_drawn or len(longest) > 1):
            answers = teacher.sample(questions, note)
        else:
            answers = teacher.ask(
                [question.chat for question in questions], max(longest), keep=note
            )
        # Those that it did not hand over as soon as they were there.
        for index, answer in enumerate(answers[: len(questions)]):
            if index not in delivered:
                note(index, answer)
        n = max(len(answers), len(delivered))
        if n != len(questions):
            raise TeacherError(
                f"Teacher {teacher.name} gave {counted(n, 'answer')} to "
                f"{counted(len(questions), 'question')}."
            )

    if ledger is None:
        ask(take)
        return
    over = ledger.overrun(what)
    most = sum(most_usd(card, question.chat, question.max_tokens, over) for question in questions)
    with ledger.reserve(what, most, limit_usd) as reservation:

        def show(index: int, answer: Answer) -> None:
            take(index, answer)
            reservation.usd_so_far = usd

        try:
            ask(show)
        except StratosError:
            # Calls that the provider refused are not billed. After any other error calls may
            # still be under way, and the whole reservation counts as spent.
            reservation.settle(usd)
            raise
        reservation.settle(usd, **msgspec.structs.asdict(ledger.overrun(what)))
    if usd > most:
        ledger.check_passed(
            f"{what[:1].upper()}{what[1:]} took {exact_usd(usd)} for "
            f"{counted(len(chunk), 'question')}, and {exact_usd(most)} was the most.",
            limit_usd,
        )


def ask_questions(
    teacher: Teacher,
    questions: Sequence[Question],
    context: Context,
    *,
    tick: Tick | None = None,
    limit_usd: float | None = None,
) -> list[Answer]:
    """Answer questions in the order given, asking the teacher only what nobody asked it before.

    What a paid teacher may cost at most is set aside in the ledger before it is asked, and settled
    at the price of the tokens that were used. Answers that came before an error are kept. Where the
    money ends, the answers up to there are returned, with a warning; who asks foretells the cost of
    the whole with `expect`.

    Args:
        teacher: who is asked.
        questions: equal ones are asked once.
        context: of the stage: cache folder, ledger, warnings.
        tick: called with (done, total).
        limit_usd: a tighter cap than the budget.

    Raises:
        TeacherError: the teacher failed.
    """
    answers: list[Answer] = []
    asking = stream_ask(teacher, questions, context, tick=tick, limit_usd=limit_usd)
    try:
        with closing(asking):
            answers.extend(asking)
    except BudgetError as error:
        n_left = len(questions) - len(answers)
        context.ledger.cut(limit_usd)
        context.warn(
            f"Teacher {teacher.name} was asked {counted(n_left, 'question')} less: {error}"
        )
    return answers


def stream_ask(
    teacher: Teacher,
    questions: Iterable[Question],
    context: Context,
    *,
    tick: Tick | None = None,
    limit_usd: float | None = None,
) -> Generator[Answer, None, None]:
    """Yield the answer to each question in order, as `ask_questions`, holding a window of them.

    Questions are taken while answers are consumed, so that a million of them need no more memory
    than a thousand. Close the iterator to stop: what is under way is given up and counted at its
    ceiling, and what was answered is kept.

    Args:
        teacher: who is asked.
        questions: taken one by one.
        context: of the stage: cache folder, ledger, warnings.
        tick: called with (done, total); the total is 0 where it is not known.
        limit_usd: a tighter cap than the budget.

    Raises:
        BudgetError: the money ends; all answers before the first that is missing were yielded.
        OverspentError: answers took more than was set aside for them, and the budget is passed.
        TeacherError: the teacher failed.
    """
    total = len(questions) if isinstance(questions, Sequence) else 0
    also = None
    if context.answers_dir is not None and teacher.signal is not SignalKind.WEIGHTS:
        also = KeptAnswers(context.answers_dir, context.warn)
    cache = AnswerCache(context.cache_dir, context.warn, teacher.cache, also)
    window = ReorderBuffer(
        questions,
        teacher.identities(),
        cache,
        teacher.window,
        teacher.too_long,
    )

    def put(number: int, answer: Answer) -> None:
        window.put(number, answer)
        if tick is not None:
            tick(window.n_known, total)

    events = _events(teacher, window, put, context, limit_usd)
    try:
        with closing(events):
            while not window.is_done:
                try:
                    next(events, None)
                except BudgetError:
                    yield from window.answers()
                    raise
                yield from window.answers()
        if tick is not None:
            tick(window.n_known, total)
    finally:
        cache.close()


def stream_down(
    teachers: Sequence[Teacher],
    questions: Sequence[Question],
    context: Context,
    *,
    tick: Tick | None = None,
) -> Generator[tuple[Teacher, Answer], None, None]:
    """Yield (who answered, answer) in order; where the money of one ends, the next goes on.

    Args:
        teachers: the first is asked as long as there is money for it; see `going_down`.
        questions: all of them.
        context: of the stage: cache folder, ledger, warnings.
        tick: called with (done, total).

    Raises:
        BudgetError: the money does not suffice for the last teacher either.
        TeacherError: a teacher failed.
    """
    n_done = 0
    for teacher, lower in zip(teachers, [*teachers[1:], None], strict=True):

        def tell(done: int, total: int, before: int = n_done) -> None:
            if tick is not None:
                tick(before + done, len(questions))

        try:
            with closing(stream_ask(teacher, questions[n_done:], context, tick=tell)) as asking:
                for answer in asking:
                    n_done += 1
                    yield teacher, answer
            return
        except BudgetError as error:
            if lower is None:
                raise
            context.ledger.cut()
            context.warn(
                f"Teacher {lower.name} goes on with {len(questions) - n_done:,} of "
                f"{counted(len(questions), 'question', spec=',')}: {error}"
            )


def going_down(first: Teacher, teachers: Sequence[Teacher]) -> list[Teacher]:
    """Return a teacher, and those behind it that cost less and can be asked, the dearest first."""
    prices = {id(teacher): price(teacher.card(), 1, 1) for teacher in (first, *teachers)}
    lower = [teacher for teacher in teachers if prices[id(teacher)] < prices[id(first)]]
    lower = [teacher for teacher in lower if teacher.unreachable() is None]
    return [first, *sorted(lower, key=lambda teacher: -prices[id(teacher)])]


def unread(
    teacher: Teacher, questions: Iterable[Question], answers: Iterable[Answer]
) -> NotRead | None:
    """Return that a teacher could not read some questions; None if it read all."""
    pairs = list(zip(questions, answers, strict=False))
    left_out = [question for question, answer in pairs if answer.finish == TOO_LONG]
    if not left_out:
        return None
    why = teacher.too_long(left_out[0])
    why = why or BeyondEndpoint(left_out[0].about)
    return NotRead(teacher.name, len(left_out), len(pairs), why)


def cost_usd(card: ModelCard, answers: Sequence[Answer]) -> float:
    """Return what answers cost at the prices of a card; those from the cache cost nothing."""
    return sum(answer_usd(card, answer) for answer in answers if not answer.cached)


def _events(
    teacher: Teacher,
    window: ReorderBuffer,
    put: Callable[[int, Answer], None],
    context: Context,
    limit_usd: float | None,
) -> Generator[None, None, None]:
    """Put answers as they come, from a teacher of either kind; yield whenever some may be there."""
    card = teacher.card()
    what = f"teacher {teacher.name}"
    if not teacher.streams:
        yield from ask_in_chunks(
            teacher, window.questions(), put, ledger=context.ledger, what=what, limit_usd=limit_usd
        )
        return
    call_budget = CallBudget(context.ledger, what, card, limit_usd) if is_paid(card) else None
    try:
        for event in teacher.stream(window.questions(), call_budget):
            if event is not None:
                put(*event)
                if call_budget is not None and event[1].is_estimated:
                    context.warn(_without_usage(teacher))
            _tell(teacher, call_budget, context)
            yield
    except OverspentError as error:
        if call_budget is not None:
            call_budget.close()  # what was under way is settled by now, and may have cost less
        context.ledger.check_passed(error.why, limit_usd)
        raise BudgetError(f"{error.why} No money is left for more.") from error
    finally:
        _tell(teacher, call_budget, context)
        if call_budget is not None:
            call_budget.close()


def _without_usage(teacher: Teacher) -> str:
    return (
        f"Teacher {teacher.name}: its endpoint does not tell how many tokens an answer took, or "
        "tells 0. They are counted from the bytes, which are more: a text of 4 bytes a token "
        "counts four times. Reasoning that it does not show cannot be counted: if the model "
        "reasons, what is billed may be more, up to the longest answer each time."
    )


def _tell(teacher: Teacher, call_budget: CallBudget | None, context: Context) -> None:
    """Hand on what a teacher has to say of itself, such as an endpoint that is left out."""
    for complaint in teacher.complaints():
        context.warn(complaint)
    while call_budget is not None and call_budget.complaints:
        context.warn(call_budget.complaints.pop(0))


_POLL_SECONDS = 0.1
"""Between two looks for answers of other processes."""


class ReorderBuffer:
    """Between a stream of questions and a teacher that answers them in any order."""

    def __init__(
        self,
        questions: Iterable[Question],
        identities: Sequence[str],
        cache: AnswerCache,
        size: int = WINDOW,
        refuses: Callable[[Question], Reason | None] = lambda question: None,
    ) -> None:
        """Hold nothing yet.

        Args:
            questions: taken one by one.
            identities: of the teacher, at least one.
            cache: where answers are found and kept.
            size: questions held from the oldest without an answer to the newest taken.
            refuses: why a question cannot be asked, if it cannot; see `Bounded`.
        """
        self.n_known = 0
        """Questions taken so far whose answer is there."""
        self._source = iter(questions)
        self._identity, *self._others = cache.same(identities)
        self._cache = cache
        self._size, self._refuses = size, refuses
        self._order: deque[str] = deque()
        self._n_waiting: Counter[str] = Counter()
        self._ready: dict[str, Answer] = {}
        self._asked: dict[int, str] = {}
        self._numbers = count()
        self._foreign: dict[str, Question] = {}
        self._next_poll = 0.0
        self._ended = False

    @property
    def is_done(self) -> bool:
        """True if every question has been taken and its answer handed on."""
        return self._ended and not self._order

    def questions(self) -> Iterator[Question | None]:
        """Yield what has to be asked; None where there is nothing just now."""
        while True:
            self._cache.renew()
            if (question := self._freed()) is not None:
                yield question
                continue
            if self._ended:
                if not self._foreign:
                    return
                yield None
                continue
            if len(self._order) >= self._size:
                yield None
                continue
            question = next(self._source, None)
            if question is None:
                self._ended = True
            elif self._take(question):
                yield question

    def put(self, number: int, answer: Answer) -> None:
        """Take and keep the answer to the question that was yielded as `number`."""
        key = self._asked.pop(number)
        if answer.finish != TOO_LONG:  # the same model may be served with a longer context
            self._cache.put(key, answer)
        self._settle(key, answer)

    def answers(self) -> Iterator[Answer]:
        """Yield the answers that are there, in order, up to the first that is not."""
        while self._order and self._order[0] in self._ready:
            key = self._order.popleft()
            answer = self._ready[key]
            self._n_waiting[key] -= 1
            if self._n_waiting[key]:
                # An answer is paid for where it first occurs; an equal question is free.
                self._ready[key] = replace(answer, cached=True)
            else:
                del self._n_waiting[key], self._ready[key]
            yield answer

    def _take(self, question: Question) -> bool:
        """Add a question to the order; return whether it has to be asked."""
        key = question_key(self._identity, question)
        self._order.append(key)
        self._n_waiting[key] += 1
        if self._n_waiting[key] > 1:
            self.n_known += key in self._ready
            return False
        if self._found(key, question):
            return False
        if self._refuses(question) is not None:
            self._settle(key, Answer("", 0, 0, 0.0, finish=TOO_LONG))
            return False
        if not self._cache.claim(key):
            self._foreign[key] = question
            return False
        # Another process may have answered between the look and the claim.
        if self._found(key, question):
            return False
        self._asked[next(self._numbers)] = key
        return True

    def _freed(self) -> Question | None:
        """Return a question that another process gave up, if there is one."""
        if not self._foreign or time.monotonic() < self._next_poll:
            return None
        self._next_poll = time.monotonic() + _POLL_SECONDS
        for key, question in list(self._foreign.items()):
            if self._found(key, question):
                del self._foreign[key]
            elif self._cache.claim(key):
                del self._foreign[key]
                if not self._found(key, question):
                    self._asked[next(self._numbers)] = key
                    self._next_poll = 0.0
                    return question
        return None

    def _found(self, key: str, question: Question) -> bool:
        """Take the answer that is kept under any identity of the teacher, if there is one."""
        keys = [key, *(question_key(identity, question) for identity in self._others)]
        answer = next(iter(self._cache.get(keys).values()), None)
        if answer is None:
            return False
        self._settle(key, replace(answer, cached=True))
        return True

    def _settle(self, key: str, answer: Answer) -> None:
        self._ready[key] = answer
        self.n_known += self._n_waiting[key]
