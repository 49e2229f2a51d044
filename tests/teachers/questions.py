"""Questions "word 0", "word 1" …, a teacher behind loopback servers, and who asks it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.tasks.base import Message
from stratos.teachers.asking import ask_questions, stream_ask
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.openai import OpenAITeacher


def chat(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def chats(n: int, start: int = 0) -> list[list[Message]]:
    return [chat(f"word {i}") for i in range(start, start + n)]


def questions(n: int, max_tokens: int = 8, start: int = 0) -> list[Question]:
    return [Question(chat, max_tokens) for chat in chats(n, start)]


def are_right(answers: Sequence[Answer], start: int = 0) -> bool:
    """Whether answers are those of a server that says each question in capitals, in order."""
    texts = [f"WORD {i}" for i in range(start, start + len(answers))]
    return [answer.text for answer in answers] == texts


def cached_ask(
    teacher: Teacher, chats: Sequence[list[Message]], max_tokens: int, context: Context, **how: Any
) -> list[Answer]:
    """Answer chats in the order given; `how` is that of `ask_questions`."""
    return ask_questions(teacher, [Question(chat, max_tokens) for chat in chats], context, **how)


def parrot(*servers: Any, **changes: Any) -> OpenAITeacher:
    """Return a teacher behind one server or several, each given as such or by its URL."""
    urls = tuple(server if isinstance(server, str) else server.base_url for server in servers)
    fields = {"model": "parrot-large", "api_key_env": "PARROT_KEY", "timeout_s": 10.0, **changes}
    return OpenAITeacher(name="parrot", base_url=urls, **fields)


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["openai.types.chat", "tests.teachers.questions"])


class Asker:
    """A process that asks `n` questions; yields the number of each right answer.

    The packages are imported once, in a server process without threads from which askers are
    forked.
    """

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


def _ask(base_url: str, folder: Path, n: int, numbers: Connection) -> None:
    prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 1.0}
    teacher = parrot(base_url, api_key_env=None, concurrency=16, **prices)
    context = Context(folder, folder / "cache", Ledger(folder / "ledger.jsonl", 10.0))
    for i, answer in enumerate(stream_ask(teacher, questions(n), context)):
        assert answer.text == f"WORD {i}"
        numbers.send(i)
