"""Processes of their own that ask a server, and are started at the cost of a fork.

The packages are imported once, in a server process without threads from which askers are forked.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question
from stratos.teachers.openai import OpenAITeacher

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["openai.types.chat", "stratos.teachers.openai", "asker"])


class Asker:
    """A process that asks for "word 0", "word 1" …; yields the number of each right answer."""

    def __init__(self, base_url: str, folder: Path, n: int) -> None:
        self._numbers, child = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_ask, args=(base_url, folder, n, child))
        self._process.start()
        child.close()

    def __iter__(self) -> Iterator[int]:
        while True:
            try:
                yield self._numbers.recv()
            except EOFError:
                return

    def kill(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._numbers.close()

    def all(self) -> list[int]:
        """Return all numbers of a process that ends well."""
        numbers = list(self)
        self._process.join(120)
        assert self._process.exitcode == 0
        return numbers


def _ask(base_url: str, folder: Path, n: int, told: Connection) -> None:
    teacher = OpenAITeacher(
        "parrot", "parrot", base_url=base_url, api_key_env=None, concurrency=16,
        usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0,
    )  # fmt: skip
    context = Context(folder, folder / "cache", Ledger(folder / "ledger.jsonl", 10.0))
    questions = (Question([{"role": "user", "content": f"word {i}"}], 8) for i in range(n))
    for i, answer in enumerate(stream_ask(teacher, questions, context)):
        assert answer.text == f"WORD {i}"
        told.send(i)
