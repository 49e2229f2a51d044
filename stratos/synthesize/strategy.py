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
from stratos.teachers.base import Batching, Teacher
from stratos.teachers.spread import spread
from stratos.words import counted


@dataclass
class Tally:
    """What drawing items took, and what was refused on the way."""

    refused: Counter[str] = field(default_factory=Counter)
    first_problem: str = ""
    """What was wrong with the first item that did not verify."""
    teacher_tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class Writing:
    """Reasoning that a teacher is to write, as far as it is known beforehand; sizes are means."""

    n_items: int
    """The most items that it is asked for."""
    n_expected: int
    """Those that it is expected to be asked for."""
    n_least: int
    """Those that it is asked for in any case."""
    request_bytes: float
    """Of the chat that asks for a reasoning."""
    reading_bytes: float
    """Of the chat that reads one again, without the reasoning itself."""
    read_share: float
    """Share of reasonings that are read again, because the task cannot check their steps."""
    conclusion_bytes: float
    """Of the line that states the answer."""
    path_bytes: float | None
    """Of the reasoning with its conclusion that the items bring; None if they bring none."""
    max_tokens: int
    """Longest answer."""
    n_retries: int
    """How often a refused reasoning may be written again."""
    refused_share: float
    """Share of the reasonings that are expected to be refused, each time."""
    feedback_bytes: float
    """Of the message that sends a reasoning back."""


@runtime_checkable
class Strategy(Protocol):
    """The contract that every strategy class keeps; its fields are its YAML.

    For the plan, one that asks its teacher for more than answers says so with `writing(task)`, and
    one that knows beforehand what it will ask yields that from `asks(config, teacher, prompt)`, in
    order: answers that are kept from before are not paid again.
    """

    name: str
    n_items: int
    """Items after which the corpus is full."""

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield verified items with the text that the student is to learn."""
        ...


def planned_teacher(config: Config, plan: Plan, context: Context) -> Teacher:
    """Return the teacher that the plan chose, to be asked in the way that it chose.

    Raises:
        TeacherError: it is not among the configured ones, or has no key.
    """
    for teacher in config.teachers:
        if teacher.name == plan.teacher:
            return spread(_in_its_way(teacher, plan, context), context.engine)
    known = ", ".join(teacher.name for teacher in config.teachers)
    raise TeacherError(
        f"The plan's teacher {plan.teacher} is not configured (there are: {known}). "
        "Give the command that made the plan, or plan again with stages=[probe,plan,synthesize]."
    )


def _in_its_way(teacher: Teacher, plan: Plan, context: Context) -> Teacher:
    """Return a teacher that hands questions in as batches, where the plan counts with that."""
    hours = [role.hours for role in plan.roles_of("teacher") if role.as_batch]
    if not hours or getattr(teacher, "batch", False):
        return teacher
    if not isinstance(teacher, Batching):
        context.warn(
            f"The plan buys the answers of {teacher.name} as a batch, which its class does not "
            "offer: it is asked one by one, at the full price."
        )
        return teacher
    context.note(
        f"Teacher {teacher.name} is asked through its provider's batch API, as planned: answers "
        f"come within {counted(hours[0], 'hour', spec='g')}. To have them sooner, plan "
        "with limits.deadline_hours=…"
    )
    return teacher.as_batch()
