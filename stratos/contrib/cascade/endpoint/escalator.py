"""Ask the teacher of a cascade for one request: in time, within the money, and not while it fails.

A hosted teacher is asked through its endpoints (`teachers.endpoint`), the one with the fewest in
flight first. One that fails five times in a row is asked no more for a while (the circuit breaker
of `teachers.scheduler`), so that requests do not wait for what is down; then one request alone
finds out whether it is back.

Where an answer takes more than its ceiling, every later ceiling rises by as much, also after a
restart, and what is under way is set aside anew (as `teachers.call_budget` does it in a run).
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum
from itertools import count
from typing import cast

from typing_extensions import override

from stratos.contrib.cascade.endpoint.meter import Meter
from stratos.core.errors import StratosError
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import TOO_LONG, Answer, Billed, Question, Teacher
from stratos.teachers.call_budget import answer_usd, is_paid, most_usd, overrun_of
from stratos.teachers.endpoint import Endpoint
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.scheduler import Backend, LoadBalancer, Outcome


class Why(Enum):
    """Why a request has no answer of the teacher, as a header says it."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate-limited"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    OUT_OF_MONEY = "out-of-money"
    NO_CREDIT = "no-credit"
    """The provider says that the account has none left."""
    NOT_BOOKED = "not-booked"
    """What a call may cost could not be written down, so it was not sent."""
    BUSY = "busy"


class UnavailableError(Exception):
    """The teacher gave no answer.

    Args:
        why: for the header.
        retry_after_s: when another request may get one.
    """

    def __init__(self, why: Why, retry_after_s: float | None = None) -> None:
        super().__init__(why.value)
        self.why, self.retry_after_s = why, retry_after_s


class Purse:
    """What the calls of one teacher are paid from.

    Args:
        card: prices.
        meter: keeps dollars, limits, and by how much answers passed their ceilings.
    """

    def __init__(self, card: ModelCard, meter: Meter) -> None:
        self._card, self._meter, self._is_paid = card, meter, is_paid(card)
        self._under_way: dict[int, tuple[Question, float]] = {}
        """Calls by receipt, with the dollars that are set aside for each."""
        self._receipts = count()
        self._has_answered = False

    @property
    def is_unproved(self) -> bool:
        """Whether a limit may be passed by what a first answer takes, so that calls go alone."""
        return self._is_paid and self._meter.is_limited and not self._has_answered

    def draw(self, question: Question) -> int:
        """Set aside what a try may cost at most; return its receipt.

        Raises:
            UnavailableError: a limit does not allow it, or it cannot be written down.
        """
        most = self._most(question)
        try:
            if most and not self._meter.take(most):
                raise UnavailableError(Why.OUT_OF_MONEY)
        except OSError:
            raise UnavailableError(Why.NOT_BOOKED) from None
        receipt = next(self._receipts)
        self._under_way[receipt] = (question, most)
        return receipt

    def pay(self, receipt: int, answer: Answer | None, billed: Billed) -> None:
        """Settle a try: at the price of its answer, or at its ceiling if it may be billed."""
        question, most = self._under_way.pop(receipt)
        usd = 0.0
        if answer is not None:
            usd = answer_usd(self._card, answer)
            if answer.finish != TOO_LONG:
                self._has_answered = True
                self._learn(question, answer)
        elif billed is not Billed.NOTHING:
            usd = most
        if most:
            self._meter.pay(most, usd)

    def _learn(self, question: Question, answer: Answer) -> None:
        """Let ceilings rise if the answer passed its own; cover what is under way."""
        if not self._is_paid or not self._meter.learn(overrun_of(question, answer)):
            return
        for receipt, (asked_before, most) in self._under_way.items():
            risen = self._most(asked_before)
            self._under_way[receipt] = (asked_before, risen)
            self._meter.cover(risen - most)

    def _most(self, question: Question) -> float:
        return most_usd(self._card, question.chat, question.max_tokens, self._meter.overrun)


_FIRST_WAIT_S = 0.5
_MOST_TRIES = 3
_MOST_WAITING = 8
"""Requests that wait for a teacher in this process, which answers one at a time."""
_HELD_STATUS = 429
_UNPAID_STATUS = 402
_LONGEST_PAUSE_S = 86_400.0
"""For which a teacher's own Retry-After is kept."""


class Escalator(ABC):
    """Asks a teacher.

    Args:
        teacher: who is asked.
        meter: what it is paid from.
        max_tokens: longest answer.
        seconds: longest wait of a request.
    """

    def __init__(self, teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> None:
        self._teacher, self._meter = teacher, meter
        self._max_tokens, self._seconds = max_tokens, seconds
        self._purse = Purse(teacher.card(), meter)

    async def ask(self, chat: list[Message], max_tokens: int | None = None) -> Answer:
        """Return the teacher's answer.

        Args:
            chat: what it is asked.
            max_tokens: longest answer that the request wants; None for the teacher's own.

        Raises:
            UnavailableError: there is none in time, or no money for it.
        """
        counters = self._meter.counters
        try:
            limit = self._max_tokens if max_tokens is None else min(max_tokens, self._max_tokens)
            answer = await self._asked(Question(chat, limit))
        except UnavailableError as error:
            if error.why is Why.OUT_OF_MONEY:
                counters.out_of_money += 1
            else:
                counters.unavailable += 1
            raise
        counters.teacher_answers += 1
        counters.teacher_input_tokens += answer.input_tokens
        counters.teacher_output_tokens += answer.output_tokens
        return answer

    @abstractmethod
    async def _asked(self, question: Question) -> Answer: ...

    async def close(self) -> None:
        """End what is under way."""
        self._teacher.close()


class HostedEscalator(Escalator):
    """Asks a hosted teacher, many questions at once."""

    def __init__(
        self, teacher: OpenAITeacher, meter: Meter, max_tokens: int, seconds: float
    ) -> None:
        """Make the connections at their first use; the client, which takes seconds, is here."""
        import openai  # noqa: F401

        super().__init__(cast(Teacher, teacher), meter, max_tokens, seconds)
        asked_singly = replace(teacher, batch=False)
        self._endpoints = [Endpoint(asked_singly, url) for url in asked_singly.base_urls]
        self._balancer = LoadBalancer(
            [Backend(endpoint, proved=True) for endpoint in self._endpoints], teacher.concurrency
        )
        self._room = asyncio.Semaphore(teacher.most_at_once())
        self._alone = asyncio.Lock()
        self._why: dict[Backend, Why] = {}
        """What each endpoint that failed said last."""

    async def _asked(self, question: Question) -> Answer:
        deadline = time.monotonic() + self._seconds
        self._check_open()
        tried: list[Backend] = []
        try:
            async with asyncio.timeout(self._seconds), self._room, self._turn():
                return await self._tried(question, deadline, tried)
        except TimeoutError:
            if not tried:
                raise UnavailableError(Why.BUSY, 1.0) from None
            self._late(tried[-1])
            raise UnavailableError(Why.TIMEOUT) from None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Let one request at a time be sent until it is known what an answer takes."""
        if self._purse.is_unproved:
            async with self._alone:
                if self._purse.is_unproved:
                    yield
                    return
        yield

    def _late(self, backend: Backend) -> None:
        now = time.monotonic()
        self._why[backend] = Why.TIMEOUT
        if self._purse.is_unproved:  # those that wait for their turn would each wait as long
            backend.set_aside(now)
        else:
            backend.failed(now)

    async def _tried(self, question: Question, deadline: float, tried: list[Backend]) -> Answer:
        """Return the answer of one of a few tries, each noted in `tried` when it is sent."""
        failed_at: set[Backend] = set()
        wait_s, last = _FIRST_WAIT_S, UnavailableError(Why.UNREACHABLE)
        for _ in range(_MOST_TRIES):
            self._check_open()
            backend = self._balancer.choose(self._open(), failed_at)
            tried.append(backend)
            outcome = await self._try(backend, question)
            if outcome.answer is not None and outcome.answer.finish != TOO_LONG:
                backend.worked()
                return outcome.answer
            last = _said(outcome)
            if last.why is Why.REFUSED:
                backend.worked()
                raise last
            now = time.monotonic()
            failed_at.add(backend)
            if outcome.retry_after_s is not None:
                backend.not_before = now + outcome.retry_after_s
            self._why[backend] = last.why
            if outcome.passing:
                backend.failed(now)
            elif last.why is not Why.RATE_LIMITED:
                # Its key is refused, or it has no credit: nobody waits for that again.
                backend.set_aside(now)
            if failed_at.issuperset(self._open()):
                pause = wait_s if outcome.retry_after_s is None else outcome.retry_after_s
                if not outcome.passing or now + pause >= deadline:
                    raise last
                await asyncio.sleep(pause)
                wait_s *= 2
        raise last

    async def _try(self, backend: Backend, question: Question) -> Outcome:
        """Send one try, and pay for what it brought."""
        receipt = self._purse.draw(question)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()

        def done(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(_set, future, outcome)

        self._balancer.took_off(backend)
        cancel = backend.tries.send(question, done)
        try:
            outcome = await future
        except BaseException:  # in time, or nobody waits any more: it may be billed all the same
            cancel()
            self._purse.pay(receipt, None, Billed.MOST)
            raise
        finally:
            self._balancer.landed(backend)
        self._purse.pay(receipt, outcome.answer, outcome.billed)
        if outcome.retry_after_s is None:
            return outcome
        return replace(outcome, retry_after_s=min(_LONGEST_PAUSE_S, outcome.retry_after_s))

    def _open(self) -> list[Backend]:
        now = time.monotonic()
        # One that was set aside is tried by one request, until that has come back.
        return [
            backend for backend in self._balancer.all
            if _open_at(backend) <= now
            and (backend.back_at is None or self._balancer.is_idle(backend))
        ]  # fmt: skip

    def _check_open(self) -> None:
        """Refuse at once while every endpoint is held back.

        Raises:
            UnavailableError: it is so.
        """
        if self._open():
            return
        first = min(self._balancer.all, key=_open_at)
        wait_s = max(0.0, _open_at(first) - time.monotonic())
        if self._why.get(first) is Why.NO_CREDIT:
            raise UnavailableError(Why.NO_CREDIT, wait_s)
        is_aside = any(backend.back_at is not None for backend in self._balancer.all)
        raise UnavailableError(Why.UNREACHABLE if is_aside else Why.RATE_LIMITED, wait_s)

    @override
    async def close(self) -> None:
        for endpoint in self._endpoints:
            await asyncio.to_thread(endpoint.close)
        await super().close()


class LocalEscalator(Escalator):
    """Asks a teacher whose weights are on this machine, one question at a time."""

    def __init__(self, teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> None:
        super().__init__(teacher, meter, max_tokens, seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")
        self._n_waiting = 0

    async def _asked(self, question: Question) -> Answer:
        if self._n_waiting >= _MOST_WAITING:
            raise UnavailableError(Why.BUSY, 1.0)
        receipt = self._purse.draw(question)
        self._n_waiting += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._answer, question)
        future.add_done_callback(lambda done: self._ended(receipt, done))
        try:
            # What was begun goes on when nobody waits any more: a thread cannot be ended.
            return await asyncio.wait_for(asyncio.shield(future), self._seconds)
        except TimeoutError:
            raise UnavailableError(Why.TIMEOUT) from None
        except StratosError:
            raise UnavailableError(Why.REFUSED) from None

    def _answer(self, question: Question) -> Answer:
        return self._teacher.ask([question.chat], question.max_tokens)[0]

    def _ended(self, receipt: int, done: asyncio.Future[Answer]) -> None:
        self._n_waiting -= 1
        answer = None if done.cancelled() or done.exception() is not None else done.result()
        self._purse.pay(receipt, answer, Billed.NOTHING)

    async def close(self) -> None:
        """Wait for nothing that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def escalator(teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> Escalator:
    """Return what asks a teacher; see `Escalator`."""
    if isinstance(teacher, OpenAITeacher):
        return HostedEscalator(teacher, meter, max_tokens, seconds)
    return LocalEscalator(teacher, meter, max_tokens, seconds)


def _open_at(backend: Backend) -> float:
    return max(backend.not_before, backend.back_at or 0.0)


def _said(outcome: Outcome) -> UnavailableError:
    """Return why a try without an answer had none."""
    import openai

    error = outcome.error
    if outcome.answer is not None:
        return UnavailableError(Why.REFUSED)
    if isinstance(error, openai.APIStatusError):
        if error.status_code == _UNPAID_STATUS or error.code == "insufficient_quota":
            return UnavailableError(Why.NO_CREDIT, outcome.retry_after_s)
        if error.status_code == _HELD_STATUS:
            return UnavailableError(Why.RATE_LIMITED, outcome.retry_after_s)
        if error.status_code in (400, 413, 422):
            return UnavailableError(Why.REFUSED)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return UnavailableError(Why.TIMEOUT)
    return UnavailableError(Why.UNREACHABLE, outcome.retry_after_s)


def _set(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
