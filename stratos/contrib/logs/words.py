"""What is wrong with rows of a log, and what is doubtful about its answers and conversations."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from stratos.core.formats import counted, listed
from stratos.core.reasons import Reason


class Doubt(Reason, Enum):
    """Why a logged answer is probably wrong."""

    NO_JSON = "no JSON object, as nearly all others are"
    FIELDS = "other fields than nearly all others"
    TYPES = "a field of another type than in nearly all others"
    NOT_SAID = "a value that is not in the messages, where nearly all others copy it"
    NO_MATCH = "no match of task.schema"
    NO_ANSWER = "no answer at all"
    RARE = "a label that hardly any other answer is"
    REFUSED = "a refusal"
    LOOPS = "a text that repeats itself"
    CONTRADICTED = "another answer than most of those to the same request"


class FieldOfWrongType(Reason):
    """A field of a row has another type than its format has."""

    error: str

    says = "has a field of a wrong type ({error})"


class FilesLeftOut(Reason):
    """Messages have images or files, which no language model reads."""

    path: str
    n: int

    says = (
        "{path}: images and files in messages are left out ({n:,}), since a language model reads "
        "text alone. What was said of them cannot be learnt."
    )


class CallsNotLearnt(Reason):
    """Turns of the model call tools, which the task does not learn."""

    path: str
    n_turns: int

    says = (
        "{path}: turns of the model that call tools are not learnt ({n_turns:,}); they stay in the "
        "history of later turns. +task=tools learns them."
    )


class OnlyCalls(Reason):
    """Every turn of the model in a file calls tools, so that nothing is left to be learnt."""

    path: str
    n_conversations: int
    typed: str
    """The path as a shell takes it."""

    says = (
        "{path} has {n_conversations:,} conversations, in which every answer is a call of a tool. "
        "Type: +task=tools task.path={typed}"
    )


class OtherWorkloads(Reason):
    """Rows of a log are of other workloads than the one that is read."""

    path: str
    workload: str
    n_rows: int

    says = (
        "Rows of {path} of other workloads than task.workload={workload} are not read "
        "({n_rows:,}). What is left out for another reason is counted of the whole file where its "
        "workload cannot be known: lines that are wrong, requests that failed, answers that were "
        "cut short."
    )


class DatedSystems(Reason):
    """System prompts differ from the others in dates and numbers alone."""

    path: str
    n: int
    n_conversations: int

    says = (
        "{path}: the system prompt of {n:,} of {n_conversations:,} conversations differs from the "
        "others in dates and numbers alone. It stays in their history as it was logged, and a "
        "student with random weights does not read it. To put one prompt in the place of all: "
        "task.instruction='<the prompt without them>'"
    )


class OtherSystems(Reason):
    """System prompts are not the commonest one."""

    path: str
    n: int
    n_conversations: int

    says = (
        "{path}: the system prompt of {n:,} of {n_conversations:,} conversations is not the "
        "commonest one. It stays in their history, and a student with random weights does not read "
        "it. See the workloads: stratos logs {path}"
    )


class OneSession(Reason):
    """The id of a session is that of nearly all conversations."""

    path: str
    n: int

    says = (
        "{path}: {n:,} conversations, nearly all, have one id of a session. It is "
        "taken for none: conversations of one session may be of different splits."
    )


class SecretsReplaced(Reason):
    """Keys and tokens in messages were replaced."""

    n: int

    says = "Keys and tokens in the messages are replaced by *** ({n:,})."


class AnswersNotUsed(Reason):
    """Logged answers are doubtful, and are not used."""

    path: str
    n_answers: Mapping[Reason, int]
    """Why to how many."""
    n_relabelled: int | None = None
    """How many of them go to a teacher; None where none do."""

    def __str__(self) -> str:
        n = sum(self.n_answers.values())
        reasons = listed(f"{k:,} {reason}" for reason, k in self.n_answers.items())
        more = "" if self.n_relabelled is None else f"; {self.n_relabelled:,} go to a teacher"
        return (
            f"{self.path}: {counted(n, 'logged answer is', 'logged answers are', spec=',')} not "
            f"used: {reasons}{more}. Look at them: stratos logs {self.path} --doubtful "
            "doubtful.html"
        )


class LaterRowsRepeat(Reason):
    """So many later rows repeat earlier ones that a split by time leaves too few."""

    path: str
    n_repeated: int
    n_rows: int

    says = (
        "{path}: {n_repeated:,} of {n_rows:,} rows come later than others of "
        "their session, or nearly repeat earlier ones, and are no test of what is learnt of "
        "these: too few are left. Type +task=chat, which splits by sessions and not by time."
    )


class NoLog(Reason):
    """The task has no log whose answers could be given again."""

    says = "the task has no log; type +task=logs"


class NoCard(Reason):
    """No card tells what the answers of a log cost."""

    model: str
    """As the log has it; "" where it names none."""
    candidate: str
    """Name of the teacher in the config."""

    def __str__(self) -> str:
        reason = f"no card has a price of {self.model}" if self.model else "the log names no model"
        return (
            f"{reason}, so that nobody knows what its answers cost. Name a card with that price: "
            f"teacher.candidates.{self.candidate}.price_of=gpt_4o_mini"
        )
