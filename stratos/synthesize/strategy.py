"""What a strategy is: a way to draw verified training items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from stratos.config import Config
from stratos.context import Context
from stratos.errors import TeacherError
from stratos.records import Plan
from stratos.tasks.base import Item
from stratos.teachers.base import Teacher


@dataclass
class Tally:
    """What drawing items took, and what was refused on the way."""

    refused: Counter[str] = field(default_factory=Counter)
    first_problem: str = ""
    """What was wrong with the first item that did not verify."""
    teacher_tokens: int = 0
    usd: float = 0.0


@runtime_checkable
class Strategy(Protocol):
    """The contract that every strategy class keeps; its fields are its YAML."""

    name: str
    n_items: int
    """Items after which the corpus is full."""

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield verified items with the text that the student is to learn."""
        ...


def planned_teacher(config: Config, plan: Plan) -> Teacher:
    """Return the teacher that the plan chose.

    Raises:
        TeacherError: it is not among the configured ones.
    """
    for teacher in config.teachers:
        if teacher.name == plan.teacher:
            return teacher
    known = ", ".join(teacher.name for teacher in config.teachers)
    raise TeacherError(
        f"The plan's teacher {plan.teacher} is not configured (there are: {known}). "
        "Give the command that made the plan, or plan again with stages=[probe,plan,synthesize]."
    )
