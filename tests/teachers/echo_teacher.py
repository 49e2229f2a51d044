"""A teacher that repeats what it is asked; as a program it fills a cache until it is killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos.core.errors import TeacherError
from stratos.records import ModelCard
from stratos.teachers.base import Answer, Teacher


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

    def ask(
        self, chats: Sequence[Any], max_tokens: int, tick: Any = None, keep: Any = None
    ) -> list[Answer]:
        answers = []
        for index, chat in enumerate(chats):
            if index == self.fails_at:
                raise TeacherError("out of breath")
            text = chat[-1]["content"]
            self.calls.append(text)
            time.sleep(self.pause_s)
            answers.append(Answer(text, 1, 1, 0.0))
            if keep is not None:
                keep(index, answers[-1])
        return answers


if __name__ == "__main__":
    from stratos.core.context import Context
    from stratos.ledger import Ledger
    from tests.teachers.questions import cached_ask, chats

    folder = Path(sys.argv[1])
    start, n, pause_s = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    context = Context(
        folder, folder, Ledger(folder / "ledger"), warn=lambda text: print("warned", text)
    )

    def tick(done: int, total: int) -> None:
        print("kept", done, flush=True)

    cached_ask(EchoTeacher(pause_s=pause_s), chats(n, start), 8, context, tick=tick)
