"""The base class of strategies: one class and one YAML define how training items are made.

A strategy of your own is a frozen dataclass below `Strategy` whose fields are its YAML. It writes
`draw`; all else has a default that is documented here and may be overridden. The class says what a
strategy is. Its `name` is a label for tables and files: another one changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.core.values import find
from stratos.tasks.base import Item, Task

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.core.context import Context
    from stratos.distill.signal_config import OnPolicyConfig, SignalConfig
    from stratos.records import Interval, Plan, TeacherProbe
    from stratos.teachers.base import Question, Teacher


class NotLearnt(Reason, StrEnum):
    """Why none of a teacher's answers to a question is learnt; a record counts under the value."""

    WRONG = "wrong"
    UNREAD = "longer than the teacher's context"
    CUT_OFF = "cut off"
    UNPARSABLE = "not parsable"
    OUTVOTED = "outvoted"


class NotWritten(Reason, Enum):
    """Why an item has no reasoning of the teacher; a record counts under the value."""

    NO_MONEY = "no reasoning written"
    UNREAD = NotLearnt.UNREAD.value
    MENTIONS_ANSWER = "the reasoning mentions that it was told the answer"
    NO_REASONING = "there is no reasoning"
    OTHER_ANSWER = "the reasoning ends in another answer"
    LEADS_ELSEWHERE = "the reasoning does not lead to the answer"

    def __str__(self) -> str:
        return f"{self.value}: budget used up" if self is NotWritten.NO_MONEY else self.value


class WrongReasoning(Reason):
    """A step of the teacher's reasoning is wrong, by the task."""

    reason: Reason

    def __str__(self) -> str:
        return f"a step is wrong: {shown(str(self.reason))}"


def counted_as(reason: Reason) -> str:
    """Return what a record counts an item under that has no reasoning of the teacher."""
    return reason.value if isinstance(reason, NotWritten) else "a step is wrong"


class NoStrategy(Reason, StrEnum):
    """Why a class is no strategy that a run can take."""

    OTHER_BASE = (
        "is not a Strategy. Let it inherit from stratos.synthesize.strategy.Strategy, and "
        "write draw."
    )
    LACKS_DRAW = "is not a Strategy: it lacks draw."


Limits: TypeAlias = Mapping[str, int]
"""Prompt to the longest answer under it, in tokens."""
NO_LIMITS: Limits = MappingProxyType({})
MIN_COVERAGE = 0.3
"""Least accuracy of a teacher whose answers are learnt, where the strategy does not say."""


class Family(Enum):
    """What the training items of a strategy are."""

    ALIGNMENT = "alignment"
    """Answers of a teacher, verified by the task."""
    INJECTION = "injection"
    """Questions that the task builds from known answers."""
    ROWS = "rows"
    """The labelled rows of a file, alone or with rows that a teacher adds."""
    OWN = "own"
    """None of these: it may be taken from any teacher for any student."""


@dataclass(frozen=True)
class Threshold:
    """The least share of validation items that a teacher must answer exactly."""

    share: float
    key: str = "min_coverage"
    """The setting that it comes from."""
    of_interval: Literal["mean", "low"] = "mean"
    """What must reach it: the measured share, or the low end of its interval."""


@dataclass
class Tally:
    """What drawing items took, and what was refused on the way."""

    refused: Counter[str] = field(default_factory=Counter)
    first_problem: str = ""
    """What was wrong with the first item that did not verify."""
    teacher_tokens: int = 0
    usd: float = 0.0
    n_answers: int = 0
    """Answers of the teacher."""
    n_truncated: int = 0
    """Those of them that were cut at the longest length."""
    sources: dict[str, str] = field(default_factory=dict)
    """Id of an item that a teacher added to the rows of a file, to how."""
    agreement: dict[str, float] = field(default_factory=dict)
    """Id of an item that a teacher labelled, to the share of its answers that are the label."""
    rows_to_label: str | None = None
    """File that lists rows worth labelling by hand; None where there are none."""
    n_rows_to_label: int = 0


@dataclass(frozen=True)
class Writing:
    """Reasoning, or wording, that a teacher is to write, as far as it is known beforehand.

    Sizes are means.
    """

    n_items: int
    """Those that it is asked for."""
    request_bytes: float
    """Of the chat that asks for a reasoning."""
    reading_bytes: float
    """Of the chat that reads one again, without the reasoning itself."""
    read_share: float
    """Share of reasonings that are read again, because the task cannot check their steps."""
    conclusion_bytes: float
    """Of the line that states the answer."""
    path_bytes: float | None
    """Of the reasoning with its conclusion that the items bring; None if they bring none."""
    max_tokens: int
    """Longest answer."""
    n_retries: int
    """How often a refused reasoning may be written again."""
    refused_share: float
    """Share of the reasonings that are expected to be refused, each time."""
    feedback_bytes: float
    """Of the message that sends a reasoning back."""
    is_learnt: bool = True
    """Whether the student learns to write it: not where it is the question in other words."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to draw verified training items, and what a plan and a training must know of it."""

    name: str
    """Label in tables, records and files; unique in a run, and without any other meaning."""
    n_items: int
    """Items after which the corpus is full."""

    code_version: ClassVar[int] = 1
    """Raised when the code of the class makes other items of the same settings: records are made
    anew then."""
    family: ClassVar[Family] = Family.OWN
    """What its items are. The rules of a family apply to all its strategies."""
    kind: ClassVar[str] = ""
    """What the class is called in the cards of students and in `complexity.strategies`: the default
    of its `name`, or the class itself where that has none."""
    labels_rows: ClassVar[bool] = False
    """Whether a teacher labels the rows of the file that have no answer."""
    writes_rows: ClassVar[bool] = False
    """Whether a teacher writes rows beside those of the file."""
    samples_key: ClassVar[str] = "n_samples"
    """The setting that says how many answers a question takes at most."""

    taught_by: ClassVar[tuple[str, ...]] = ()
    """Settings that decide what the student is taught, beside the class. The runs on the cards of
    students were made with their defaults, and speak for no other value."""

    def __init_subclass__(cls, **given: Any) -> None:
        """Give the class its `kind`, unless it states one itself."""
        super().__init_subclass__(**given)
        if "kind" not in vars(cls):
            label = vars(cls).get("name")
            cls.kind = label if isinstance(label, str) else f"{cls.__module__}.{cls.__qualname__}"

    @abstractmethod
    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield verified items with the text that the student is to learn."""

    # --- what its items are -----------------------------------------------------------------------

    @property
    def learns_teacher(self) -> bool:
        """Whether the student learns what a teacher answers, so that a better one teaches more."""
        return self.family is Family.ALIGNMENT

    @property
    def makes_questions(self) -> bool:
        """Whether the task builds the questions from their answers, which are all right."""
        return self.family is Family.INJECTION

    @property
    def learns_rows(self) -> bool:
        """Whether the labelled rows of a file are learnt as they are."""
        return self.family is Family.ROWS

    @property
    def adds_rows(self) -> bool:
        """Whether a teacher adds rows to the labelled ones of a file."""
        return self.labels_rows or self.writes_rows

    @property
    def writes_reasoning(self) -> bool:
        """Whether a teacher writes the reasoning that leads to a known answer."""
        return False

    @property
    def words_questions(self) -> bool:
        """Whether a teacher says the questions that a task makes in words of its own."""
        return False

    def learnt(self, task: Task, item: Item) -> str:
        """Return what the student learns to write for an item, as far as the item has it."""
        return task.completion(item)

    @property
    def near_duplicate_share(self) -> float:
        """Share of word triples in common from which a question is left out; 0 keeps all."""
        return 0.0

    @property
    def teaches_as_recorded(self) -> bool:
        """Whether its student is taught what the runs on the cards were taught."""
        return all(
            getattr(self, setting.name) == setting.default
            for setting in fields(self)
            if setting.name in self.taught_by
        )

    # --- whether it may be taken ------------------------------------------------------------------

    def coverage(self, beside_right: bool) -> Threshold | None:
        """Return what a teacher must know of the task; None where that does not matter.

        Args:
            beside_right: another strategy may be taken whose items are all right.
        """
        return Threshold(MIN_COVERAGE) if self.learns_teacher else None

    @property
    def least_entropy_nats(self) -> float:
        """Least entropy of the teacher's next token, below which its text says as much."""
        return 0.0

    def why_alone(self) -> str:
        """Say why a plan takes it where no other strategy could be taken."""
        if self.makes_questions:
            return (
                f"{self.name} is the strategy that is left: the task makes its own verified "
                "questions and reasoning paths, so the teacher need not know the answers."
            )
        return f"{self.name} is the only strategy that could be taken."

    def accuracy_before_training(self, teacher: TeacherProbe) -> Interval | None:
        """Return the accuracy that bounds the student's before any was trained; None if none does.

        Its high end is the most that is expected. Where nothing is known of any pair, its mean
        says which is tried first.
        """
        return teacher.exact if self.learns_teacher else None

    # --- what it asks of a teacher ----------------------------------------------------------------

    def n_questions(self, task: Task) -> int:
        """Return how many questions a teacher is asked for the corpus."""
        if not self.learns_teacher:
            return 0
        return min(self.n_items, task.n_train or self.n_items)

    def most_samples(self, config: Config) -> int:
        """Return how many answers a question takes at most."""
        return 1

    def fewest_samples(self, config: Config) -> int:
        """Return how many answers a question takes whose answers are all right."""
        return self.most_samples(config)

    @property
    def longest_answer_tokens(self) -> int | None:
        """Longest answer of a teacher that the strategy sets; None takes that of the probe."""
        return None

    def asks(
        self, config: Config, teacher: Teacher, prompt: str, max_tokens: Limits = NO_LIMITS
    ) -> Iterator[Question] | None:
        """Return the most that a teacher will be asked, in order; None if nobody can foretell it.

        Answers to these that are kept from before are not paid again.

        Args:
            config: the run.
            teacher: a configured one.
            prompt: the task's prompt that is tried first.
            max_tokens: longest answer under each prompt that the probe tried.
        """
        return None

    def writing(self, task: Task) -> Writing | None:
        """Return the reasoning or wording that a teacher is to write; None where it writes none."""
        return None

    # --- rows that a teacher adds to those of a file ----------------------------------------------

    def coverage_corrected(self) -> Threshold | None:
        """Return what it must know of the task where gold labels correct its labels."""
        return self.coverage(beside_right=True)

    def n_added(self, config: Config, covered: float) -> float:
        """Return how many rows are expected to be added.

        Args:
            config: of a run whose task is a file.
            covered: share of validation items that the teacher answers exactly.
        """
        return 0.0

    def added(self, config: Config, teacher: str, covered: float) -> str:
        """Say what is added to the labelled rows, as sentences for the plan; "" for nothing."""
        return ""

    # --- how the student is trained ---------------------------------------------------------------

    @property
    def signal(self) -> SignalConfig | None:
        """What it wants of a teacher's distribution; None where it learns from text alone."""
        return None

    @property
    def on_policy(self) -> OnPolicyConfig | None:
        """How the student learns from texts of its own; None where it writes none."""
        return None

    @property
    def needs_logits(self) -> bool:
        """Whether the student learns from a teacher's distribution, and not its text alone."""
        return self.signal is not None

    @property
    def is_on_policy(self) -> bool:
        """Whether the student learns from texts that it writes itself."""
        return self.on_policy is not None


def why_no_strategy(cls: type) -> Reason | None:
    """Return why a class is no strategy that a run can take; None if it is one."""
    if not issubclass(cls, Strategy):
        return NoStrategy.OTHER_BASE
    return NoStrategy.LACKS_DRAW if cls.__abstractmethods__ else None


def kind_of(strategies: Sequence[Strategy], label: str) -> str:
    """Return the kind of the strategy that a record names by its label.

    Args:
        strategies: the configured ones.
        label: as a plan or a run has it. One that is not configured is taken for a kind: records
            of other runs are by strategies that kept their first name.
    """
    strategy = find(strategies, label)
    return label if strategy is None else strategy.kind
