"""An interview from kept answers alone: whether anything would still be asked, and paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stratos.probe.questioning import Questioning
from stratos.teachers.base import Answer, Question
from stratos.teachers.cache import kept_answers_of


class NotKeptError(Exception):
    """An answer would have to be asked for."""


@dataclass
class Rehearsal(Questioning):
    """Asks nobody and says nothing: it takes the answers that are kept."""

    n_kept: int = 0

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the kept answers to questions.

        Raises:
            NotKeptError: one is not kept.
        """
        found = kept_answers_of(self.teacher, questions, self.context.cache_dir)
        if found is None:
            raise NotKeptError
        self.n_kept += len(found)
        return [replace(answer, cached=True) for answer in found]

    def foretell_longer(self, questions: Sequence[Question]) -> None:
        """Say nothing."""

    def foretell_again(self, questions: Sequence[Question]) -> None:
        """Say nothing."""
