"""Questions handed in together at the provider's batch API: for half the price, within a day.

Every request of a batch bears the address of its answer as its id, and every batch the address of
its teacher. So whoever asks next finds what is under way, although the process that handed it in
was killed, and waits for it instead of paying again.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratos.errors import BudgetError, TeacherError
from stratos.teachers.base import Answer, Meter, Question
from stratos.teachers.cache import question_key
from stratos.teachers.endpoint import Garbled, to_answer

if TYPE_CHECKING:
    from openai import OpenAI

    from stratos.teachers.openai import OpenAITeacher

WINDOW = 50_000
"""Requests that one batch may have."""
_MOST_BYTES = 90_000_000
"""Of one batch's file."""
_KEPT_SECONDS = 29 * 86_400.0
"""How long providers keep the answers of a batch."""
_SHORTEST_POLL_S = 1.0
_LONGEST_POLL_S = 60.0
_LOOK_S = 0.5
_TAG = "stratos_teacher"
_ENDED = ("completed", "expired", "cancelled")
_PASSING = (408, 409, 425, 429)


@dataclass
class _Call:
    number: int
    question: Question
    key: str
    receipt: int | None = None
    """What it is paid from; None for one that an earlier run paid."""
    n_tries: int = 0


@dataclass
class _Batch:
    id: str
    calls: list[_Call]
    poll_s: float = _SHORTEST_POLL_S
    next_poll: float = 0.0


@dataclass
class Batches:
    """One stream of questions to one endpoint's batch API."""

    teacher: OpenAITeacher
    client: OpenAI
    meter: Meter | None
    _waiting: list[_Call] = field(default_factory=list)
    _open: list[_Batch] = field(default_factory=list)
    _earlier: dict[str, str] = field(default_factory=dict)
    """Batch of an earlier run that asks a question, by the question's address."""
    _n_taken: int = 0
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
                if not ended and self._broke is None:
                    ended = self._take(questions)
                if self._waiting:
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
            for call in [*self._waiting, *(call for one in self._open for call in one.calls)]:
                self._pay(call, None, billed=True)

    def _take(self, questions: Iterator[Question | None]) -> bool:
        """Take questions as long as there are any just now; return whether there are no more."""
        n_bytes = 0
        while len(self._waiting) < WINDOW and n_bytes < _MOST_BYTES:
            question = next(questions, _END)
            if question is None:
                return False
            if not isinstance(question, Question):
                return True
            call = _Call(self._n_taken, question, question_key(self.teacher.identity(), question))
            self._n_taken += 1
            if call.key in self._earlier:
                self._adopt(call)
                continue
            try:
                if self.meter is not None:
                    call.receipt = self.meter.draw(question)
            except BudgetError as error:
                self._broke = error
                return False
            n_bytes += sum(len(message["content"]) for message in question.chat)
            self._waiting.append(call)
        return False

    def _adopt(self, call: _Call) -> None:
        """Wait for a question in the batch of an earlier run, which set its money aside."""
        id_ = self._earlier[call.key]
        batch = next((one for one in self._open if one.id == id_), None)
        if batch is None:
            batch = _Batch(id_, [])
            self._open.append(batch)
        batch.calls.append(call)

    def _hand_in(self) -> None:
        calls, self._waiting = self._waiting, []
        lines = [
            {
                "custom_id": call.key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.teacher.request(call.question),
            }
            for call in calls
        ]
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        batch = _Batch("", calls)
        self._open.append(batch)  # if what follows fails, it counts as billed
        with self._explained(calls[0]):
            file = self.client.files.create(file=("questions.jsonl", data), purpose="batch")
            batch.id = self.client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TAG: _address(self.teacher)},
            ).id

    def _look(self, batch: _Batch) -> Generator[tuple[int, Answer], None, None]:
        """Ask how a batch does; yield its answers if it has ended."""
        with self._explained(batch.calls[0]):
            told = self.client.batches.retrieve(batch.id)
        if told.status == "failed":
            reasons = [one.message or "" for one in (told.errors and told.errors.data) or []]
            raise TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_url} refused a batch of "
                f"{len(batch.calls):,} questions ({'; '.join(reasons[:2])[:200] or 'no reason'}). "
                "Ask one by one with teacher.batch=false, or mend what it says."
            )
        if told.status not in _ENDED:
            batch.poll_s = min(_LONGEST_POLL_S, batch.poll_s * 1.5)
            batch.next_poll = time.monotonic() + batch.poll_s
            return
        ended = told.completed_at or told.expired_at or told.cancelled_at or told.created_at
        seconds = max(0.0, float(ended - told.created_at)) / len(batch.calls)
        with self._explained(batch.calls[0]):
            replies = dict(_lines(self.client, told.output_file_id))
            replies |= dict(_lines(self.client, told.error_file_id))
        self._open.remove(batch)
        while batch.calls:
            call = batch.calls.pop()
            answer = self._settle(call, replies.get(call.key), seconds)
            if answer is not None:
                yield call.number, answer

    def _settle(self, call: _Call, reply: Any, seconds: float) -> Answer | None:
        """Pay for a question; put it off to the next batch if it has to be asked again."""
        told = reply.get("response") if isinstance(reply, dict) else None
        response: dict[str, Any] = told if isinstance(told, dict) else {}
        status = response.get("status_code")
        call.n_tries += 1
        problem = "it was not reached before the batch ended"
        if status == 200:
            try:
                answer = to_answer(response.get("body"), call.question, seconds)
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
        passing = status in (None, 200, *_PASSING) or int(status) >= 500
        if not passing or call.n_tries > self.teacher.max_retries:
            raise TeacherError(
                f"Teacher {self.teacher.name}: {self.teacher.base_url} did not answer a question "
                f"of a batch after {call.n_tries} tries ({problem}). What was answered is kept: "
                "give the same command again, or ask one by one with teacher.batch=false."
            )
        self._earlier.pop(call.key, None)
        if self.meter is not None:
            call.receipt = self.meter.draw(call.question)
        self._waiting.append(call)
        return None

    def _pay(self, call: _Call, answer: Answer | None, *, billed: bool) -> None:
        if self.meter is not None and call.receipt is not None:
            self.meter.pay(call.receipt, answer, billed=billed)
            call.receipt = None

    def _find_earlier(self) -> None:
        """Find what earlier runs handed in and nobody fetched: the newest batches first."""
        import openai

        oldest = time.time() - _KEPT_SECONDS
        with suppress(openai.APIError):  # a provider need not list its batches
            for told in self.client.batches.list(limit=100):
                if told.created_at < oldest:
                    break
                mine = (told.metadata or {}).get(_TAG) == _address(self.teacher)
                if mine and told.status not in ("failed", "cancelled", "cancelling", "expired"):
                    for key, _ in _lines(self.client, told.input_file_id):
                        self._earlier.setdefault(key, told.id)

    def _explained(self, call: _Call) -> _Explained:
        return _Explained(self.teacher, call.question)


@dataclass
class _Explained:
    """Turns what the client raises into an error in the user's words."""

    teacher: OpenAITeacher
    question: Question

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import openai

        if isinstance(error, openai.OpenAIError):
            tries = self.teacher.max_retries + 1
            raise self.teacher.explain(error, self.question, tries) from error


def _lines(client: OpenAI, file_id: str | None) -> Iterator[tuple[str, Any]]:
    """Yield (id of the question, line) of a batch's file; a line that is torn is left out."""
    if file_id is None:
        return
    for text in io.BytesIO(client.files.content(file_id).content):
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            yield str(line["custom_id"]), line


def _address(teacher: OpenAITeacher) -> str:
    return hashlib.sha256(teacher.identity().encode()).hexdigest()[:32]


_END = object()
