"""Questions handed in together at the provider's batch API: for half the price, within a day.

Every request of a batch bears the address of its answer as its id, and every batch the address of
its teacher. So whoever asks next finds what is under way, although the process that handed it in
was killed, and waits for it instead of paying again.

Questions are written to the batch's file as they come, and answers are read from the file that they
came in, one by one: of a question itself only its place is held.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratos.errors import BudgetError, TeacherError
from stratos.teachers.base import TOO_LONG, Answer, Meter, Question
from stratos.teachers.cache import question_key
from stratos.teachers.endpoint import Garbled, says_too_long, to_answer
from stratos.teachers.spool import Batch, Call, fetched, lines
from stratos.words import counted

if TYPE_CHECKING:
    from openai import OpenAI

    from stratos.teachers.openai import OpenAITeacher

WINDOW = 50_000
"""Requests that one batch may have."""
_MOST_BYTES = 90_000_000
"""Of one batch's file."""
_KEPT_SECONDS = 29 * 86_400.0
"""How long providers keep the answers of a batch."""
_LONGEST_POLL_S = 60.0
_LOOK_S = 0.5
_TAG = "stratos_teacher"
_ENDED = ("completed", "expired", "cancelled")
_PASSING = (408, 409, 425, 429)


@dataclass
class Batches:
    """One stream of questions to one endpoint's batch API."""

    teacher: OpenAITeacher
    client: OpenAI
    meter: Meter | None
    _waiting: Batch = field(default_factory=Batch)
    """Those that the next batch will ask."""
    _open: list[Batch] = field(default_factory=list)
    _earlier: dict[str, str] = field(default_factory=dict)
    """Batch of an earlier run that asks a question, by the question's address."""
    _n_taken: int = 0
    _held: tuple[Question, Call, bytes] | None = None
    """What there was no money for; what batches leave of theirs may pay for it."""
    _broke: BudgetError | None = None

    def run(
        self, questions: Iterator[Question | None]
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) as batches end, and None while they run.

        Raises:
            TeacherError: a batch was refused, or a question in it is.
            BudgetError: the money ends; all that was handed in has been yielded.
        """
        self._find_earlier()
        ended = False
        try:
            while True:
                if not ended:
                    ended = self._take(questions)
                if self._waiting.calls:
                    self._hand_in()
                if not self._open:
                    if self._broke is not None:
                        raise self._broke
                    if ended:
                        return
                for batch in [one for one in self._open if one.next_poll <= time.monotonic()]:
                    yield from self._look(batch)
                time.sleep(_LOOK_S if self._open else 0.02)
                yield None
        finally:
            for batch in (self._waiting, *self._open):
                batch.file.close()

    def _take(self, questions: Iterator[Question | None]) -> bool:
        """Take questions as long as there are any just now; return whether there are no more."""
        waiting, identity = self._waiting, self.teacher.identity()
        if self._held is not None and not self._pay_for(*self._held):
            return False
        while len(waiting.calls) < WINDOW and waiting.n_bytes < _MOST_BYTES:
            question = next(questions, _END)
            if question is None:
                return False
            if not isinstance(question, Question):
                return True
            key = question_key(identity, question)
            call = Call(self._n_taken, key, question.max_tokens)
            self._n_taken += 1
            line = {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.teacher.request(question),
            }
            data = json.dumps(line).encode() + b"\n"
            if key in self._earlier:
                self._earlier_batch(key).add(call, data)
                continue
            if not self._pay_for(question, call, data):
                return False
        return False

    def _pay_for(self, question: Question, call: Call, data: bytes) -> bool:
        """Add a question to the next batch if there is money for it; else hold it."""
        try:
            if self.meter is not None:
                call.receipt = self.meter.draw(question)
        except BudgetError as error:
            self._held, self._broke = (question, call, data), error
            return False
        self._held = self._broke = None
        self._waiting.add(call, data)
        return True

    def _earlier_batch(self, key: str) -> Batch:
        """Return the batch of an earlier run, which set the money aside, that asks a question."""
        id_ = self._earlier[key]
        batch = next((one for one in self._open if one.id == id_), None)
        if batch is None:
            batch = Batch(id_)
            self._open.append(batch)
        return batch

    def _hand_in(self) -> None:
        batch, self._waiting = self._waiting, Batch()
        self._open.append(batch)  # if what follows is cut off, it counts as billed
        batch.file.seek(0)
        with self._explained(batch), self._unbilled(batch):
            upload = ("questions.jsonl", batch.file)
            file = self.client.files.create(file=upload, purpose="batch")
            batch.id = self.client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TAG: _address(self.teacher)},
            ).id

    def _look(self, batch: Batch) -> Generator[tuple[int, Answer], None, None]:
        """Ask how a batch does; yield its answers if it has ended."""
        with self._explained(batch):
            told = self.client.batches.retrieve(batch.id)
        if told.status == "failed":
            for call in batch.calls:
                self._pay(call, None, billed=False)
            reasons = [one.message or "" for one in (told.errors and told.errors.data) or []]
            raise TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_urls[0]} refused a batch of "
                f"{counted(len(batch.calls), 'question', spec=',')} "
                f"({'; '.join(reasons[:2])[:200] or 'no reason'}). "
                "Ask one by one with teacher.batch=false, or mend what it says."
            )
        if told.status not in _ENDED:
            batch.poll_s = min(_LONGEST_POLL_S, batch.poll_s * 1.5)
            batch.next_poll = time.monotonic() + batch.poll_s
            return
        ended = told.completed_at or told.expired_at or told.cancelled_at or told.created_at
        seconds = max(0.0, float(ended - told.created_at)) / len(batch.calls)
        with self._explained(batch):
            replies = fetched(self.client, told.output_file_id, told.error_file_id)
        with replies:
            places = dict(lines(replies))
            while batch.calls:  # in order, so that what waits for its turn need not be held
                call = batch.calls[0]
                reply = None
                if call.key in places:
                    replies.seek(places[call.key])
                    reply = json.loads(replies.readline())
                answer = self._settle(batch, call, reply, seconds)
                batch.calls.popleft()
                if answer is not None:
                    yield call.number, answer
        self._open.remove(batch)
        batch.file.close()

    def _settle(self, batch: Batch, call: Call, reply: Any, seconds: float) -> Answer | None:
        """Pay for a question; put it off to the next batch if it has to be asked again."""
        told = reply.get("response") if isinstance(reply, dict) else None
        response: dict[str, Any] = told if isinstance(told, dict) else {}
        status = response.get("status_code")
        question = batch.question(call)
        call.n_tries += 1
        problem = "it was not reached before the batch ended"
        if status == 200:
            try:
                answer = to_answer(response.get("body"), question, seconds)
            except (AttributeError, ValueError, TypeError, KeyError, Garbled):
                problem = "the reply is no chat completion"
                self._pay(call, None, billed=True)
            else:
                self._pay(call, answer, billed=True)
                return answer
        else:
            if status is not None:
                problem = f"HTTP {status}"
            self._pay(call, None, billed=False)
            if status is not None and says_too_long(status, json.dumps(response.get("body"))):
                return Answer("", 0, 0, 0.0, finish=TOO_LONG)
        passing = status in (None, 200, *_PASSING) or int(status) >= 500
        if not passing or call.n_tries > self.teacher.max_retries:
            raise TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_urls[0]} did not answer a "
                f"question of a batch after {counted(call.n_tries, 'try', 'tries')} ({problem}). "
                "What was answered is kept: give the same command again, or ask one by one with "
                "teacher.batch=false."
            )
        self._earlier.pop(call.key, None)
        if self.meter is not None:
            call.receipt = self.meter.draw(question)
        self._waiting.add(call, batch.line(call))
        return None

    @contextmanager
    def _unbilled(self, batch: Batch) -> Iterator[None]:
        """Give back the money of a batch that the provider does not take."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code < 500:
                for call in batch.calls:
                    self._pay(call, None, billed=False)
            raise

    def _pay(self, call: Call, answer: Answer | None, *, billed: bool) -> None:
        if self.meter is not None and call.receipt is not None:
            self.meter.pay(call.receipt, answer, billed=billed)
            call.receipt = None

    def _find_earlier(self) -> None:
        """Find what earlier runs handed in and nobody fetched: the newest batches first."""
        import openai

        oldest = time.time() - _KEPT_SECONDS
        with suppress(openai.APIError):  # a provider need not list its batches
            for told in self.client.batches.list(limit=100):
                if not isinstance(told.created_at, int) or told.created_at < oldest:
                    break  # the end of what is kept, or no list of batches
                mine = (told.metadata or {}).get(_TAG) == _address(self.teacher)
                if mine and told.status not in ("failed", "cancelled", "cancelling", "expired"):
                    with fetched(self.client, told.input_file_id) as asked:
                        for key, _ in lines(asked):
                            self._earlier.setdefault(key, told.id)

    def _explained(self, batch: Batch) -> _Explained:
        return _Explained(self.teacher, batch)


@dataclass
class _Explained:
    """Turns what the client raises into an error in the user's words."""

    teacher: OpenAITeacher
    batch: Batch
    """Of its questions the first stands for all."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import openai

        if isinstance(error, openai.OpenAIError):
            tries = self.teacher.max_retries + 1
            question = self.batch.question(self.batch.calls[0])
            raise self.teacher.explain(error, question, tries) from error


def _address(teacher: OpenAITeacher) -> str:
    return hashlib.sha256(teacher.identity().encode()).hexdigest()[:32]


_END = object()
