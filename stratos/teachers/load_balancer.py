"""The load balancer over endpoints: least requests in flight, with a circuit breaker for each.

One model may be served in several places. Each has a lane: it is proved by its first answer, held
back by its own `Retry-After` and rate, set aside while it keeps failing (and asked again now and
then, with one try), and left out for good where its key, model or credit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stratos.core.errors import TeacherError
from stratos.teachers.base import Answer, Billed, Question

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

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], None]:
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
    look: Callable[[Callable[[], None]], None] | None = None
    """Called at the first try: finds out by itself whether key and model are right, and then calls
    what it is given, from any thread. None where there is no such way, or it was gone."""
    trusted: bool = False
    """Whether `look` found them right, and no try has failed since."""
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
        return self.proved or self.trusted

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
            self.trusted = False

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
        left = [backend for backend in self.all if not backend.is_lost]
        return [backend for backend in left if backend.back_at is None] or left

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
        return any(not other.is_lost for other in self.all if other is not backend)

    def _openings(self) -> list[tuple[Backend, float]]:
        """Return each endpoint that has room, and when it may be sent the next try."""
        waits = any(backend.back_at is None and not backend.is_lost for backend in self.all)
        return [
            (backend, max(backend.not_before, (backend.back_at or 0.0) if waits else 0.0))
            for backend in self.all
            if not backend.is_lost
            and self._n_flying[backend] < (self.concurrency if backend.is_open else 1)
        ]
