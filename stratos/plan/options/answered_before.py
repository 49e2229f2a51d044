"""Cached answers of a paid teacher, which a plan does not price again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stratos.config import Config
from stratos.ledger import Ledger
from stratos.plan.options.hosted import is_hosted
from stratos.records import TeacherProbe
from stratos.teachers.base import Batching
from stratos.teachers.cached import n_kept

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

    def _count(self, probed: TeacherProbe, strategy: Strategy) -> int:
        teachers = [one for one in self.config.teachers if one.name == probed.teacher]
        if not teachers or not is_hosted(probed.card):
            return 0
        teacher = teachers[0]
        questions = strategy.asks(self.config, teacher, probed.prompt, probed.max_tokens_by_prompt)
        if questions is None:
            return 0
        n = n_kept(teacher, questions, self.cache_dir)
        if self.ledger is not None and isinstance(teacher, Batching):
            n += self.ledger.batches.n_under_way(f"teacher {teacher.name}")
        return n
