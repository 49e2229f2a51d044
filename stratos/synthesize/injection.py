"""Knowledge injection: the answer first, a question built from it, and a path that is verified.

For a task that the teacher does not master (Stratos, arXiv 2510.15992: reverse synthetic data): the
knowledge comes from the task's own engine, and the teacher is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stratos.config import Config
from stratos.context import Context
from stratos.records import Plan
from stratos.synthesize.strategy import Tally
from stratos.tasks.base import Item

_DRAWS_PER_ITEM = 4
"""Draws after which a task that mostly repeats itself is given up."""


@dataclass(frozen=True)
class Injection:
    """Items made answer first by the task's reverse generator."""

    name: str = "injection"
    """Name shown in the plan."""
    n_items: int = 80_000
    """Verified items of the corpus."""
    rationale: Literal["engine", "none"] = "engine"
    """Reasoning path of the completions: the task engine's, or none (the bare answer)."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_items < 1:
            raise ValueError("n_items must be at least 1.")

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield items whose answer and every step of whose path the task's verifier accepts."""
        task = config.task
        for item in task.reverse(_DRAWS_PER_ITEM * self.n_items, config.seed):
            problem = task.verify(item)
            if problem is None:
                yield item, task.completion(item) if self.rationale == "engine" else item.answer
            else:
                tally.refused["unverified"] += 1
                tally.first_problem = tally.first_problem or f"{item.question}: {problem}"
