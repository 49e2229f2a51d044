"""A client of a provider's batch API.

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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratos.teachers.base import Question
from stratos.teachers.reply import sort
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
