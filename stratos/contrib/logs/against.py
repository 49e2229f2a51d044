"""The student against the model that wrote the task's log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stratos.contrib.logs.logged_model import Log
from stratos.core.intervals import wilson
from stratos.core.printable import shown
from stratos.records import LoggedVersus
from stratos.tasks.base import Answered, Item


@dataclass(frozen=True)
class AgainstLog:
    """The side test of a log: requests of the test time whose logged answer is doubtful."""

    log: Log
    items: list[Item]
    """They are the same share of all of them that the test items are of the test split."""

    @staticmethod
    def of(log: Log, items: Sequence[Item], seed: int) -> AgainstLog | None:
        """Return the test beside some test items; None where the log proves nothing."""
        if not log.logged.is_checked:
            return None
        doubted = log.doubted(log.n_test, seed)
        return AgainstLog(log, doubted[: round(len(doubted) * len(items) / max(1, log.n_test))])

    def compare(self, test: Sequence[Answered], beside: Sequence[Answered]) -> LoggedVersus:
        """Compare the student with the logged model.

        Args:
            test: the student's answers to test items, whose logged answers pass all checks.
            beside: those to requests of the same time whose logged answer does not.
        """
        from stratos.evaluate.metrics import mcnemar_exact  # with the package of the stage

        agree = [one.score.exact >= 1 for one in test]
        doubts = [self.log.doubt(one.item, one.text) for one in (*test, *beside)]
        n, n_doubtful = len(test) + len(beside), len(beside)
        only_student, only_logged = doubts[len(test) :].count(None), agree.count(False)
        counts = Counter(str(doubt) for doubt in doubts if doubt is not None)
        return LoggedVersus(
            model=shown(self.log.logged.name) or "the logged model",
            n_items=n,
            n_doubtful=n_doubtful,
            student_passes=wilson(sum(agree) + only_student, n),
            logged_passes=wilson(n - n_doubtful, n),
            only_student=only_student,
            only_logged=only_logged,
            p_value=mcnemar_exact(only_student, only_logged),
            agrees=wilson(sum(agree), len(agree)),
            student_doubts=dict(counts.most_common()),
        )
