"""A log, and what it proves of the model that wrote its answers."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from stratos.contrib.logs.words import Doubt
from stratos.core.intervals import wilson
from stratos.core.printable import shown
from stratos.records import LoggedVersus
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Answered, Item, Message, Task


@dataclass(frozen=True)
class LoggedModel:
    """The model that wrote most answers of a log, by those of the validation time."""

    name: str
    """As the log has it; "" where it names none."""
    n_rows: int
    """Answers that were looked at."""
    doubts: Counter[Doubt] = field(default_factory=Counter)
    """Why to how many of them are doubtful."""
    is_checked: bool = True
    """False where nothing in the log could show that an answer is wrong."""
    input_tokens: tuple[float, ...] = ()
    """Of each answer that was looked at."""
    output_tokens: tuple[float, ...] = ()
    are_counted: bool = True
    """False where the log does not say tokens, so that they are told by the length of the texts."""

    @property
    def n_held(self) -> int:
        """How many of the answers nothing speaks against."""
        return self.n_rows - self.doubts.total()


class Log(Task):
    """A task whose rows are the logged answers of a model."""

    @property
    @abstractmethod
    def logged(self) -> LoggedModel:
        """What the log proves of the model that answered."""

    @abstractmethod
    def logged_answer(self, chat: Sequence[Message]) -> AnswerText | None:
        """Return what the logged model answered to a chat of a training row; None if it did not.

        Held-out rows are none of its answers here: theirs are what all others are compared with.
        """

    @abstractmethod
    def doubted(self, n: int, seed: int = 0) -> list[Item]:
        """Return up to `n` requests of the test time whose logged answer is doubtful.

        Each has that answer: no test item is among them.
        """

    @abstractmethod
    def doubt(self, item: Item, text: str) -> Doubt | None:
        """Return what is doubtful about an answer to a request of the log; None where nothing is.

        The same checks find the logged answers that are doubtful.
        """


def mean_and_deviation(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation; zeros of nothing."""
    found = list(values)
    return (fmean(found), pstdev(found)) if found else (0.0, 0.0)


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
