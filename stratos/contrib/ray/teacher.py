"""A local teacher replicated on every node of a Ray cluster.

Only the answering is spread. What is asked, kept and paid is decided by the process that asks, so
that a question is asked again at most if the node died that was answering it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from stratos.core.chunk_engine import Engine, in_chunks
from stratos.core.reasons import Reason
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, CacheMode, Keep, Question, Teacher, Tick

A = TypeVar("A")


def spread(teacher: Teacher, engine: Engine) -> Teacher:
    """Return a teacher that answers on an engine's nodes; an endpoint's is asked from here."""
    if teacher.streams or not is_dataclass(teacher):
        return teacher
    return RayTeacher(teacher, engine)


class RayTeacher(Teacher):
    """A teacher of weights, all else of which is as it was.

    Args:
        teacher: a dataclass; each worker makes one with the same fields.
        engine: whose workers answer.
    """

    def __init__(self, teacher: Any, engine: Engine) -> None:
        self._teacher, self._engine = teacher, engine
        self.name: str = teacher.name
        self.cache: CacheMode = teacher.cache

    @property
    @override
    def draws(self) -> bool:
        draws: bool = self._teacher.draws
        return draws

    @override
    def unreachable(self) -> Reason | None:
        reason: Reason | None = self._teacher.unreachable()
        return reason

    @override
    def card(self) -> ModelCard:
        card: ModelCard = self._teacher.card()
        return card

    @override
    def identity(self) -> str:
        """Return that of the teacher: where it answers does not change what."""
        identity: str = self._teacher.identity()
        return identity

    @override
    def folder(self) -> Path | None:
        folder: Path | None = self._teacher.folder()
        return folder

    @override
    def too_long(self, question: Question) -> Reason | None:
        reason: Reason | None = self._teacher.too_long(question)
        return reason

    @override
    def close(self) -> None:
        """Free what was loaded here; workers end with their cluster, or keep the last of theirs."""
        self._teacher.close()

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        Raises:
            TeacherError: as the teacher raises it.
        """
        return self._spread(partial(_answer, self._fresh, max_tokens), chats, keep, tick)

    @property
    def _fresh(self) -> Any:
        """The teacher without what was loaded here: each worker loads its own weights."""
        return replace(self._teacher)

    def _spread(
        self,
        function: Callable[[list[A]], list[Answer]],
        asked: Sequence[A],
        keep: Keep | None,
        tick: Tick | None = None,
    ) -> list[Answer]:
        """Let workers answer chunks of what is asked."""
        chunks = in_chunks(asked, self._teacher.batch_size)
        answers: list[Answer] = []
        for made in self._engine.map(function, chunks, n_gpus=1):
            for answer in made:
                if keep is not None:
                    keep(len(answers), answer)
                answers.append(answer)
            if tick is not None:
                tick(len(answers), len(asked))
        return answers

    @override
    def sample(self, questions: Sequence[Question], keep: Keep | None = None) -> list[Answer]:
        """Answer questions in the order given, each up to its own length."""
        return self._spread(partial(_sample, self._fresh), questions, keep)


def _answer(teacher: Teacher, max_tokens: int, chats: list[list[Message]]) -> list[Answer]:
    return teacher.ask(chats, max_tokens)


def _sample(teacher: Teacher, questions: list[Question]) -> list[Answer]:
    return teacher.sample(questions)
