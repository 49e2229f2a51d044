"""The batch API: questions in one batch at a lower price, answered within a day.

Every request of a batch bears the address of its answer as its id, and every batch the address of
its teacher. So whoever asks next finds what is under way, although the process that handed it in
was killed, waits for it instead of paying again, and settles it at its price.

What costs nothing is tried again by the OpenAI client itself. A batch is created once: where the
answer to that is lost, it is looked for by its metadata and its file before another is created,
since a second one would be paid a second time.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from stratos.core.errors import BudgetError, OverspentError, TeacherError
from stratos.core.formats import counted
from stratos.teachers.base import TOO_LONG, Answer, Billed, Meter, Question
from stratos.teachers.cache import question_key
from stratos.teachers.reply import (
    Garbled,
    ImplausibleUsage,
    RedirectError,
    says_too_long,
    sort,
    to_answer,
)
from stratos.teachers.scheduler import wait_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from stratos.teachers.endpoint import Endpoint
    from stratos.teachers.openai_settings import OpenAISettings


SHORTEST_POLL_S = 1.0
"""Between two looks at a batch that was handed in just now."""


@dataclass(slots=True)
class Call:
    """One question of a batch."""

    number: int | None
    """Of the question; None for one of an earlier run that nobody asks now."""
    key: str
    line: bytes
    """What asks it, in the file of its batch."""
    max_tokens: int
    receipt: int | None = None
    """What it is paid from; None for one that an earlier run paid."""
    n_tries: int = 0

    @property
    def question(self) -> Question:
        """Return what it asks, as far as its price and its answer depend on it."""
        return Question(json.loads(self.line)["body"]["messages"], self.max_tokens)


@dataclass
class Batch:
    """Calls that are handed in together."""

    id: str = ""
    calls: deque[Call] = field(default_factory=deque)
    n_bytes: int = 0
    nonce: str = ""
    """By which the ledger knows it."""
    since: float = field(default_factory=time.monotonic)
    n_wanted: int = 0
    """Calls whose answer is waited for."""
    is_new: bool = True
    """True if nobody has looked at it yet."""
    poll_s: float = SHORTEST_POLL_S
    next_poll: float = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether there is a reason to wait for it."""
        return self.is_new or self.n_wanted > 0

    def add(self, call: Call) -> None:
        """Add a call whose answer is waited for."""
        self.calls.append(call)
        self.n_bytes += len(call.line)
        self.n_wanted += 1


TEACHER, NONCE = "stratos_teacher", "stratos_batch"
"""Metadata of a batch: whose it is, and which."""
_TRANSFER_S = 1800.0
"""Longest time for a file of a batch, up or down."""
_KEPT_SECONDS = 29 * 86_400.0
"""How long providers keep the answers of a batch."""
_WINDOW_S = 25 * 3600.0
"""How long a batch is looked at: the window in which it is answered, and an hour."""
_LIST_S = 180.0
"""Longest time for the list of batches."""
_RETRIES = 24
"""Tries after the first of what costs nothing: about three minutes."""
_APPEARS_S = 60.0
"""How long a new batch may be unknown to its provider."""
_LOOKS_S = (0.0, 1.0, 3.0)
"""Pauses before each look for a batch whose creation was cut."""
_NO_LIST = frozenset((400, 404, 405, 501))


class BatchApi:
    """The batches of one teacher at one endpoint.

    Args:
        teacher: whose batches they are.
        endpoint: where they are.
        warn: told of what fails in passing and goes on.
    """

    def __init__(
        self, teacher: OpenAISettings, endpoint: Endpoint, warn: Callable[[str], None]
    ) -> None:
        self._teacher, self._endpoint, self._warn = teacher, endpoint, warn
        self._tag = hashlib.sha256(teacher.identity().encode()).hexdigest()[:32]
        self._is_told = False

    def upload(self, lines: bytes) -> str:
        """Hand the lines of a batch over; return the name of their file."""

        async def make(client: AsyncOpenAI) -> str:
            uploaded = await client.files.create(file=("questions.jsonl", lines), purpose="batch")
            return uploaded.id

        return self._endpoint.call(make, _TRANSFER_S, _RETRIES)

    def create(self, file_id: str, nonce: str) -> str:
        """Create a batch of a file, once; return its id."""

        async def make(client: AsyncOpenAI) -> str:
            created = await client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={TEACHER: self._tag, NONCE: nonce},
            )
            return created.id

        n_tries = 0
        while True:
            n_tries += 1
            try:
                return self._endpoint.call(make, self._teacher.timeout_s)
            except Exception as error:
                outcome = sort(error)
                if not outcome.passing:
                    raise
                if created := self._created(file_id, nonce):
                    return created
                if n_tries > self._teacher.max_retries:
                    raise
                time.sleep(wait_s(n_tries, outcome.retry_after_s, random.random))

    def look(self, id_: str, seconds: float) -> Any | None:
        """Return what the provider says of a batch; None if it could not be asked just now.

        Args:
            id_: of the batch.
            seconds: how long it has been there.
        """

        async def make(client: AsyncOpenAI) -> Any:
            return await client.batches.retrieve(id_)

        try:
            return self._endpoint.call(make, self._teacher.timeout_s)
        except Exception as error:
            is_new = getattr(error, "status_code", None) == 404 and seconds < _APPEARS_S
            if not (sort(error).passing or is_new) or seconds > _WINDOW_S:
                raise
            self._say(error)
            return None

    def answers(self, batch: Any) -> dict[str, bytes] | None:
        """Return the answers of a batch that ended; None if they could not be fetched just now."""
        try:
            return self.lines(batch.output_file_id, batch.error_file_id)
        except Exception as error:
            if not sort(error).passing:
                raise
            self._say(error)
            return None

    def lines(self, *file_ids: str | None) -> dict[str, bytes]:
        """Return the lines of some of a batch's files by the id that stands in each.

        One that is torn is left out.
        """
        lines: dict[str, bytes] = {}
        for id_ in file_ids:
            if id_ is None:
                continue

            async def make(client: AsyncOpenAI, id_: str = id_) -> bytes:
                return (await client.files.content(id_)).content

            for line in self._endpoint.call(make, _TRANSFER_S, _RETRIES).splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    lines[str(json.loads(line)["custom_id"])] = line
        return lines

    def earlier(self) -> list[Any]:
        """Return the batches that earlier runs created, the newest first; none without a list."""
        import openai

        oldest = time.time() - _KEPT_SECONDS

        async def make(client: AsyncOpenAI) -> list[Any]:
            batches = []
            async for batch in client.batches.list(limit=100):
                if not isinstance(batch.created_at, int) or batch.created_at < oldest:
                    break  # the end of what is kept, or no list of batches
                if (batch.metadata or {}).get(TEACHER) == self._tag:
                    batches.append(batch)
            return batches

        try:
            return self._endpoint.call(make, _LIST_S, _RETRIES)
        except openai.APIStatusError as error:
            if error.status_code in _NO_LIST:
                return []
            raise
        except openai.APIResponseValidationError:
            return []

    def cancel(self, id_: str) -> None:
        """Take a batch back: what is answered of it by now is billed."""

        async def make(client: AsyncOpenAI) -> None:
            await client.batches.cancel(id_)

        self._endpoint.call(make, self._teacher.timeout_s)

    def _created(self, file_id: str, nonce: str) -> str:
        """Return the id of a batch whose creation was cut, "" where there is none."""
        for pause in _LOOKS_S:
            time.sleep(pause)
            for batch in self.earlier():
                is_it = (batch.metadata or {}).get(NONCE) == nonce
                if is_it and batch.input_file_id == file_id:
                    return str(batch.id)
        return ""

    def _say(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            status = getattr(error, "status_code", None)
            reason = f"HTTP {status}" if status else str(error) or type(error).__name__
            self._warn(
                f"Teacher {self._teacher.name}: {self._endpoint.url} did not tell of a batch "
                f"({reason.splitlines()[0][:200]}). It is asked again until the batch's day is "
                "over."
            )


WINDOW = 50_000
"""Requests that one batch may have."""
_MOST_BYTES = 90_000_000
"""Of one batch's file."""
_LONGEST_POLL_S = 60.0
_LOOK_S = 0.5
_ENDED = ("completed", "expired", "cancelled")
_PASSING = (408, 409, 425, 429)


@dataclass
class Batches:
    """One stream of questions to one endpoint's batch API."""

    teacher: OpenAISettings
    endpoint: Endpoint
    meter: Meter | None
    warn: Callable[[str], None] = lambda text: None
    """Told of what fails in passing."""
    _waiting: Batch = field(default_factory=Batch)
    """Those that the next batch will ask."""
    _again: deque[Call] = field(default_factory=deque)
    """Those that have to be asked again, or that there was no money for."""
    _open: list[Batch] = field(default_factory=list)
    _earlier: dict[str, str] = field(default_factory=dict)
    """Batch of an earlier run that asks a question, by the question's address."""
    _adopted: dict[str, tuple[Batch, Call]] = field(default_factory=dict)
    """The same of a batch that this run folder paid for."""
    _n_taken: int = 0
    _broke: BudgetError | None = None
    _over: OverspentError | None = None
    _failed: TeacherError | None = None
    """Of a question; the rest of its batch is settled first."""

    def __post_init__(self) -> None:
        self._api = BatchApi(self.teacher, self.endpoint, self.warn)

    def run(
        self, questions: Iterator[Question | None]
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) as batches end, and None while they run.

        Raises:
            TeacherError: a batch was refused, or a question in it is.
            BudgetError: the money ends; all that was handed in has been yielded.
            OverspentError: answers took more than was set aside for them.
        """
        ended = False
        self._find_earlier()
        while True:
            if not ended or self._again:
                ended = self._take(questions) or ended
            if self._waiting.calls:
                self._hand_in()
            if not any(batch.is_wanted for batch in self._open):
                if self._broke is not None:
                    raise self._broke
                if ended and not self._again:
                    return
            now = time.monotonic()
            for batch in [unsettled for unsettled in self._open if unsettled.next_poll <= now]:
                yield from self._look(batch)
                if self._over is not None:
                    self._cancel_all()
                    raise self._over
                if self._failed is not None:
                    raise self._failed
            time.sleep(_LOOK_S if self._open else 0.02)
            yield None

    def _take(self, questions: Iterator[Question | None]) -> bool:
        """Take questions as long as there are any just now; return whether there are no more."""
        waiting, identity = self._waiting, self.teacher.identity()
        while self._again:
            if not self._draw(self._again[0]):
                return False
            waiting.add(self._again.popleft())
        while len(waiting.calls) < WINDOW and waiting.n_bytes < _MOST_BYTES:
            question = next(questions, _END)
            if question is None:
                return False
            if not isinstance(question, Question):
                return True
            key, number = question_key(identity, question), self._n_taken
            self._n_taken += 1
            if key in self._adopted:
                batch, earlier = self._adopted[key]
                earlier.number = number
                batch.n_wanted += 1
                continue
            line = {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.teacher.request(question),
            }
            call = Call(number, key, json.dumps(line).encode() + b"\n", question.max_tokens)
            if key in self._earlier:
                self._earlier_batch(key).add(call)
            elif self._draw(call):
                waiting.add(call)
            else:
                self._again.append(call)
                return False
        return False

    def _draw(self, call: Call) -> bool:
        """Set the money of a question aside; return whether there is enough."""
        try:
            if self.meter is not None:
                call.receipt = self.meter.draw(call.question)
        except BudgetError as error:
            self._broke = error
            return False
        self._broke = None
        return True

    def _cancel_all(self) -> None:
        for batch in self._open:
            with suppress(Exception):  # the money is passed already, and that is said
                self._api.cancel(batch.id)

    def _earlier_batch(self, key: str) -> Batch:
        """Return the batch of an earlier run, which set the money aside, that asks a question."""
        id_ = self._earlier[key]
        batch = next((unsettled for unsettled in self._open if unsettled.id == id_), None)
        if batch is None:
            batch = Batch(id_)
            self._open.append(batch)
        return batch

    def _hand_in(self) -> None:
        batch, self._waiting = self._waiting, Batch()
        batch.nonce = uuid4().hex
        with self._explained(batch), self._unbilled(batch, always=True):
            file_id = self._api.upload(b"".join(call.line for call in batch.calls))
        self._open.append(batch)
        if self.meter is not None:  # if what follows is cut off, the batch is there perhaps
            self.meter.hand_in(batch.nonce)
        with self._explained(batch), self._unbilled(batch):
            batch.id = self._api.create(file_id, batch.nonce)

    def _look(self, batch: Batch) -> Generator[tuple[int, Answer], None, None]:
        """Ask how a batch does; yield its answers if it has ended."""
        batch.is_new = False
        batch.poll_s = min(_LONGEST_POLL_S, batch.poll_s * 1.5)
        batch.next_poll = time.monotonic() + batch.poll_s
        with self._explained(batch):
            status = self._api.look(batch.id, time.monotonic() - batch.since)
        if status is None:
            return
        if status.status == "failed":
            for call in batch.calls:
                self._pay(call, None)
            reasons = [
                error.message or "" for error in (status.errors and status.errors.data) or []
            ]
            raise TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_urls[0]} refused a batch of "
                f"{counted(len(batch.calls), 'question', spec=',')} "
                f"({'; '.join(reasons[:2])[:200] or 'no reason'}). "
                "Ask one by one with teacher.batch=false, or mend what it says."
            )
        if status.status not in _ENDED:
            return
        ended = status.completed_at or status.expired_at or status.cancelled_at or status.created_at
        seconds = max(0.0, float(ended - status.created_at)) / max(1, len(batch.calls))
        with self._explained(batch):
            replies = self._api.answers(status)
        if replies is None:
            return
        # Whoever takes the answers stops at the last that it wants.
        batch.calls = deque(sorted(batch.calls, key=lambda call: call.number is not None))
        while batch.calls:  # in order, so that what waits for its turn need not be held
            call = batch.calls[0]
            reply = json.loads(replies.get(call.key, b"null"))
            answer = self._settle(call, reply, seconds)
            batch.calls.popleft()
            self._adopted.pop(call.key, None)
            if call.number is not None:
                batch.n_wanted -= 1
                if answer is not None:
                    yield call.number, answer
        self._open.remove(batch)

    def _settle(self, call: Call, reply: Any, seconds: float) -> Answer | None:
        """Pay for a question; put it off to the next batch if it has to be asked again."""
        body = reply.get("response") if isinstance(reply, dict) else None
        response: dict[str, Any] = body if isinstance(body, dict) else {}
        status = response.get("status_code")
        call.n_tries += 1
        problem = "it was not reached before the batch ended"
        if status == 200:
            try:
                answer = to_answer(response.get("body"), call.question, seconds)
            except (AttributeError, ValueError, TypeError, KeyError, Garbled) as error:
                problem = "the reply is no chat completion"
                if isinstance(error, ImplausibleUsage):
                    problem = str(error)
                self._pay(call, None, sort(error).billed)
            else:
                self._pay(call, answer)
                return answer
        else:
            if status is not None:
                problem = f"HTTP {status}"
            self._pay(call, None)
            if status is not None and says_too_long(status, json.dumps(response.get("body"))):
                return Answer("", 0, 0, 0.0, finish=TOO_LONG)
        if call.number is None:  # nobody asks for it any more
            return None
        passing = status in (None, 200, *_PASSING) or int(status) >= 500
        if not passing or call.n_tries > self.teacher.max_retries:
            self._failed = TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_urls[0]} did not answer a "
                f"question of a batch after {counted(call.n_tries, 'try', 'tries')} ({problem}). "
                "What was answered is kept: give the same command again, or ask one by one with "
                "teacher.batch=false."
            )
            return None
        self._earlier.pop(call.key, None)
        self._again.append(replace(call, receipt=None))
        return None

    @contextmanager
    def _unbilled(self, batch: Batch, always: bool = False) -> Iterator[None]:
        """Give back the money of a batch that the provider does not take."""
        import openai

        try:
            yield
        except Exception as error:
            refused = isinstance(error, openai.APIStatusError) and error.status_code < 500
            if always or refused or isinstance(error, RedirectError):
                for call in batch.calls:
                    self._pay(call, None)
            raise

    def _pay(self, call: Call, answer: Answer | None, billed: Billed = Billed.NOTHING) -> None:
        if self.meter is not None and call.receipt is not None:
            try:
                self.meter.pay(call.receipt, answer, billed)
            except OverspentError as error:  # what came with it is paid, too, and is kept
                self._over = error
            call.receipt = None

    def _find_earlier(self) -> None:
        """Find what earlier runs handed in and nobody fetched: the newest batches first."""
        import openai

        mine = set(self.meter.batches()) if self.meter is not None else set()
        with self._explained():
            batches = self._api.earlier()
        for batch in batches:
            nonce = (batch.metadata or {}).get(NONCE, "")
            if batch.status in ("failed", "cancelling") and nonce not in mine:
                continue
            try:
                with self._explained():
                    requests = self._api.lines(batch.input_file_id)
            except TeacherError as error:
                if isinstance(error.__cause__, openai.NotFoundError):  # the file is gone by now
                    continue
                raise
            if nonce in mine:
                mine.remove(nonce)
                self._adopt(batch.id, nonce, requests)
                continue
            for key in requests:
                self._earlier.setdefault(key, batch.id)
        for nonce in mine:
            assert self.meter is not None
            self.meter.lose(nonce)

    def _adopt(self, id_: str, nonce: str, lines: Mapping[str, bytes]) -> None:
        """Take over a batch that this run folder paid for: all of it is settled when it ends."""
        assert self.meter is not None
        batch = Batch(id_, nonce=nonce)
        for key, line in lines.items():
            limit = json.loads(line)["body"].get(self.teacher.token_limit_field, 0)
            call = Call(None, key, line, int(limit))
            batch.calls.append(call)
            self._adopted[key] = batch, call
        receipts = self.meter.adopt(nonce, (call.question for call in batch.calls))
        for call, receipt in zip(batch.calls, receipts, strict=False):
            call.receipt = receipt
        self._open.append(batch)

    @contextmanager
    def _explained(self, batch: Batch | None = None) -> Iterator[None]:
        """Turn what the client raises into an error in the user's words.

        Args:
            batch: of its questions the first stands for all.
        """
        import openai

        try:
            yield
        except (openai.OpenAIError, TimeoutError, RedirectError) as error:
            question = Question([{"role": "user", "content": ""}], 0)
            if batch is not None and batch.calls:
                question = batch.calls[0].question
            raise self.endpoint.explain(error, question, self.teacher.max_retries + 1) from error


_END = object()
