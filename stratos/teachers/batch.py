"""The batch API: questions in one batch at a lower price, answered within a day.

Every request of a batch bears the address of its answer as its id, and every batch the address of
its teacher. So whoever asks next finds what is under way, although the process that handed it in
was killed, waits for it instead of paying again, and settles it at its price.
"""

from __future__ import annotations

import json
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
from stratos.teachers.batch_api import NONCE, Batch, BatchApi, Call
from stratos.teachers.cache import question_key
from stratos.teachers.reply import (
    Garbled,
    ImplausibleUsage,
    RedirectError,
    says_too_long,
    sort,
    to_answer,
)

if TYPE_CHECKING:
    from stratos.teachers.endpoint import Endpoint
    from stratos.teachers.openai_settings import OpenAISettings

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
