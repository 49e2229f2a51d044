"""The contract of a teacher: a model that answers chats at a price; and no teacher at all."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from typing_extensions import override

from stratos.core.context import Context
from stratos.core.errors import TeacherError, did_you_mean
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.records import NO_TEACHER, Interval, ModelCard, TeacherProbe
from stratos.tasks.base import Message, Task
from stratos.teachers.words import NoTeacher, TeacherLacks

Tick = Callable[[int, int], None]
"""Progress: done, total."""

Keep = Callable[[int, "Answer"], None]
"""Takes one answer as soon as it is there: index of its chat, answer."""


CacheMode = Literal["off", "read", "write"]
"""What a teacher's answers have to do with the cache: nothing, found there, or kept there too."""


MOST_TOKENS = 8192
"""Longest answer that is asked for, unless the data or the user want a longer one."""
WINDOW = 8192
"""Questions held from the oldest without an answer to the newest taken."""
_BATCH_SIZE = 32


def on_task(teachers: Sequence[Teacher], task: Task) -> tuple[Teacher, ...]:
    """Return the teachers of a run on a task.

    One that is known by answers to other tasks is left out, unless it is the only one: then it says
    why it cannot be reached.
    """
    if len(teachers) == 1:
        [teacher] = teachers
        return (teacher.of(task) or teacher,)
    return tuple(bound for teacher in teachers if (bound := teacher.of(task)) is not None)


@dataclass(frozen=True, slots=True)
class Question:
    """One chat, and everything beside the teacher that decides its answer."""

    chat: list[Message]
    max_tokens: int
    """Longest answer."""
    sample: int = 0
    """Which of several answers to the same chat; each is asked for, kept and paid for once."""
    temperature: float | None = None
    """0 asks for the likeliest answer; None leaves it to the teacher's own setting."""

    @property
    def about(self) -> str:
        """How the chat's last message begins, in quotation marks: tells which row is asked."""
        return f'"{shown(self.chat[-1]["content"])}"'


TOO_LONG = "context"
"""`Answer.finish` of a question that passes the teacher's context: it has no text, and was free."""
STOP = "stop"
"""`Answer.finish` of an answer that ended by itself."""
LENGTH = "length"
"""`Answer.finish` of an answer that was cut at the longest length."""
REPETITION = "repetition"
"""`Answer.finish` of an answer that was stopped because it only repeated itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a teacher, and what it took."""

    text: str
    input_tokens: int
    output_tokens: int
    seconds: float
    """Share of the batch's wall-clock time that this answer took."""
    cached: bool = False
    finish: str = ""
    """Why it ended, such as stop or length; "" where the teacher does not tell."""
    is_estimated: bool = False
    """True if tokens were counted from bytes, because the endpoint did not tell them."""
    cached_input_tokens: int = 0
    """Of the input tokens those that the endpoint says it had read before: many have a lower price
    for them."""


class Billed(Enum):
    """What the provider may charge for a try that brought no answer."""

    NOTHING = "nothing"
    USUAL = "usual"
    """What answers usually cost: one was made perhaps, and got lost on its way."""
    MOST = "most"
    """Its ceiling: it may have been written to the end and beyond."""


class Meter(Protocol):
    """What one teacher's calls are paid from: drawn before a try is sent, paid when it came back.

    Batches outlive the process that hands them in.
    """

    def draw(self, question: Question) -> int:
        """Set aside what a try may cost at most; return its receipt.

        Raises:
            BudgetError: so much is not left.
        """
        ...

    def pay(self, receipt: int, answer: Answer | None, billed: Billed = Billed.NOTHING) -> None:
        """Settle a try: at the price of its answer, or as `billed` says where it brought none.

        One that is given up under way is never settled here; whoever made the meter counts it.

        Raises:
            OverspentError: the answer took more than was set aside for it, and so the budget is
                passed. The try is settled; what is under way is to be given up.
        """
        ...

    def hand_in(self, batch: str) -> None:
        """Note that all that was drawn since the last time pays for a batch."""
        ...

    def batches(self) -> list[str]:
        """Return the batches that earlier processes handed in and nobody settled."""
        ...

    def adopt(self, batch: str, questions: Iterable[Question]) -> list[int | None]:
        """Take over the money of such a batch.

        Args:
            batch: as it was handed in.
            questions: all that it asks, in order.

        Returns:
            The receipt of each; None for one that is settled already.
        """
        ...

    def lose(self, batch: str) -> None:
        """Settle such a batch in full: its provider does not know it."""
        ...


class SignalKind(Enum):
    """What a teacher tells of its distribution beside the text of its answers."""

    TEXT = "text"
    """Nothing."""
    LOGPROBS = "logprobs"
    """The likeliest tokens at each place, over the network."""
    WEIGHTS = "weights"
    """All of it: its weights are loaded on this machine."""


class Teacher(ABC):
    """A model that answers chats at a price. Nothing is loaded before `ask`.

    A class of your own is a dataclass with a name that writes `card`, `identity` and `ask`. All
    else has a default, which says that the teacher cannot do more.
    """

    runs_here: ClassVar[bool] = True
    """Whether it answers on the machine that runs the stage. Else it is asked over the network,
    and only from the machine of the command, which has its key."""
    signal: ClassVar[SignalKind] = SignalKind.TEXT
    """What it tells of its distribution."""
    code_version: ClassVar[int] = 1
    """Raised when the code of the class asks or answers otherwise: records are made anew then."""

    name: str
    """Name shown in tables and in the plan."""
    cache: CacheMode = "write"
    """What its answers have to do with the cache."""
    batch: bool = False
    """Whether questions are handed in as batches, which are cheaper and later."""
    batch_size: int = _BATCH_SIZE
    """Chats answered at once."""
    api_key_env: str | None = None
    """Variable of the environment that holds its key; None for one that wants none."""

    @property
    def streams(self) -> bool:
        """Whether it takes questions as they come, several at once: its class has `stream`."""
        return type(self).stream is not Teacher.stream

    @property
    def draws(self) -> bool:
        """Whether it draws answers, several to one question: its class has `sample`, or streams."""
        return self.streams or type(self).sample is not Teacher.sample

    @property
    def takes_batches(self) -> bool:
        """Whether its provider takes questions in batches: its class has `as_batch`."""
        return type(self).as_batch is not Teacher.as_batch

    @property
    def is_elsewhere(self) -> bool:
        """Whether what it is asked leaves the user's machines: by default it does not."""
        return False

    @property
    def is_measured(self) -> bool:
        """Whether it is known by answers of its own, and nobody asks: its class has `measure`."""
        return type(self).measure is not Teacher.measure

    @abstractmethod
    def card(self) -> ModelCard:
        """Return the facts of the model (reads a config file at most); 0 for what is not known.

        Where it has prices, 0 perhaps, it is hosted; without, a plan rents a server for it.
        """

    @abstractmethod
    def identity(self) -> str:
        """Return what decides the answers beside the chat: weights, revision, sampling.

        Answers are kept under it, so it has to change whenever they might.
        """

    @abstractmethod
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        `keep` is called in the calling thread as answers come in, in any order, so that nothing
        is lost if a later one fails. Answers that it was not called for count when this returns.
        """

    def identities(self) -> tuple[str, ...]:
        """Return all identities: several, where one model is served in several places."""
        return (self.identity(),)

    def unreachable(self) -> Reason | None:
        """Return why it cannot be asked here, or None. Cheap: loads no weights."""
        return None

    def of(self, task: Task) -> Teacher | None:
        """Return it for a task; None where all that is known of it are answers to other tasks."""
        return self

    def measure(self, context: Context) -> TeacherProbe:
        """Return what its answers prove of it, and say so; where it `is_measured`."""
        raise TeacherError(f"Teacher {self.name} is known by asking it.")

    def close(self) -> None:
        """Free what was loaded, such as weights and connections."""
        return

    def stream(
        self, questions: Iterator[Question | None], meter: Meter | None
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) in any order, and None now and then.

        A None among the questions means that there is none just now.
        """
        raise TeacherError(f"Teacher {self.name} does not take questions as they come.")

    def sample(self, questions: Sequence[Question], keep: Keep | None = None) -> list[Answer]:
        """Answer questions, each with its own longest answer, in the order given.

        One with a temperature is drawn: the same question and sample number give the same answer,
        another number another one. `keep` is called as by `ask`.
        """
        raise TeacherError(f"Teacher {self.name} draws no answers.")

    def as_batch(self) -> Teacher:
        """Return the same teacher, asked through the batch API: cheaper, and later."""
        raise TeacherError(f"Teacher {self.name} takes no batches.")

    def most_at_once(self) -> int:
        """Return how many answers are under way at most."""
        return 1

    @property
    def window(self) -> int:
        """Questions that are worth holding at once."""
        return WINDOW

    def too_long(self, question: Question) -> Reason | None:
        """Return why a question with its longest answer passes the context, or None.

        Such a question is not asked: its answer is empty, and its `finish` is `TOO_LONG`.
        """
        return None

    def most_tokens(self) -> int:
        """Return the longest answer that is worth waiting for, unless the user asks for more."""
        return MOST_TOKENS

    def complaints(self) -> list[str]:
        """Return what the user should know of its endpoints and was not told yet."""
        return []

    def folder(self) -> Path | None:
        """Return the local folder that its weights lie in; None where there is none."""
        return None

    def load(self) -> tuple[Any, Any]:
        """Return model and tokenizer of transformers; where `signal` is of the weights.

        Raises:
            TeacherError: they are not on this machine.
        """
        raise TeacherError(f"Teacher {self.name} has no weights on this machine.")

    def tokenizer(self) -> Any:
        """Return its tokenizer, without loading a weight; None where it is not on this machine."""
        return None

    def end_ids(self) -> tuple[int, ...]:
        """Return the ids that end its answers, without loading a weight."""
        return ()


def why_no_teacher(cls: type) -> Reason | None:
    """Return why a class is no teacher that can be asked; None if it is one."""
    if not issubclass(cls, Teacher):
        return NoTeacher()
    lacking = tuple(sorted(cls.__abstractmethods__))
    return TeacherLacks(lacking) if lacking else None


# Model facts that a teacher's YAML may state.

FACTS = tuple(field.name for field in dataclasses.fields(ModelCard) if field.type == "int")


def check_facts(facts: Mapping[str, Any]) -> None:
    """Check that every name is a fact of a model card, and that none is negative.

    Raises:
        ValueError: a name is not known, or a number below 0.
    """
    for name, value in facts.items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"facts.{name}={value} must be at least 0, which stands for unknown.")
        if name not in FACTS:
            raise ValueError(
                f"facts.{name}: there is no such fact.{did_you_mean(name, FACTS)} "
                f"Known: {', '.join(FACTS)}."
            )


_FREE: dict[str, Any] = {
    **dict.fromkeys(FACTS, 0),
    "usd_per_million_input_tokens": 0.0,
    "usd_per_million_output_tokens": 0.0,
}


@dataclass
class Nobody(Teacher):
    """Stands where a run has no teacher; it is never asked."""

    name: str = NO_TEACHER
    """Name shown in tables and in the plan."""

    cache: ClassVar[CacheMode] = "off"  # type: ignore[misc]

    @override
    def card(self) -> ModelCard:
        return ModelCard(name=self.name, **_FREE)

    @override
    def identity(self) -> str:
        return NO_TEACHER

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        raise TeacherError(
            "The run has no teacher to ask. Name one with teacher=<name> (teacher=smollm2 runs on "
            "this machine)."
        )

    @override
    def measure(self, context: Context) -> TeacherProbe:
        return TeacherProbe(
            teacher=self.name,
            card=self.card(),
            prompt="default",
            n_items=0,
            exact=Interval(0.0, 0.0, 1.0, "no teacher", is_known=False),
            choice=wilson(0, 0),
            exact_by_slice={},
            parsable=0.0,
            echoes=0.0,
            input_tokens=0,
            output_tokens=0,
            seconds=0.0,
            cpu_seconds=0.0,
            usd=0.0,
            n_cached=0,
            is_nobody=True,
        )
