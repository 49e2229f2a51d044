"""The least that is a task: for tests of what reads a task and asks it nothing."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.tasks.base import Item, Message, Score, Split, Task


@dataclass(frozen=True)
class StubTask(Task):
    """A task without items, whose text is its answer."""

    name: str = "stub"
    can_reverse: bool = False

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        return []

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        return self.student_messages(item)

    def parse(self, text: str) -> str | None:
        return text.strip() or None

    def score(self, text: str, item: Item) -> Score:
        right = float(self.parse(text) == item.answer)
        return Score(right, right, self.parse(text) is not None)
