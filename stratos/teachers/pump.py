"""Keep a bounded number of tries in flight, each paid for on its own, until all are answered."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Protocol

from stratos.errors import BudgetError, TeacherError
from stratos.teachers.base import Answer, Meter, Question

_SHORTEST_WAIT_S = 0.5
_LONGEST_WAIT_S = 20.0
_IDLE_S = 0.02
_LONGEST_LOOK_S = 5.0
"""Between two looks of the caller, however long the endpoint takes."""
LONGEST_RETRY_AFTER_S = 600.0
"""A server that wants a longer pause is taken to have failed."""


@dataclass(frozen=True)
class Outcome:
    """What came of one try."""

    answer: Answer | None = None
    error: Exception | None = None
    passing: bool = False
    """True if another try may succeed."""
    billed: bool = False
    """True if the provider may bill a try that brought no answer."""
    retry_after_s: float | None = None


class Tries(Protocol):
    """Where tries are sent."""

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], None]:
        """Start one try; `done` is called from any thread. Return what cancels it."""
        ...

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Return an error in the user's words."""
        ...


def wait_s(n_tries: int, retry_after_s: float | None, draw: Callable[[], float]) -> float:
    """Return how long to wait before the next try: exponential, with jitter, or as told.

    Args:
        n_tries: tries so far, at least 1.
        retry_after_s: what the server asks for; never undercut.
        draw: gives numbers from 0 to 1.
    """
    if retry_after_s is not None:
        return retry_after_s * (1 + 0.1 * draw())
    return float(min(_LONGEST_WAIT_S, _SHORTEST_WAIT_S * 2 ** (n_tries - 1)) * (0.5 + 0.5 * draw()))


@dataclass(order=True)
class _Call:
    due: float
    number: int
    question: Question = field(compare=False)
    n_tries: int = field(default=0, compare=False)


@dataclass
class Pump:
    """One stream of questions to one endpoint.

    Until the first answer, or until `look` says so, one try is in flight, so that a wrong key is
    tried once. After an error that no retry mends nothing more is sent, and what is under way is
    waited for. One question more is taken than there is room for, so that a slot that is freed is
    filled at once.
    """

    tries: Tries
    """Where they are sent."""
    concurrency: int
    """Tries in flight."""
    max_retries: int
    """Tries after the first."""
    meter: Meter | None = None
    """What tries are paid from; None for nothing to pay."""
    proved: bool = False
    """Whether the endpoint has answered before."""
    seconds_between: float = 0.0
    """Least time between the starts of two tries, for an endpoint that allows so many a minute."""
    look: Callable[[Callable[[], None]], None] | None = None
    """Called at the first try to an endpoint that has not answered before: finds out by itself
    whether key and model are right, and then calls what it is given, from any thread."""
    _trusted: bool = False
    """Whether `look` found them right, and no try has failed since."""
    _results: SimpleQueue[tuple[int, Outcome] | None] = field(default_factory=SimpleQueue)
    _flying: dict[int, tuple[_Call, int, Callable[[], None]]] = field(default_factory=dict)
    _later: list[_Call] = field(default_factory=list)
    """Calls that wait for their next try, the earliest first."""
    _held: _Call | None = None
    """A call for which there is no room or no money yet."""
    _stop: Exception | None = None
    _ended: bool = False
    _not_before: float = 0.0
    """When the endpoint, or its rate, allows the next try."""
    _numbers: Iterator[int] = field(default_factory=count)
    _tokens: Iterator[int] = field(default_factory=count)

    def run(
        self, questions: Iterator[Question | None]
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) as they come, and None now and then.

        Args:
            questions: taken as there is room; a None means none just now.

        Raises:
            TeacherError: a question could not be answered.
            BudgetError: the money ends; all that was under way has been yielded.
        """
        try:
            while True:
                idle = self._fill(questions)
                if not self._flying:
                    if self._stop is not None:
                        raise self._stop
                    if self._ended and not self._later and self._held is None:
                        return
                try:
                    landed = self._results.get(timeout=self._patience_s(idle))
                except Empty:
                    yield None
                    continue
                if landed is None:
                    self._trusted = True
                    continue
                answered = self._land(*landed)
                if answered is not None:
                    yield answered
        finally:
            self._give_up()

    @property
    def _is_open(self) -> bool:
        return self.proved or self._trusted

    @property
    def _room(self) -> int:
        return self.concurrency if self._is_open else 1

    def _fill(self, questions: Iterator[Question | None]) -> bool:
        """Send tries as long as there is room; return whether there is no question just now."""
        while self._stop is None and len(self._flying) < self._room:
            now = time.monotonic()
            if now < self._not_before:
                break
            if self._held is None and self._later and self._later[0].due <= now:
                self._held = heapq.heappop(self._later)
            if self._held is None and self._take(questions):
                return True
            if self._held is None or not self._send(self._held):
                break
            self._held = None
        if self._held is None and self._is_open and self._stop is None:
            self._take(questions)
        return False

    def _take(self, questions: Iterator[Question | None]) -> bool:
        """Hold the next question if there is one; return whether there is none just now."""
        # An endpoint that is down is not worked through question by question.
        crowd = 2 * self.concurrency if self._is_open else 1
        if self._ended or len(self._flying) + len(self._later) >= crowd:
            return False
        try:
            question = next(questions, _END)
        except TeacherError as error:  # one that cannot be asked
            self._stop = error
            return False
        if question is None:
            return True
        if isinstance(question, Question):
            self._held = _Call(0.0, next(self._numbers), question)
        else:
            self._ended = True
        return False

    def _send(self, call: _Call) -> bool:
        """Start a try; return whether there was money for it."""
        try:
            receipt = self.meter.draw(call.question) if self.meter is not None else 0
        except BudgetError as error:
            # What is under way mostly costs less than was set aside for it.
            if not self._flying:
                self._stop = error
            return False
        token = next(self._tokens)
        call.n_tries += 1
        self._not_before = time.monotonic() + self.seconds_between
        self._flying[token] = (
            call,
            receipt,
            self.tries.send(call.question, partial(self._done, token)),
        )
        if self.look is not None and not self.proved:
            self.look(partial(self._results.put, None))
        self.look = None
        return True

    def _done(self, token: int, outcome: Outcome) -> None:
        self._results.put((token, outcome))

    def _patience_s(self, idle: bool) -> float:
        """Return how long to wait for an outcome before there may be something to send."""
        if idle:
            return _IDLE_S
        dues = [time.monotonic() + _LONGEST_LOOK_S]
        if self._stop is None and len(self._flying) < self._room:
            if self._later and self._held is None:
                dues.append(max(self._later[0].due, self._not_before))
            elif self._not_before > time.monotonic():
                dues.append(self._not_before)
        return max(0.0, min(dues) - time.monotonic())

    def _land(self, token: int, outcome: Outcome) -> tuple[int, Answer] | None:
        """Settle a try, and put a call off that failed in passing."""
        call, receipt, _ = self._flying.pop(token)
        if self.meter is not None:
            self.meter.pay(receipt, outcome.answer, billed=outcome.billed)
        if outcome.answer is not None:
            self.proved = True
            return call.number, outcome.answer
        assert outcome.error is not None
        self._trusted = False
        if outcome.passing and call.n_tries <= self.max_retries:
            now = time.monotonic()
            call.due = now + wait_s(call.n_tries, outcome.retry_after_s, random.random)
            heapq.heappush(self._later, call)
            if outcome.retry_after_s is not None:
                # The endpoint speaks of its load, not of this question.
                self._not_before = max(self._not_before, now + outcome.retry_after_s)
        elif self._stop is None:
            self._stop = self.tries.explain(outcome.error, call.question, call.n_tries)
        return None

    def _give_up(self) -> None:
        """Cancel what is under way; it may be billed, and its money stays drawn."""
        for _, _, cancel in self._flying.values():
            cancel()
        self._flying.clear()


_END = object()
