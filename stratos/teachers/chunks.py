"""Ask teachers that answer many chats at once, in chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import msgspec

from stratos.core.counted import counted
from stratos.core.errors import BudgetError, StratosError, TeacherError
from stratos.core.money import exact_usd
from stratos.ledger import Ledger
from stratos.teachers.base import Answer, Keep, Question, Teacher
from stratos.teachers.call_budget import is_paid, most_usd, overrun_of, price

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
    n = next((i for i, (_, one) in enumerate(waiting) if one.max_tokens != longest), len(waiting))
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
    is_drawn = any(one.sample or one.temperature for one in questions)
    lacks = ""
    if any(one.top_logprobs for one in questions):
        lacks = "no log-probabilities. Ask for none"
    elif is_drawn and not teacher.draws:
        lacks = "one answer to a question, its likeliest. Ask for one sample at temperature 0"
    if lacks:
        raise TeacherError(
            f"Teacher {teacher.name} gives {lacks}, or serve the model and name the endpoint: "
            "teacher=openai teacher.base_url=…"
        )
    longest = {one.max_tokens for one in questions}
    card = teacher.card()
    usd = 0.0

    def take(index: int, answer: Answer) -> None:
        nonlocal usd
        usd += price(card, answer.input_tokens, answer.output_tokens)
        if ledger is not None:
            ledger.learn(what, overrun_of(questions[index], answer))
        put(chunk[index][0], answer)

    def ask(keep: Keep) -> None:
        if teacher.draws and (is_drawn or len(longest) > 1):
            teacher.sample(questions, keep)
        else:
            teacher.ask([question.chat for question in questions], max(longest), keep=keep)

    if ledger is None:
        ask(take)
        return
    over = ledger.overrun(what)
    most = sum(most_usd(card, one.chat, one.max_tokens, over) for one in questions)
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
