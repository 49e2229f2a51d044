"""A teacher that repeats what it is asked; as a program it fills a cache until it is killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos.core.errors import TeacherError
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Question, Teacher


@dataclass
class EchoTeacher(Teacher):
    """Answers at once, or after a pause; `calls` is what reached it."""

    name: str = "echo"
    pause_s: float = 0.0
    fails_at: int | None = None
    calls: list[str] = field(default_factory=list)

    def card(self) -> ModelCard:
        return ModelCard(self.name, 1, 1, 1, 1, 1, 1, 1, 1)

    def identity(self) -> str:
        return "echo"

    def reply(self, chat: list[Message]) -> Answer:
        """Return the answer to one chat."""
        return Answer(chat[-1]["content"], 1, 1, 0.0)

    def ask(
        self, chats: Sequence[Any], max_tokens: int, tick: Any = None, keep: Any = None
    ) -> list[Answer]:
        answers = []
        for index, chat in enumerate(chats):
            if index == self.fails_at:
                raise TeacherError("out of breath")
            self.calls.append(chat[-1]["content"])
            time.sleep(self.pause_s)
            answers.append(self.reply(chat))
            if keep is not None:
                keep(index, answers[-1])
        return answers


@dataclass
class DrawingTeacher(EchoTeacher):
    """Draws answers, and is paid for each."""

    def draw(self, question: Question) -> Answer:
        raise NotImplementedError

    def stream(
        self, questions: Iterator[Question | None], meter: Any
    ) -> Iterator[tuple[int, Answer] | None]:
        for index, question in enumerate(questions):
            assert question is not None
            receipt = meter.draw(question) if meter is not None else 0
            answer = self.draw(question)
            if meter is not None:
                meter.pay(receipt, answer)
            yield index, answer


if __name__ == "__main__":
    from stratos.core.context import Context
    from stratos.ledger import Ledger
    from tests.teachers.questions import cached_ask, chats

    folder = Path(sys.argv[1])
    start, n, pause_s = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    ledger = Ledger(folder / "ledger")
    context = Context(folder, folder, ledger, warn=lambda text: print("warned", text))
    cached_ask(
        EchoTeacher(pause_s=pause_s), chats(n, start), 8, context,
        tick=lambda done, total: print("kept", done, flush=True),
    )  # fmt: skip
