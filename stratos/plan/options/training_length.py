"""The training length of a candidate, by the same rule as the training.

File tasks have so many rows to learn from, and a strategy takes so many of them, or makes so many;
of those that a teacher answers, the share that it answers right. What a row takes in the student's
tokens is counted on a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stratos.config import Config, StudentConfig
from stratos.core.by_name import named
from stratos.distill.counting import counter
from stratos.distill.recipe import Length, training_length
from stratos.estimate import constants as k
from stratos.records import ModelCard, TeacherProbe
from stratos.tasks.base import Item, Message

if TYPE_CHECKING:
    from stratos.synthesize.strategy import Strategy

_N_SAMPLE = 512
"""Rows that are counted."""
_MOST_SORTED = 20_000
"""Training rows up to which the sample is of them; more would have to be sorted first, and the
validation rows are sorted already."""
_BYTES_PER_TOKEN = 4.0
"""Of an answer of a teacher."""
_SHARE_OF_LIMIT = 0.5
"""How much of the longest answer a reasoning takes that a teacher is to write."""


@dataclass
class Lengths:
    """The lengths of a run's trainings; what they rest on is counted once."""

    config: Config
    _by_row: dict[Any, float] = field(default_factory=dict)

    def of(self, teacher: TeacherProbe, strategy: Strategy, student: StudentConfig) -> Length:
        """Return how long a student will be trained by a strategy on what a teacher gives.

        Args:
            teacher: what the probe saw.
            strategy: the configured one.
            student: the student.
        """
        n_rows = expected_rows(self.config, teacher, strategy)
        per_row = self._tokens_per_row(teacher, strategy, student)
        return training_length(self.config.trainer, student, n_rows, per_row)

    def of_card(self, teacher: TeacherProbe, strategy: Strategy, card: ModelCard) -> Length:
        """Return the same of the student that has a card."""
        return self.of(teacher, strategy, self.student(card))

    def longest(self, teachers: Sequence[TeacherProbe], card: ModelCard) -> Length:
        """Return the longest training of a student by any strategy on what any teacher gives."""
        return max(
            (
                self.of_card(teacher, strategy, card)
                for teacher in teachers
                for strategy in self.config.strategies
            ),
            key=lambda length: length.tokens,
        )

    def student(self, card: ModelCard) -> StudentConfig:
        """Return the config of the student that has a card."""
        return named(self.config.students, card.name)

    def _tokens_per_row(
        self, teacher: TeacherProbe, strategy: Strategy, student: StudentConfig
    ) -> float:
        """Return the mean tokens of a row, prompt and answer."""
        answers = self._answer_bytes(teacher, strategy)
        key = (student.name, student.path, student.vocab_size, answers)
        if key not in self._by_row:
            # What nobody has written yet is as long as so much of other text.
            rows = [
                (chat, answer if answers is None else _like(answer, answers))
                for chat, answer in self._rows_of(student)
            ]
            count = counter(student, self.config.task.vocabulary(), rows, self.config.cache_dir)
            n_tokens = [min(count(*row), student.context_length) for row in rows]
            assumed = k.STUDENT_PROMPT_TOKENS + k.ASSUMED_ANSWER_TOKENS
            self._by_row[key] = sum(n_tokens) / len(rows) if rows else assumed
        return self._by_row[key]

    def _answer_bytes(self, teacher: TeacherProbe, strategy: Strategy) -> int | None:
        """Return the bytes of an answer that is learned, where it is not the task's own text."""
        declared = self.config.complexity.path_tokens
        if declared:
            return round(_BYTES_PER_TOKEN * declared)
        if strategy.learns_teacher:
            return round(_BYTES_PER_TOKEN * teacher.output_tokens / max(1, teacher.n_items))
        has_paths = any(item.rationale for item in self._items)
        if has_paths or not self.config.task.can_reverse:
            return None
        if (sizes := strategy.writing(self.config.task)) is not None:
            return round(_SHARE_OF_LIMIT * _BYTES_PER_TOKEN * sizes.max_tokens)
        return None

    @cached_property
    def _items(self) -> Sequence[Item]:
        task = self.config.task
        n_train = n_labelled(self.config)
        if n_train is not None and n_train <= _MOST_SORTED:
            return task.items("train", min(n_train, _N_SAMPLE))
        return task.items("validation", _N_SAMPLE // 8)

    def _rows_of(self, student: StudentConfig) -> list[tuple[list[Message], str]]:
        """Return what a student reads; one that starts from a model, the instruction too."""
        told = self.config.task.system_prompt
        if student.path is None or not told:
            return self._rows
        return [
            ([{"role": "system", "content": told}, *chat], answer) for chat, answer in self._rows
        ]

    @cached_property
    def _rows(self) -> list[tuple[list[Message], str]]:
        task = self.config.task
        return [(task.student_messages(item), task.completion(item)) for item in self._items]


def expected_rows(config: Config, teacher: TeacherProbe, strategy: Strategy) -> float:
    """Return how many rows a strategy is expected to make of a task.

    Two digits of what teachers answer right, so that teachers that are about as good share a work.
    """
    n_items, n_train = strategy.n_items, n_labelled(config)
    n = min(n_items, n_train or n_items)
    if strategy.adds_rows:
        added = float(f"{strategy.n_added(config.task, teacher.exact.mean):.2g}")
        return min(n_items, n + added)
    if not strategy.learns_teacher:
        return n
    return max(1.0, float(f"{n * teacher.exact.mean:.2g}"))


def n_labelled(config: Config) -> int | None:
    """Return how many training items the task has; None where it makes as many as are asked."""
    return config.task.n_train if config.task.has_rows else None


def _like(text: str, n_bytes: int) -> str:
    """Return a text of so many bytes that is cut like another."""
    text = text or "x "
    return (text * (n_bytes // max(1, len(text.encode())) + 1))[:n_bytes]
