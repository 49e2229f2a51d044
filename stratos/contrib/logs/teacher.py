"""The model whose answers a log has: they are kept answers, and nobody is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any, ClassVar

from typing_extensions import override

from stratos.contrib.logs.words import Doubt, NoCard, NoLog
from stratos.core.context import Context
from stratos.core.errors import StratosError, TeacherError, did_you_mean
from stratos.core.formats import counted, shown
from stratos.core.intervals import wilson
from stratos.core.pairs import mcnemar_exact
from stratos.core.reasons import Reason
from stratos.records import (
    AnswerSpread,
    Interval,
    LoggedProof,
    LoggedVersus,
    ModelCard,
    TeacherProbe,
)
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Answered, Item, Message, Task
from stratos.teachers.base import FACTS, STOP, Answer, CacheMode, Keep, Teacher, Tick
from stratos.teachers.openai_settings import OpenAISettings, card_of, shipped_teachers


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
    numbers = list(values)
    return (fmean(numbers), pstdev(numbers)) if numbers else (0.0, 0.0)


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
        agree = [answered.score.exact >= 1 for answered in test]
        doubts = [self.log.doubt(answered.item, answered.text) for answered in (*test, *beside)]
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


_AS_LOGGED = "zero_shot"
"""The prompt of chats as they were logged."""
_NOTHING = Interval(0.5, 0.0, 1.0, "nothing in the log could show a wrong answer", is_known=False)


def proof_of(model: LoggedModel, teacher: str, card: ModelCard) -> TeacherProbe:
    """Return what the answers of the validation time prove of their model.

    Its accuracy is at most the share of them that nothing speaks against: no check tells a wrong
    answer that looks like a right one.

    Args:
        model: of the log.
        teacher: name of the teacher that gives its answers again.
        card: of the model.
    """
    input_tokens, of_input = mean_and_deviation(model.input_tokens)
    output_tokens, of_output = mean_and_deviation(model.output_tokens)
    n = model.n_rows
    source = f"{counted(n, 'logged answer', spec=',')}, by the checks of the log: an upper bound"
    doubts = {str(doubt): n_doubted for doubt, n_doubted in model.doubts.items()}
    return TeacherProbe(
        teacher=teacher,
        card=card,
        prompt=_AS_LOGGED,
        n_items=n,
        exact=wilson(model.n_held, n, source=source) if model.is_checked and n else _NOTHING,
        choice=wilson(0, 0),
        exact_by_slice={},
        parsable=1.0,
        echoes=0.0,
        input_tokens=round(input_tokens * n),
        output_tokens=round(output_tokens * n),
        seconds=0.0,
        cpu_seconds=0.0,
        usd=0.0,
        n_cached=n,
        spread=AnswerSpread(of_input, of_output, 0.0) if n > 1 else None,
        logged=LoggedProof(model.name, model.is_checked, doubts, model.are_counted),
    )


def in_words(probe: TeacherProbe) -> str:
    """Return as a sentence what the log proves."""
    proof = probe.logged
    assert proof is not None
    n = counted(probe.n_items, "answer", spec=",")
    guess = (
        ""
        if proof.are_counted
        else " The log does not say all tokens: four characters count as one."
    )
    if not proof.is_checked:
        return (
            f"{proof.model} is known by its log: nothing in it could show that one of its {n} of "
            f"the validation time is wrong.{guess}"
        )
    reasons = "; ".join(f"{k:,} × {reason}" for reason, k in proof.doubts.items())
    against = f" Doubtful: {reasons}." if reasons else ""
    return (
        f"{proof.model} is known by its log: nothing speaks against {probe.exact.mean:.1%} of its "
        f"{n} of the validation time, which is an upper bound of its accuracy.{against}{guess}"
    )


def shipped_card(name: str, setting: str) -> OpenAISettings:
    """Return the shipped card of a name, as `teacher=` takes it.

    Args:
        name: of the card.
        setting: by which it was named, as a message shows it before the name.

    Raises:
        StratosError: there is none.
    """
    cards = {card.name: card for card in shipped_teachers()}
    if name not in cards:
        raise StratosError(
            f"{setting}{name}: there is no such card.{did_you_mean(name, cards)} "
            f"Known: {', '.join(cards)}."
        )
    return cards[name]


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
        if self.price_of is not None:
            try:
                shipped_card(self.price_of, "price_of=")
            except StratosError as error:
                raise ValueError(str(error)) from error

    @override
    def of(self, task: Task) -> LoggedTeacher | None:
        """Return the same teacher for a log; None of another task."""
        own = (teacher for teacher in task.teachers() if isinstance(teacher, LoggedTeacher))
        return next((self.of_log(teacher.log) for teacher in own if teacher.log is not None), None)

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
            return shipped_card(self.price_of, "price_of=")
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
        for index, chat in enumerate(chats):
            text = None if self.log is None else self.log.logged_answer(chat)
            if text is None:
                raise TeacherError(
                    f"{self.name} is known by its log alone, which has no answer to "
                    f'"{shown(chat[-1]["content"])}". Name a teacher that can be asked: teacher=…'
                )
            answer = Answer(text, 0, 0, 0.0, cached=True, finish=STOP)
            answers.append(answer)
            if keep is not None:
                keep(index, answer)
            if tick is not None:
                tick(index + 1, len(chats))
        return answers
