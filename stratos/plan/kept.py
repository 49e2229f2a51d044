"""What a paid teacher answered before, for this run or another: it is not paid again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.plan.hosted import is_hosted
from stratos.records import TeacherProbe
from stratos.teachers.kept import n_kept


@dataclass(frozen=True)
class Kept:
    """Counts the answers in a cache folder that a strategy would ask for; each pair once.

    Where nothing is paid for an answer, it is counted as asked for: its hours belong to what is
    compared with other servers. So are answers that nobody can foretell the question of (a
    reasoning that is written again), and those of the evaluation.
    """

    config: Config
    cache_dir: Path
    _counts: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False)

    def n_answers(self, probed: TeacherProbe, strategy: Any) -> int:
        """Return how many of the answers are there.

        Args:
            probed: the teacher, as the probe saw it.
            strategy: says what it will ask with `asks`; for one that does not, none are counted.
        """
        key = (probed.teacher, strategy.name)
        if key not in self._counts:
            self._counts[key] = self._count(probed, strategy)
        return self._counts[key]

    def _count(self, probed: TeacherProbe, strategy: Any) -> int:
        asks = getattr(strategy, "asks", None)
        teachers = [one for one in self.config.teachers if one.name == probed.teacher]
        if asks is None or not teachers or not is_hosted(probed.card):
            return 0
        teacher = teachers[0]
        return n_kept(teacher, asks(self.config, teacher, probed.prompt), self.cache_dir)
