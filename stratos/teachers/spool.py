"""The lines of a batch on disk: those that are handed in, and those that come back."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from stratos.teachers.base import Question

if TYPE_CHECKING:
    from openai import OpenAI

SHORTEST_POLL_S = 1.0
"""Between two looks at a batch that was handed in just now."""


@dataclass(slots=True)
class Call:
    """One question of a batch; what it asks lies on disk."""

    number: int
    key: str
    max_tokens: int
    receipt: int | None = None
    """What it is paid from; None for one that an earlier run paid."""
    n_tries: int = 0
    place: int = 0
    """Where its line begins in the file of its batch."""


def spool() -> BinaryIO:
    """Return a file without a name, in TMPDIR: it is gone with this process, however that ends."""
    return tempfile.TemporaryFile()


@dataclass
class Batch:
    """Calls whose lines, one a request, lie in a file."""

    id: str = ""
    calls: deque[Call] = field(default_factory=deque)
    file: BinaryIO = field(default_factory=spool)
    n_bytes: int = 0
    poll_s: float = SHORTEST_POLL_S
    next_poll: float = 0.0

    def add(self, call: Call, line: bytes) -> None:
        """Write a call's line behind those that are there."""
        call.place = self.n_bytes
        self.file.seek(call.place)
        self.file.write(line)
        self.n_bytes += len(line)
        self.calls.append(call)

    def line(self, call: Call) -> bytes:
        """Return a call's line."""
        self.file.seek(call.place)
        return self.file.readline()

    def question(self, call: Call) -> Question:
        """Return what a call asks, as far as its price and its answer depend on it."""
        return Question(json.loads(self.line(call))["body"]["messages"], call.max_tokens)


def fetched(client: OpenAI, *file_ids: str | None) -> BinaryIO:
    """Return the lines of some of a batch's files in one file here."""
    file = spool()
    for id_ in file_ids:
        if id_ is not None:
            with client.files.with_streaming_response.content(id_) as reply:
                for part in reply.iter_bytes():
                    file.write(part)
            file.write(b"\n")
    return file


def lines(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield (id of the question, where its line begins); a line that is torn is left out."""
    file.seek(0)
    place = 0
    for text in file:
        with suppress(ValueError, KeyError, TypeError):
            yield str(json.loads(text)["custom_id"]), place
        place += len(text)
