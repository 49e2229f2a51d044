"""The request and result files of a batch."""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from stratos.teachers.base import Question

SHORTEST_POLL_S = 1.0
"""Between two looks at a batch that was handed in just now."""


@dataclass(slots=True)
class Call:
    """One question of a batch; what it asks lies on disk."""

    number: int | None
    """Of the question; None for one of an earlier run that nobody asks now."""
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

    def add(self, call: Call, line: bytes) -> None:
        """Write a call's line behind those that are there."""
        call.place = self.n_bytes
        self.file.seek(call.place)
        self.file.write(line)
        self.n_bytes += len(line)
        self.calls.append(call)
        self.n_wanted += 1

    def line(self, call: Call) -> bytes:
        """Return a call's line."""
        self.file.seek(call.place)
        return self.file.readline()

    def question(self, call: Call) -> Question:
        """Return what a call asks, as far as its price and its answer depend on it."""
        return Question(json.loads(self.line(call))["body"]["messages"], call.max_tokens)


def lines(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield (id of the question, where its line begins); a line that is torn is left out."""
    file.seek(0)
    place = 0
    for text in file:
        with suppress(ValueError, KeyError, TypeError):
            yield str(json.loads(text)["custom_id"]), place
        place += len(text)
