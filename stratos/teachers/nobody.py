"""No teacher: a student learns from the answers of the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.core.intervals import wilson
from stratos.records import NO_TEACHER, Interval, ModelCard, TeacherProbe
from stratos.tasks.base import Message
from stratos.teachers.base import FACTS, Answer, CacheMode, Keep, Teacher, Tick

_FREE: dict[str, Any] = {
    **dict.fromkeys(FACTS, 0),
    "usd_per_million_input_tokens": 0.0,
    "usd_per_million_output_tokens": 0.0,
}


@dataclass
class Nobody(Teacher):
    """Stands where a run has no teacher; it is never asked."""

    name: str = NO_TEACHER
    """Name shown in tables and in the plan."""

    cache: ClassVar[CacheMode] = "off"  # type: ignore[misc]

    @override
    def card(self) -> ModelCard:
        return ModelCard(name=self.name, **_FREE)

    @override
    def identity(self) -> str:
        return NO_TEACHER

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        raise TeacherError(
            "The run has no teacher to ask. Name one with teacher=<name> (teacher=smollm2 runs on "
            "this machine)."
        )

    @override
    def measure(self, context: Context) -> TeacherProbe:
        return TeacherProbe(
            teacher=self.name,
            card=self.card(),
            prompt="default",
            n_items=0,
            exact=Interval(0.0, 0.0, 1.0, "no teacher", is_known=False),
            choice=wilson(0, 0),
            exact_by_slice={},
            parsable=0.0,
            echoes=0.0,
            input_tokens=0,
            output_tokens=0,
            seconds=0.0,
            cpu_seconds=0.0,
            usd=0.0,
            n_cached=0,
            is_nobody=True,
        )
