"""The request scheduler: bounded concurrency, retries with backoff, a budget for each request."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Protocol

from stratos.core.errors import BudgetError, EndpointError, OverspentError, TeacherError
from stratos.teachers.base import Answer, Billed, Meter, Question

# The load balancer over endpoints: least requests in flight, with a circuit breaker for each.
#
# One model may be served in several places. Each has a lane: it is proved by its first answer, held
# back by its own `Retry-After` and rate, set aside while it keeps failing (and asked again now and
# then, with one try), and left out for good where its key, model or credit is refused.

_REFUSED_WITHIN_S = 5.0
"""Within which an endpoint refuses a key or a model that is wrong."""
_MOST_FAILURES = 5
"""Tries in a row after whose failure an endpoint is set aside, where there is another."""
_SHORTEST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0
"""Of an endpoint that is set aside: doubled each time until it answers."""


@dataclass(frozen=True)
class Outcome:
    """What came of one try."""

    answer: Answer | None = None
    error: Exception | None = None
    """Of a try without an answer, or of one that says that the question is too long."""
    passing: bool = False
    """True if another try may succeed."""
    billed: Billed = Billed.NOTHING
    """What the provider may charge for a try that brought no answer."""
    retry_after_s: float | None = None


class Tries(Protocol):
    """Where tries are sent."""

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], object]:
        """Start one try; `done` is called from any thread. Return what cancels it."""
        ...

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Return an error in the user's words; an `EndpointError` if it is the endpoint's."""
        ...


@dataclass(eq=False)
class Backend:
    """One endpoint, and what is known of it; outlives the streams that use it."""

    tries: Tries
    """Where its tries are sent."""
    name: str = "the endpoint"
    """As it is spoken of."""
    proved: bool = False
    """Whether it answered the last that was settled; until then one try is in flight."""
    trusted_at: float = math.inf
    """When its first try will not have been refused at once, so that others may follow it: a wrong
    key or model is refused in less time than an answer may take."""
    is_lost: bool = False
    """True if it cannot be asked any more in this process."""
    not_before: float = 0.0
    """When it, or its rate, allows the next try."""
    back_at: float | None = None
    """When it may be tried again; None if it is not set aside."""
    _n_failed: int = 0
    _pause_s: float = 0.0
    _told: bool = False

    @property
    def is_open(self) -> bool:
        """Whether more than one try may be in flight."""
        return self.proved or time.monotonic() >= self.trusted_at

    def sent(self, now: float, seconds_between: float) -> None:
        """Note a try that is sent."""
        self.not_before = now + seconds_between
        self.trusted_at = min(self.trusted_at, now + _REFUSED_WITHIN_S)

    def worked(self) -> None:
        """Note an answer."""
        self.proved, self.back_at, self._n_failed, self._pause_s = True, None, 0, 0.0

    def failed(self, now: float) -> None:
        """Note a failure that may pass, and set the endpoint aside after some in a row."""
        self._n_failed += 1
        if self._n_failed >= _MOST_FAILURES:
            self.set_aside(now)

    def set_aside(self, now: float) -> None:
        """Ask it no more for a while; longer each time, but once for all tries of one moment."""
        if self.back_at is None or now >= self.back_at:
            self._pause_s = min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, 2 * self._pause_s))
            self.back_at = now + self._pause_s
            self._n_failed, self.proved = max(self._n_failed, _MOST_FAILURES), False
            self.trusted_at = math.inf

    def tell(self, why: str) -> list[str]:
        """Return what the user should know of its being left out; nothing the second time."""
        first, self._told = not self._told, True
        back = "" if self.is_lost else " It is tried again now and then."
        return [f"{why} Its questions go to the other endpoints.{back}"] if first else []


@dataclass
class LoadBalancer:
    """The endpoints of one teacher, as one stream uses them."""

    all: Sequence[Backend]
    concurrency: int
    """Tries in flight at each."""
    _n_flying: dict[Backend, int] = field(default_factory=dict)
    _n_sent: dict[Backend, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._n_flying = dict.fromkeys(self.all, 0)
        self._n_sent = dict.fromkeys(self.all, 0)

    @property
    def usable(self) -> list[Backend]:
        """Those that may be asked: all that are not set aside, or, if none is left, those too."""
        alive = [backend for backend in self.all if not backend.is_lost]
        return [backend for backend in alive if backend.back_at is None] or alive

    @property
    def most_waiting(self) -> int:
        """Calls that are worth taking up: an endpoint that is down is not worked through."""
        return sum(
            2 * self.concurrency if backend.is_open else 1
            for backend in self.all
            if not backend.is_lost
        )

    @property
    def is_open(self) -> bool:
        """Whether an endpoint has shown that it answers."""
        return any(backend.is_open for backend in self.all if not backend.is_lost)

    def free(self, now: float) -> list[Backend]:
        """Return the endpoints to which a try may be sent now."""
        return [backend for backend, when in self._openings() if when <= now]

    def free_at(self) -> float | None:
        """Return when the next endpoint with room may be sent a try; None if none has room."""
        return min((when for _, when in self._openings()), default=None)

    def suit(self, free: Sequence[Backend], failed_at: Container[Backend], now: float) -> bool:
        """Return whether a call has no better endpoint to wait for than the free ones."""
        fresh = [
            backend
            for backend in self.usable
            if backend not in failed_at and backend.not_before <= now
        ]
        return not fresh or any(backend in free for backend in fresh)

    def choose(self, free: Sequence[Backend], failed_at: Container[Backend]) -> Backend:
        """Return the free endpoint with the fewest in flight, rather where a call has not failed.

        Equal ones take turns.
        """
        fresh = [backend for backend in free if backend not in failed_at] or free
        return min(fresh, key=lambda backend: (self._n_flying[backend], self._n_sent[backend]))

    def took_off(self, backend: Backend) -> None:
        """Count a try that is sent."""
        self._n_flying[backend] += 1
        self._n_sent[backend] += 1

    def landed(self, backend: Backend) -> None:
        """Count a try that came back."""
        self._n_flying[backend] -= 1

    def is_idle(self, backend: Backend) -> bool:
        """Return whether nothing is in flight at an endpoint."""
        return not self._n_flying[backend]

    def has_others(self, backend: Backend) -> bool:
        """Return whether another endpoint is left, set aside or not."""
        return any(not peer.is_lost for peer in self.all if peer is not backend)

    def _openings(self) -> list[tuple[Backend, float]]:
        """Return each endpoint that has room, and when it may be sent the next try."""
        waits = any(backend.back_at is None and not backend.is_lost for backend in self.all)
        openings = []
        for backend in self.all:
            n_flying = self._n_flying[backend]
            if backend.is_lost or n_flying >= self.concurrency:
                continue
            when = max(backend.not_before, (backend.back_at or 0.0) if waits else 0.0)
            if n_flying and not backend.proved:
                when = max(when, backend.trusted_at)
            openings.append((backend, when))
        return openings


_SHORTEST_WAIT_S = 0.5
_LONGEST_WAIT_S = 20.0
_IDLE_S = 0.02
_LONGEST_LOOK_S = 5.0
"""Between two looks of the caller, however long the endpoint takes."""
LONGEST_RETRY_AFTER_S = 600.0
"""A server that wants a longer pause is taken to have failed."""


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
    """Rounds through the endpoints that answer."""
    failed_at: set[Backend] = field(default_factory=set, compare=False)
    """Endpoints of the present round."""


@dataclass
class Scheduler:
    """One stream of questions to the endpoints of one teacher.

    Until the first answer of an endpoint, or until its first try has not been refused for a while,
    one try is in flight there, so that a wrong key is tried once. A try that fails in passing goes
    to the next endpoint at once; only when all that answer have failed does it wait, and count as a
    try of the question. After an error that no retry and no other endpoint mends nothing more is
    sent, and what is under way is waited for. One question more is taken than there is room for, so
    that a slot that is freed is filled at once.
    """

    endpoints: Sequence[Backend]
    """Where tries are sent."""
    concurrency: int
    """Tries in flight at each endpoint."""
    max_retries: int
    """Tries after the first."""
    meter: Meter | None = None
    """What tries are paid from; None for nothing to pay."""
    seconds_between: float = 0.0
    """Least time between the starts of two tries at one endpoint that allows so many a minute."""
    warn: Callable[[str], None] = lambda text: None
    """Told of each endpoint that is set aside or left out, once."""
    _results: SimpleQueue[tuple[int, Outcome]] = field(default_factory=SimpleQueue)
    _flying: dict[int, tuple[_Call, Backend, int, Callable[[], object]]] = field(
        default_factory=dict
    )
    _later: list[_Call] = field(default_factory=list)
    """Calls that wait for their next try, the earliest first."""
    _held: _Call | None = None
    """A call for which there is no room or no money yet."""
    _stop: Exception | None = None
    _is_over: bool = False
    """True if the budget is passed: what is under way is given up."""
    _ended: bool = False
    _told_of_length: bool = False
    _numbers: Iterator[int] = field(default_factory=count)
    _tokens: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._balancer = LoadBalancer(self.endpoints, self.concurrency)

    def run(
        self, questions: Iterator[Question | None]
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) as they come, and None now and then.

        Args:
            questions: taken as there is room; a None means none just now.

        Raises:
            TeacherError: a question could not be answered.
            BudgetError: the money ends; all that was under way has been yielded.
            OverspentError: answers took more than was set aside; what was under way is given up.
        """
        try:
            while True:
                idle = self._fill(questions)
                if self._is_over and self._results.empty():
                    self._give_up()
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
                answered = self._land(*landed)
                if answered is not None:
                    yield answered
        finally:
            self._give_up()

    def _fill(self, questions: Iterator[Question | None]) -> bool:
        """Send tries as long as there is room; return whether there is no question just now."""
        while self._stop is None:
            now = time.monotonic()
            free = self._balancer.free(now)
            if not free:
                break
            if self._held is None:
                self._held = self._due(free, now)
            if self._held is None and self._take(questions):
                return True
            if self._held is None or not self._send(
                self._held, self._balancer.choose(free, self._held.failed_at)
            ):
                break
            self._held = None
        if self._held is None and self._stop is None and self._balancer.is_open:
            self._take(questions)
        return False

    def _take(self, questions: Iterator[Question | None]) -> bool:
        """Hold the next question if there is one; return whether there is none just now."""
        if self._ended or len(self._flying) + len(self._later) >= self._balancer.most_waiting:
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

    def _due(self, free: Sequence[Backend], now: float) -> _Call | None:
        """Take the call that has waited longest of those that may be tried at a free endpoint."""
        if not self._later or self._later[0].due > now:
            return None
        if self._balancer.suit(free, self._later[0].failed_at, now):
            return heapq.heappop(self._later)
        for call in sorted(self._later):
            if call.due > now:
                break
            if self._balancer.suit(free, call.failed_at, now):
                self._later.remove(call)
                heapq.heapify(self._later)
                return call
        return None

    def _send(self, call: _Call, backend: Backend) -> bool:
        """Start a try; return whether there was money for it."""
        try:
            receipt = self.meter.draw(call.question) if self.meter is not None else 0
        except BudgetError as error:
            # What is under way mostly costs less than was set aside for it.
            if not self._flying:
                self._stop = error
            return False
        token = next(self._tokens)
        cancel = backend.tries.send(call.question, partial(self._done, token))
        backend.sent(time.monotonic(), self.seconds_between)  # a first one loads the client
        self._balancer.took_off(backend)
        self._flying[token] = call, backend, receipt, cancel
        return True

    def _done(self, token: int, outcome: Outcome) -> None:
        self._results.put((token, outcome))

    def _patience_s(self, idle: bool) -> float:
        """Return how long to wait for an outcome before there may be something to send."""
        if idle:
            return _IDLE_S
        now = time.monotonic()
        due = now + _LONGEST_LOOK_S
        free_at = self._balancer.free_at() if self._stop is None else None
        if free_at is not None:
            if free_at > now:
                due = min(due, free_at)
            elif self._later and self._held is None:
                due = min(due, self._later[0].due)
        return max(0.0, due - now)

    def _land(self, token: int, outcome: Outcome) -> tuple[int, Answer] | None:
        """Settle a try, and put a call off that failed."""
        call, backend, receipt, _ = self._flying.pop(token)
        self._balancer.landed(backend)
        if self.meter is not None:
            try:
                self.meter.pay(receipt, outcome.answer, outcome.billed)
            except OverspentError as passed:
                self._stop, self._is_over = passed, True
        if outcome.answer is not None:
            backend.worked()
            if outcome.error is not None and self._has_more_room(call, backend, outcome.error):
                return None
            return call.number, outcome.answer
        assert outcome.error is not None
        backend.trusted_at = math.inf
        if outcome.passing:
            self._put_off(call, backend, outcome, outcome.error)
            return None
        error = backend.tries.explain(outcome.error, call.question, call.n_tries + 1)
        if isinstance(error, EndpointError) and self._balancer.has_others(backend):
            backend.is_lost = True
            self._say(backend, str(error))
            heapq.heappush(self._later, call)
        elif self._stop is None:
            self._stop = error
        return None

    def _has_more_room(self, call: _Call, backend: Backend, error: Exception) -> bool:
        """Return whether another endpoint is to be asked what passes this one's context."""
        call.failed_at.add(backend)
        if any(backend_ not in call.failed_at for backend_ in self._balancer.usable):
            call.due = time.monotonic()
            heapq.heappush(self._later, call)
            return True
        if not self._told_of_length:
            self._told_of_length = True
            why = backend.tries.explain(error, call.question, call.n_tries + 1)
            self.warn(f"{why} It counts as not answered.")
        return False

    def _put_off(self, call: _Call, backend: Backend, outcome: Outcome, error: Exception) -> None:
        """Put off a call whose try failed in passing: to the next endpoint, or to a later time."""
        now = time.monotonic()
        if outcome.retry_after_s is not None:
            # The endpoint speaks of its load, not of this question.
            backend.not_before = max(backend.not_before, now + outcome.retry_after_s)
        if self._balancer.has_others(backend):
            backend.failed(now)
            if backend.back_at is not None:
                reason = str(error).strip() or type(error).__name__
                self._say(
                    backend, f"{backend.name} keeps failing ({reason.splitlines()[0][:200]})."
                )
        call.due = now
        is_first = backend not in call.failed_at
        call.failed_at.add(backend)
        if not is_first or all(peer in call.failed_at for peer in self._balancer.usable):
            call.failed_at.clear()
            call.n_tries += 1
            if call.n_tries > self.max_retries:
                self._stop = self._stop or backend.tries.explain(error, call.question, call.n_tries)
                return
            # Of several endpoints each is held back by its own word.
            told_s = None if self._balancer.has_others(backend) else outcome.retry_after_s
            call.due = now + wait_s(call.n_tries, told_s, random.random)
        heapq.heappush(self._later, call)

    def _say(self, backend: Backend, why: str) -> None:
        for text in backend.tell(why):
            self.warn(text)

    def _give_up(self) -> None:
        """Cancel what is under way; it may be billed, and its money stays drawn."""
        for _, backend, _, cancel in self._flying.values():
            cancel()
            self._balancer.landed(backend)
        self._flying.clear()


_END = object()
