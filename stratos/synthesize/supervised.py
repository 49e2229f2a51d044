"""Supervised fine-tuning on a file's own answers, without a teacher.

A teacher's answer to a row that has one could only repeat it, so the labels of a file are taken
from the file, for nothing. Where rows bring the reasoning that leads to their answers, it is learnt
with them, if it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from stratos.config import Config
from stratos.core.context import Context
from stratos.records import Plan
from stratos.synthesize.injection import holds
from stratos.synthesize.strategy import Family, Strategy, Tally
from stratos.tasks.base import Item, Task


@dataclass(frozen=True)
class Supervised(Strategy):
    """The labelled rows of the task's file."""

    family: ClassVar[Family] = Family.ROWS

    name: str = "supervised"
    """Name shown in the plan."""
    n_items: int = 100_000
    """Maximum rows to train on."""
    reasoning: bool = True
    """Also train on the reasoning of rows that have one; False trains on the bare answers."""
    near_duplicates: float = 0.0
    """Share of common word 3-grams from which a question is a near duplicate; 0 keeps
    duplicates."""

    def __post_init__(self) -> None:
        if self.n_items < 1:
            raise ValueError("n_items must be at least 1.")
        if not 0 <= self.near_duplicates <= 1:
            raise ValueError("near_duplicates must lie between 0 and 1.")

    @property
    @override
    def near_duplicate_share(self) -> float:
        return self.near_duplicates

    def learnt(self, task: Task, item: Item) -> str:
        """Return a row's reasoning and answer, or the bare answer."""
        return task.completion(item) if self.reasoning and item.rationale else item.answer

    @override
    def why_alone(self) -> str:
        return f"{self.name} trains on the answers in the file: no teacher is asked for them."

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield the rows with what is learnt of each; a reasoning that does not hold is none."""
        task = config.task
        for item in task.items("train", min(self.n_items, task.n_train), config.seed):
            has_path = self.reasoning and bool(item.rationale)
            if not has_path or holds(item, task.verify(item), tally):
                yield item, self.learnt(task, item)
