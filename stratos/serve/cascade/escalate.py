"""Ask the teacher of a cascade for one request: in time, within the money, and not while it fails.

A hosted teacher is asked through its endpoints (`teachers.address`), the one with the fewest in
flight first. One that fails five times in a row is asked no more for a while (the circuit breaker
of `teachers.load_balancer`), so that requests do not wait for what is down.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from typing import Any, cast

from stratos.core.errors import StratosError
from stratos.serve.cascade.meter import Meter
from stratos.tasks.base import Message
from stratos.teachers.address import Address
from stratos.teachers.base import TOO_LONG, Answer, Billed, Question, Teacher
from stratos.teachers.call_budget import most_usd, price
from stratos.teachers.load_balancer import Backend, LoadBalancer, Outcome
from stratos.teachers.openai import OpenAITeacher

_FIRST_WAIT_S = 0.5
_MOST_TRIES = 3
_MOST_WAITING = 8
"""Requests that wait for a teacher in this process, which answers one at a time."""
_HELD_STATUS = 429


class Why(Enum):
    """Why a request has no answer of the teacher, as a header says it."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate-limited"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    OUT_OF_MONEY = "out-of-money"
    BUSY = "busy"


class UnavailableError(Exception):
    """The teacher gave no answer.

    Args:
        why: for the header.
        retry_after_s: when another request may get one.
    """

    def __init__(self, why: Why, retry_after_s: float | None = None) -> None:
        """Keep both."""
        super().__init__(why.value)
        self.why, self.retry_after_s = why, retry_after_s


class Escalator(ABC):
    """Asks a teacher.

    Args:
        teacher: who is asked.
        meter: what it is paid from.
        max_tokens: longest answer.
        seconds: longest wait of a request.
    """

    def __init__(self, teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> None:
        """Remember them."""
        self._teacher, self._meter = teacher, meter
        self._max_tokens, self._seconds = max_tokens, seconds
        self._card = teacher.card()

    async def ask(self, chat: list[Message]) -> Answer:
        """Return the teacher's answer.

        Raises:
            UnavailableError: there is none in time, or no money for it.
        """
        counters = self._meter.counters
        try:
            answer = await self._asked(Question(chat, self._max_tokens))
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

    def _take(self, question: Question) -> float:
        """Set aside what a try may cost at most; return that.

        Raises:
            UnavailableError: a limit does not allow it.
        """
        most = most_usd(self._card, question.chat, question.max_tokens)
        if most and not self._meter.take(most):
            raise UnavailableError(Why.OUT_OF_MONEY)
        return most

    def _pay(self, most: float, answer: Answer | None, billed: Billed) -> None:
        if answer is not None:
            usd = price(self._card, answer.input_tokens, answer.output_tokens)
        else:  # what may be billed is counted at its ceiling: a limit is never passed
            usd = 0.0 if billed is Billed.NOTHING else most
        if most:
            self._meter.pay(most, usd)


class HostedEscalator(Escalator):
    """Asks a hosted teacher, many questions at once."""

    def __init__(
        self, teacher: OpenAITeacher, meter: Meter, max_tokens: int, seconds: float
    ) -> None:
        """Make the connections at their first use; the client, which takes seconds, is here."""
        import openai  # noqa: F401

        super().__init__(cast(Teacher, teacher), meter, max_tokens, seconds)
        one = replace(teacher, batch=False)
        self._addresses = [Address(one, url) for url in one.base_urls]
        self._balancer = LoadBalancer(
            [Backend(address, proved=True) for address in self._addresses], teacher.concurrency
        )
        self._room = asyncio.Semaphore(teacher.most_at_once())

    async def _asked(self, question: Question) -> Answer:
        deadline = time.monotonic() + self._seconds
        self._check_open()
        tried: list[Backend] = []
        try:
            async with asyncio.timeout(self._seconds), self._room:
                return await self._tried(question, deadline, tried)
        except TimeoutError:
            if not tried:
                raise UnavailableError(Why.BUSY, 1.0) from None
            tried[-1].failed(time.monotonic())
            raise UnavailableError(Why.TIMEOUT) from None

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
            now = time.monotonic()
            if not outcome.passing:
                # The question is refused, or the key is: nobody waits for the latter again.
                if last.why is Why.UNREACHABLE:
                    backend.set_aside(now)
                raise last
            backend.failed(now)
            failed_at.add(backend)
            if outcome.retry_after_s is not None:
                backend.not_before = now + outcome.retry_after_s
            if not self._fresh(failed_at):
                pause = wait_s if outcome.retry_after_s is None else outcome.retry_after_s
                if now + pause >= deadline:
                    raise last
                await asyncio.sleep(pause)
                wait_s *= 2
        raise last

    async def _try(self, backend: Backend, question: Question) -> Outcome:
        """Send one try, and pay for what it brought."""
        most = self._take(question)
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
            self._pay(most, None, Billed.MOST)
            raise
        finally:
            self._balancer.landed(backend)
        self._pay(most, outcome.answer, outcome.billed)
        return outcome

    def _open(self) -> list[Backend]:
        now = time.monotonic()
        return [
            one for one in self._balancer.all
            if max(one.not_before, one.back_at or 0.0) <= now
        ]  # fmt: skip

    def _fresh(self, failed_at: set[Backend]) -> list[Backend]:
        return [one for one in self._open() if one not in failed_at]

    def _check_open(self) -> None:
        """Refuse at once while every endpoint is held back.

        Raises:
            UnavailableError: it is so.
        """
        if self._open():
            return
        now = time.monotonic()
        waits = [max(one.not_before, one.back_at or 0.0) - now for one in self._balancer.all]
        held = any(one.back_at is not None and one.back_at > now for one in self._balancer.all)
        raise UnavailableError(Why.UNREACHABLE if held else Why.RATE_LIMITED, min(waits))

    async def close(self) -> None:
        """Close the connections."""
        for address in self._addresses:
            await asyncio.to_thread(address.close)
        await super().close()


class LocalEscalator(Escalator):
    """Asks a teacher whose weights are on this machine, one question at a time."""

    def __init__(self, teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> None:
        """Load nothing yet."""
        super().__init__(teacher, meter, max_tokens, seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")
        self._n_waiting = 0

    async def _asked(self, question: Question) -> Answer:
        if self._n_waiting >= _MOST_WAITING:
            raise UnavailableError(Why.BUSY, 1.0)
        most = self._take(question)
        self._n_waiting += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._answer, question)
        future.add_done_callback(lambda done: self._ended(most, done))
        try:
            # What was begun goes on when nobody waits any more: a thread cannot be ended.
            return await asyncio.wait_for(asyncio.shield(future), self._seconds)
        except TimeoutError:
            raise UnavailableError(Why.TIMEOUT) from None
        except StratosError:
            raise UnavailableError(Why.REFUSED) from None

    def _answer(self, question: Question) -> Answer:
        return self._teacher.ask([question.chat], question.max_tokens)[0]

    def _ended(self, most: float, done: asyncio.Future[Answer]) -> None:
        self._n_waiting -= 1
        answer = None if done.cancelled() or done.exception() is not None else done.result()
        self._pay(most, answer, Billed.NOTHING)

    async def close(self) -> None:
        """Wait for nothing that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def escalator(teacher: Teacher, meter: Meter, max_tokens: int, seconds: float) -> Escalator:
    """Return what asks a teacher; see `Escalator`."""
    made: type[Any] = HostedEscalator if isinstance(teacher, OpenAITeacher) else LocalEscalator
    found: Escalator = made(teacher, meter, max_tokens, seconds)
    return found


def _said(outcome: Outcome) -> UnavailableError:
    """Return why a try without an answer had none."""
    import openai

    error = outcome.error
    if outcome.answer is not None:
        return UnavailableError(Why.REFUSED)
    if isinstance(error, openai.APIStatusError):
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
