"""What a task is: questions with checkable answers, in three splits fixed beforehand.

A task class is a dataclass whose fields are its YAML (`_target_` names the class). It imports no
torch and no teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Split = Literal["train", "validation", "test"]
Message = dict[str, str]
"""A chat message: {"role": "system" | "user" | "assistant", "content": …}."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its gold answer."""

    id: str
    """Content hash of the question: two items with one id are one and the same."""
    slice: str
    question: str
    answer: str
    """Gold answer in the task's canonical spelling."""
    choices: tuple[str, ...] = ()
    """Four answers, one of them gold, in an order fixed by the item's id."""
    rationale: str = ""
    """Reasoning path that leads from the question to the answer, where one is known."""
    family: str = ""
    """Content hash of what a symmetry of the task cannot change ("": the id itself): splits are by
    family, so that no question of one split is a mirror of a question of another."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good one answer is."""

    exact: float
    f1: float
    parsed: bool
    """False if no answer could be read from the text."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """A task's own tokenizer: text is rewritten, split by a pattern, and looked up."""

    vocabulary: tuple[str, ...]
    """Every symbol, in the order of its token id."""
    pattern: str
    """Regular expression that matches one symbol; what it leaves out is unknown."""
    rewrites: tuple[tuple[str, str], ...] = ()
    """Regular expression to replacement text, applied in order before splitting."""


@runtime_checkable
class Task(Protocol):
    """The contract that every task class keeps."""

    name: str
    version: int
    metric: str
    slices: tuple[str, ...]
    prompts: tuple[str, ...]
    """Names of the prompts a teacher is tried with."""
    can_reverse: bool
    """True if the task can build a question and a reasoning path from an answer."""

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of one split (fewer if it has no more): the same for the same seed.

        A smaller `n` is a prefix of a larger one. Slices alternate unless one is named.
        """
        ...

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher for the answer, few-shot examples included."""
        ...

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the chat that asks for one letter of A, B, C, D; few-shot too."""
        ...

    def student_messages(self, item: Item) -> list[Message]:
        """Return the chat that the student is trained on and asked with: no examples."""
        ...

    def completion(self, item: Item) -> str:
        """Return the text that the student learns to write: the reasoning path, then the answer."""
        ...

    def parse(self, text: str) -> str | None:
        """Read the answer out of a model's text, in canonical spelling; None if there is none."""
        ...

    def parse_choice(self, text: str) -> int | None:
        """Read the chosen letter as an index; None if there is none."""
        ...

    def score(self, text: str, item: Item) -> Score:
        """Score a model's text against the gold answer."""
        ...

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples, to tell an echo from an answer."""
        ...

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` verified training items made answer first, with their reasoning path."""
        ...

    def verify(self, item: Item) -> str | None:
        """Check answer and reasoning path of an item; return what is wrong, or None."""
        ...

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer each item with that of the nearest training item: the baseline of memory."""
        ...

    def vocabulary(self) -> Symbols | None:
        """Return the symbols of the task's own small tokenizer; None for byte-level BPE."""
        ...
