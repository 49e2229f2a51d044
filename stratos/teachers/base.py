"""What a teacher is: something that answers chats, at a price."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stratos.records import ModelCard
from stratos.tasks.base import Message

Tick = Callable[[int, int], None]
"""Progress: done, total."""

Keep = Callable[[int, "Answer"], None]
"""Takes one answer as soon as it is there: index of its chat, answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a teacher, and what it took."""

    text: str
    input_tokens: int
    output_tokens: int
    seconds: float
    """Share of the batch's wall-clock time that this answer took."""
    cached: bool = False


@runtime_checkable
class Teacher(Protocol):
    """The contract that every teacher class keeps. Nothing is loaded before `ask`."""

    name: str

    def unreachable(self) -> str | None:
        """Return why this teacher cannot be asked here, or None. Cheap: loads no weights."""
        ...

    def card(self) -> ModelCard:
        """Return the facts of the model (reads a config file at most)."""
        ...

    def identity(self) -> str:
        """Return what decides the answers beside the chat: weights, revision, sampling.

        Answers are kept under it, so it has to change whenever they might.
        """
        ...

    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        `keep` is called in the calling thread as answers come in, in any order, so that nothing
        is lost if a later one fails.
        """
        ...

    def close(self) -> None:
        """Free the weights."""
        ...
