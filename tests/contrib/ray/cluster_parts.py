"""What workers of a cluster import: a task and a teacher that write down what they are asked."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_teacher import EchoTeacher

from stratos.tasks.base import Item
from stratos.tasks.mahjong import MahjongTask
from stratos.teachers.base import Answer


def write_down(folder: str, text: str) -> None:
    """Add a line to the file of this process, which outlives a kill."""
    with (Path(folder) / str(os.getpid())).open("a", buffering=1) as file:
        file.write(f"{text}\n")


def written_down(folder: Path) -> tuple[Counter[str], int]:
    """Return how often each text was written down, and by how many processes."""
    files = list(folder.iterdir())
    return Counter(line for file in files for line in file.read_text().splitlines()), len(files)


@dataclass(frozen=True)
class SlowTask(MahjongTask):
    """Mahjong items that take a while."""

    folder: str = ""
    pause_s: float = 0.004

    def reverse(self, n: int, seed: int = 0) -> Any:
        return map(self.made_of, self.drafts(n, seed))

    def drafts(self, n: int, seed: int = 0) -> Any:
        return enumerate(super().drafts(n, seed))

    def made_of(self, draft: Any) -> Item:
        number, one = draft
        if self.folder:
            write_down(self.folder, str(number))
            time.sleep(self.pause_s)
        return super().made_of(one)


@dataclass
class SlowTeacher(EchoTeacher):
    """Repeats the questions of one chunk after a while."""

    folder: str = ""
    batch_size: int = 8

    def ask(
        self, chats: Sequence[Any], max_tokens: int, tick: Any = None, keep: Any = None
    ) -> list[Answer]:
        for chat in chats:
            write_down(self.folder, chat[-1]["content"])
        time.sleep(0.3)
        return super().ask(chats, max_tokens, tick, keep)
