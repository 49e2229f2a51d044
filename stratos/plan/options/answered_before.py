"""Cached answers of a paid teacher, which a plan does not price again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stratos.config import Config
from stratos.ledger import Ledger
from stratos.plan.options.hosted import is_hosted
from stratos.records import Probe, TeacherProbe
from stratos.teachers.base import Question, Teacher
from stratos.teachers.cache import n_kept

if TYPE_CHECKING:
    from stratos.synthesize.strategy import Strategy


@dataclass(frozen=True)
class Kept:
    """Counts the answers in a cache folder that a strategy would ask for; each pair once.

    Where nothing is paid for an answer, it is counted as asked for: its hours belong to what is
    compared with other servers. So are answers that nobody can foretell the question of (a
    reasoning that is written again), and those of the evaluation.
    """

    config: Config
    cache_dir: Path
    ledger: Ledger | None = None
    """Of the run: what a batch asks that an earlier process handed in is paid already."""
    _counts: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False)
    _after_deploy: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def n_answers(self, probed: TeacherProbe, strategy: Strategy) -> int:
        """Return how many of the answers are there.

        Args:
            probed: the teacher, as the probe saw it.
            strategy: says what it will ask with `asks`; for one that cannot, none are counted.
        """
        key = (probed.teacher, strategy.name)
        if key not in self._counts:
            self._counts[key] = self._count(probed, strategy)
        return self._counts[key]

    def n_after_deploy(self, probe: Probe, probed: TeacherProbe) -> int:
        """Return how many answers that rooms ask for once the student is served are not there yet.

        Args:
            probe: says which items are read.
            probed: the teacher.
        """
        if probed.teacher not in self._after_deploy:
            teacher, questions = _after_deploy(self.config, probe, probed)
            n = 0 if teacher is None else n_kept(teacher, questions, self.cache_dir)
            self._after_deploy[probed.teacher] = len(questions) - n
        return self._after_deploy[probed.teacher]

    def _count(self, probed: TeacherProbe, strategy: Strategy) -> int:
        teacher = _teacher(self.config, probed)
        if teacher is None or not is_hosted(probed.card):
            return 0
        questions = strategy.asks(self.config, teacher, probed.prompt, probed.max_tokens_by_prompt)
        if questions is None:
            return 0
        n = n_kept(teacher, questions, self.cache_dir)
        if self.ledger is not None and teacher.takes_batches:
            n += self.ledger.batches.n_under_way(f"teacher {teacher.name}")
        return n


def n_after_deploy(config: Config, probe: Probe, probed: TeacherProbe) -> int:
    """Return how many answers rooms ask for once the student is served, there already or not.

    Args:
        config: of the run.
        probe: says which items are read.
        probed: the teacher.
    """
    return len(_after_deploy(config, probe, probed)[1])


def _after_deploy(
    config: Config, probe: Probe, probed: TeacherProbe
) -> tuple[Teacher | None, list[Question]]:
    teacher = _teacher(config, probed)
    if teacher is None or not is_hosted(probed.card):
        return teacher, []
    rooms = config.rooms.values()
    return teacher, [
        question
        for room in rooms
        for question in room.questions_after_deploy(config, probe, probed, teacher)
    ]


def _teacher(config: Config, probed: TeacherProbe) -> Teacher | None:
    return next((one for one in config.teachers if one.name == probed.teacher), None)
