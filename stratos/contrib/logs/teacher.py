"""The model whose answers a log has: they are kept answers, and nobody is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from stratos.contrib.logs.logged_model import Log
from stratos.contrib.logs.proof import in_words, proof_of
from stratos.contrib.logs.words import NoCard, NoLog
from stratos.core.context import Context
from stratos.core.errors import TeacherError, did_you_mean
from stratos.core.printable import shown
from stratos.core.reasons import Reason
from stratos.records import ModelCard, TeacherProbe
from stratos.tasks.base import Message, Task
from stratos.teachers.base import FACTS, STOP, Answer, CacheMode, Keep, Teacher, Tick
from stratos.teachers.lifetime import card_of, shipped_teachers
from stratos.teachers.openai_settings import OpenAISettings

KIND = "logged_model"
_UNKNOWN: dict[str, Any] = dict.fromkeys(FACTS, 0)


@dataclass
class LoggedTeacher(Teacher):
    """Gives the answers of the task's log again; it has no others, and no key."""

    name: str = KIND
    """Name shown in tables and in the plan."""
    price_of: str | None = None
    """Card of `teacher=` at whose price its answers count; null takes that of the logged model."""
    log: Log | None = field(init=False, default=None, repr=False)
    """The task of the run; a run without a log leaves this teacher out."""

    cache: ClassVar[CacheMode] = "off"  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Check that the card is there.

        Raises:
            ValueError: it is not.
        """
        if self.price_of is None:
            return
        names = [card.name for card in shipped_teachers()]
        if self.price_of not in names:
            raise ValueError(
                f"price_of={self.price_of}: there is no such card."
                f"{did_you_mean(self.price_of, names)} Known: {', '.join(names)}."
            )

    @override
    def of(self, task: Task) -> LoggedTeacher | None:
        """Return the same teacher for a log; None of another task."""
        own = (one for one in task.teachers() if isinstance(one, LoggedTeacher))
        return next((self.of_log(one.log) for one in own if one.log is not None), None)

    def of_log(self, log: Log) -> LoggedTeacher:
        """Return the same teacher for a log."""
        teacher = LoggedTeacher(self.name, self.price_of)
        teacher.log = log
        return teacher

    @override
    def measure(self, context: Context) -> TeacherProbe:
        """Return what the log proves, and say it, with what the terms of the model forbid."""
        assert self.log is not None
        probe = proof_of(self.log.logged, self.name, self.card())
        context.note(in_words(probe))
        card = self.settings
        if card is not None and card.outputs_may_train is False:
            context.warn(
                f"The terms of {card.model} ({card.license}) do not allow to train competing "
                "models on its answers. Make sure that you may."
            )
        return probe

    @property
    def model(self) -> str:
        """Name of the model, as the log has it; "" where it names none."""
        return "" if self.log is None else shown(self.log.logged.name)

    @property
    def settings(self) -> OpenAISettings | None:
        """The card at whose price its answers count; None where there is none."""
        if self.price_of is not None:
            return next(card for card in shipped_teachers() if card.name == self.price_of)
        return card_of(self.model) if self.model else None

    @override
    def unreachable(self) -> Reason | None:
        """Return why the log cannot stand in for its model, or None."""
        if self.log is None:
            return NoLog()
        return NoCard(self.model, KIND) if self.settings is None else None

    @override
    def card(self) -> ModelCard:
        """Return the price of the model, by its card."""
        card = self.settings
        if card is None:
            return ModelCard(name=self.model or self.name, **_UNKNOWN)
        facts: dict[str, Any] = {**_UNKNOWN, **card.facts}
        return ModelCard(
            **facts,
            name=self.model or self.name,
            license=card.license,
            usd_per_million_input_tokens=card.usd_per_million_input_tokens,
            usd_per_million_output_tokens=card.usd_per_million_output_tokens,
            price_date=card.price_date,
            price_source=card.price_source,
            retires=card.retires,
            retires_source=card.retires_source,
        )

    @override
    def identity(self) -> str:
        """Return what its answers depend on: the rows of the log."""
        return f"{KIND} {self.log.content_sha256 if self.log is not None else ''}"

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Return what was logged for each chat of a training row.

        Raises:
            TeacherError: one of them is not in the log.
        """
        answers = []
        for place, chat in enumerate(chats):
            text = None if self.log is None else self.log.logged_answer(chat)
            if text is None:
                raise TeacherError(
                    f"{self.name} is known by its log alone, which has no answer to "
                    f'"{shown(chat[-1]["content"])}". Name a teacher that can be asked: teacher=…'
                )
            answer = Answer(text, 0, 0, 0.0, cached=True, finish=STOP)
            answers.append(answer)
            if keep is not None:
                keep(place, answer)
            if tick is not None:
                tick(place + 1, len(chats))
        return answers
