"""The teacher protocol: a model that answers chats at a price."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol, runtime_checkable

from stratos.core.context import Context
from stratos.core.reasons import Reason
from stratos.records import ModelCard, TeacherProbe
from stratos.tasks.base import Message, Task
from stratos.tasks.shown import shown

Tick = Callable[[int, int], None]
"""Progress: done, total."""

Keep = Callable[[int, "Answer"], None]
"""Takes one answer as soon as it is there: index of its chat, answer."""


CacheMode = Literal["off", "read", "write"]
"""What a teacher's answers have to do with the cache: nothing, found there, or kept there too."""


def cache_mode(teacher: Teacher) -> CacheMode:
    """Return a teacher's `cache`; a class of the user's own need not have it."""
    mode: CacheMode = getattr(teacher, "cache", "write")
    return mode


def on_task(teachers: Sequence[Teacher], task: Task) -> tuple[Teacher, ...]:
    """Return the teachers of a run on a task.

    One that is known by answers to other tasks is left out, unless it is the only one: then it says
    why it cannot be reached.
    """
    if len(teachers) == 1:
        [teacher] = teachers
        return ((teacher.of(task) or teacher) if isinstance(teacher, Measured) else teacher,)
    bound = (one.of(task) if isinstance(one, Measured) else one for one in teachers)
    return tuple(one for one in bound if one is not None)


def code_version(teacher: Teacher) -> int:
    """Return a teacher's `code_version`; a class of the user's own need not have it.

    It is raised when the code of the class asks or answers otherwise: records are made anew then.
    """
    version: int = getattr(teacher, "code_version", 1)
    return version


def identities(teacher: Teacher) -> tuple[str, ...]:
    """Return all identities of a teacher: several, where one model is served in several places."""
    several = getattr(teacher, "identities", None)
    return tuple(several()) if several is not None else (teacher.identity(),)


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
    top_logprobs: int = 0
    """How many likeliest tokens the answer shall tell at each place, where the teacher can."""

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
    logprobs: tuple[tuple[tuple[str, float], ...], ...] = ()
    """At each place the likeliest (token, natural log-probability), where they were asked for."""
    is_estimated: bool = False
    """True if tokens were counted from bytes, because the endpoint did not tell them."""


class Billed(Enum):
    """What the provider may charge for a try that brought no answer."""

    NOTHING = "nothing"
    USUAL = "usual"
    """What answers usually cost: one was made perhaps, and got lost on its way."""
    MOST = "most"
    """Its ceiling: it may have been written to the end and beyond."""


class Meter(Protocol):
    """Money for single tries: drawn before one is sent, paid after it came back."""

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


class BatchMeter(Meter, Protocol):
    """Money for batches, which outlive the process that hands them in."""

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


@runtime_checkable
class Streaming(Protocol):
    """What a teacher offers beside the contract that answers questions as they come."""

    def stream(
        self, questions: Iterator[Question | None], meter: BatchMeter | None
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) in any order, and None now and then.

        A None among the questions means that there is none just now.
        """
        ...


@runtime_checkable
class Concurrent(Protocol):
    """What a teacher offers beside the contract that gives several answers at once."""

    def most_at_once(self) -> int:
        """Return how many answers are under way at most."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """What a teacher offers beside the contract that knows how much it can read."""

    def too_long(self, question: Question) -> Reason | None:
        """Return why a question with its longest answer passes the context, or None.

        Such a question is not asked: its answer is empty, and its `finish` is `TOO_LONG`.
        """
        ...


@runtime_checkable
class Paced(Protocol):
    """What a teacher offers beside the contract whose long answers take this machine's time."""

    def most_tokens(self) -> int:
        """Return the longest answer that is worth waiting for, unless the user asks for more."""
        ...


@runtime_checkable
class Sampling(Protocol):
    """What a teacher offers beside the contract that draws answers, many of them at once."""

    def sample(self, questions: Sequence[Question], keep: Keep | None = None) -> list[Answer]:
        """Answer questions, each with its own longest answer, in the order given.

        One with a temperature is drawn: the same question and sample number give the same answer,
        another number another one. `keep` is called as by `ask`.
        """
        ...


@runtime_checkable
class Batching(Protocol):
    """What a teacher offers beside the contract whose provider takes questions in batches."""

    batch: bool
    """Whether it is asked so."""

    def as_batch(self) -> Teacher:
        """Return the same teacher, asked through the batch API: cheaper, and later."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """What a teacher offers beside the contract whose weights are on this machine."""

    def load(self) -> tuple[Any, Any]:
        """Return model and tokenizer of transformers."""
        ...


@runtime_checkable
class HasKey(Protocol):
    """What a teacher offers beside the contract whose endpoint may want a key."""

    @property
    def api_key_env(self) -> str | None:
        """Variable of the environment that holds it; None for an endpoint that wants none."""
        ...


@runtime_checkable
class Measured(Protocol):
    """What a teacher offers beside the contract that is known by answers of its own: nobody asks.

    It needs no server, no network and no key.
    """

    def of(self, task: Task) -> Teacher | None:
        """Return the teacher that has the answers to a task; None where there are none."""
        ...

    def measure(self, context: Context) -> TeacherProbe:
        """Return what its answers prove of it, and say so."""
        ...


@runtime_checkable
class Teacher(Protocol):
    """The contract that every teacher class keeps. Nothing is loaded before `ask`."""

    name: str

    def unreachable(self) -> Reason | None:
        """Return why this teacher cannot be asked here, or None. Cheap: loads no weights."""
        ...

    def card(self) -> ModelCard:
        """Return the facts of the model (reads a config file at most)."""
        ...

    def identity(self) -> str:
        """Return what decides the answers beside the chat: weights, revision, sampling.

        Answers are kept under it, so it has to change whenever they might.
        """
        ...

    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        `keep` is called in the calling thread as answers come in, in any order, so that nothing
        is lost if a later one fails.
        """
        ...

    def close(self) -> None:
        """Free the weights."""
        ...
