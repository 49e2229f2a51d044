"""Conversations of a file as a task: each answer of the model, asked for with its history."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stratos.contrib.logs import words
from stratos.contrib.logs.conversation import as_question, history_of
from stratos.contrib.logs.row_formats import KNOWN
from stratos.contrib.logs.turn_rows import SLICES, TurnReader, is_saved, suited_metric
from stratos.core.errors import ConfigError
from stratos.core.formats import counted, listed
from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText, object_of
from stratos.tasks.base import Item, Message, Score
from stratos.tasks.chat import FORMS, with_choices
from stratos.tasks.dedup.hashes import content_id, id_of
from stratos.tasks.dedup.near import Alike
from stratos.tasks.file_task import FileTask
from stratos.tasks.jsonl import check_metric
from stratos.tasks.metrics import Exact, Metric, MetricName, metric_of
from stratos.tasks.reader import Content, FileReader
from stratos.tasks.rows import Fields, FileRows, Record, RowSource, Settled
from stratos.tasks.schema import BySchema
from stratos.tasks.table import Row

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FEW_ANSWERS = 200
"""Different answers up to which a question has wrong ones to choose among."""


@dataclass(frozen=True)
class ChatContent(Content):
    """What was read of files of conversations."""

    reader: TurnReader = field(default_factory=TurnReader)
    unnumbered: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each conversation a hash of what the user wrote that its numbers leave alone."""
    n_of_no_session: int = 0
    """Conversations with the id of a session that nearly all have."""
    suited: MetricName = "exact"
    """The metric that suits the answers."""

    @property
    def what_is_whole(self) -> str:
        """What no two splits have a part of."""
        return "conversation" if self.n_of_no_session else "conversation or session"


@dataclass(frozen=True)
class ChatReader:
    """Reads the turns of conversations."""

    files: FileReader
    messages_key: str | None
    answer_key: str | None
    workload: str | None
    is_replaced: bool
    """Whether the task has an instruction of its own."""

    def read(self) -> ChatContent:
        """Return the turns of all files.

        Raises:
            ConfigError: they cannot be used.
        """
        return self.settled(None)

    def settled(self, settle: Callable[[Sequence[Row]], Settled] | None) -> ChatContent:
        """Read the files; `settle` is as `RowSource` has it."""
        turns = TurnReader(self.messages_key, self.answer_key, self.workload)
        turns.is_replaced = self.is_replaced
        reader = replace(self.files, source=RowSource(partial(_records, turns), settle))
        named = reader.labelled_files.items()
        files = tuple(self._file(reader, turns, key, path) for key, path in named)
        alike = turns.alike
        keys, unnumbered, n_of_no_session = alike.keys(), alike.unnumbered(), alike.n_of_no_session
        turns.alike = Alike()  # the signatures are needed no more
        return ChatContent(
            files,
            passed=turns.seen.passed,
            keys=keys,
            reader=turns,
            unnumbered=unnumbered,
            n_of_no_session=n_of_no_session,
            suited=suited_metric(files[0].rows),
        )

    def _file(self, reader: FileReader, turns: TurnReader, key: str, path: str) -> FileRows:
        """Read a file, and say what to type where it has no conversation that is read.

        Raises:
            ConfigError: it cannot be used.
        """
        try:
            return reader.labelled(key, path)
        except ConfigError as error:
            n_other = turns.seen.n_other
            if self.workload is not None and n_other and not turns.n_conversations:
                raise ConfigError(
                    f"task.workload={self.workload}: none of {n_other:,} conversations of {path} "
                    f"is of it. See which there are: stratos logs {path}"
                ) from error
            if turns.seen.n_calls and not turns.n_conversations:
                n = turns.seen.formats.total()
                raise ConfigError(str(words.OnlyCalls(path, n, shlex.quote(path)))) from error
            if turns.seen.formats or not turns.seen.n_rows or self.messages_key is not None:
                raise
            raise ConfigError(
                f"{error}\n    Known formats: {KNOWN}. Name the fields of another one: "
                "task.messages_key=… task.answer_key=… Rows of a question and its answer: "
                "+task=jsonl"
            ) from error


def _records(turns: TurnReader, path: str) -> Iterable[tuple[str, Record]]:
    """Return the turns of a file; of the first file, the system prompt is found before."""
    if turns.system is None:
        turns.find_system(path)
    return turns.rows(path)


@dataclass(frozen=True)
class HistoryPrompt:
    """Asks for the next turn of a conversation."""

    system: str

    @property
    def opening(self) -> list[Message]:
        """What stands before a history."""
        return [{"role": "system", "content": self.system}] if self.system else []

    def shows_examples(self, prompt: str) -> bool:
        """Return whether a prompt shows other conversations."""
        return FORMS[prompt].has_examples

    def messages(self, item: Item, prompt: str, examples: Sequence[Item]) -> list[Message]:
        """Return the history behind the system prompt, and behind examples.

        An item is never its own example, nor is another turn of its conversation.
        """
        opening, history = self.opening, history_of(item.question)
        if history[0]["role"] == "system":
            opening, history = history[:1], history[1:]
        shown: list[Message] = []
        for example in examples:
            if example.family != item.family:
                turns = [m for m in history_of(example.question) if m["role"] != "system"]
                shown += [*turns, {"role": "assistant", "content": example.answer}]
        return [*opening, *shown, *history]

    def choice_messages(self, item: Item, examples: Sequence[Item]) -> list[Message]:
        """Return the history, and four answers to choose from behind its last message."""
        *before, last = self.messages(item, "zero_shot", ())
        content = f"{with_choices(last['content'], item)}\nAnswer with one letter."
        return [*before, {"role": "user", "content": content}]

    def answer_texts(self, prompt: str, items: Sequence[Item | Row]) -> list[str]:
        """Return the answers to items."""
        return [item.answer for item in items]


ChatContentT = TypeVar("ChatContentT", bound=ChatContent)


@dataclass(frozen=True)
class ConversationTask(FileTask[ChatContentT]):
    """Conversations from a file: the history is the question, the model's turn the answer."""

    slices = SLICES
    metric: Literal["auto", "exact", "numeric", "f1"] = "auto"
    """auto (exact for short answers and JSON objects, else f1), exact, numeric or f1."""
    min_f1: float = 0.5
    """For f1: word overlap with the logged answer from which an answer is correct."""
    schema: str | None = None
    """A file with a JSON Schema, in place of `metric`: answers are JSON objects that match it, and
    each field is compared by its kind."""
    verifier: dict[str, Any] | None = None
    """Your own dataclass in place of `metric`: `_target_` and its fields."""
    messages_key: str | None = None
    """Field with the list of messages, dotted where it is an inner one; null recognises the
    format."""
    answer_key: str | None = None
    """Field with the model's answer, where it is no part of the messages."""
    workload: str | None = None
    """Id of the only workload to read, as `stratos logs` lists them; null reads all."""
    instruction: str = ""
    """What a model is told first; empty takes the system prompt that most conversations have."""
    prompts: tuple[str, ...] = ("default", "zero_shot")
    """Prompts to try with a teacher: with examples before the history, and as logged."""
    test_share: float = 0.25
    """Share of the rows for the test split."""

    def __post_init__(self) -> None:
        """Check the settings, and every conversation of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if self.metric not in ("auto", "exact", "numeric", "f1"):
            raise ValueError(f"metric={self.metric}: known are auto, exact, numeric, f1.")
        if self.answer_key is not None and self.messages_key is None:
            raise ValueError("answer_key goes with messages_key: name the field of the messages.")
        name = "exact" if self.metric == "auto" else self.metric
        check_metric(name, self.min_f1, self.schema, self.verifier)
        if self.are_files_beside_here:
            _ = self.named_measure
        super().__post_init__()

    # --- what it is put together of --------------------------------------------------------------

    @property
    @override
    def files_beside(self) -> tuple[str, ...]:
        return () if self.schema is None else (self.schema,)

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields("messages", "answer")

    @property
    @override
    def file_reader(self) -> FileReader:
        own = None if self.verifier is None else self.named_measure
        return replace(super().file_reader, metric=own)

    @override
    def slice_of(self, key: str, row: Row) -> str:
        return row.slice

    @property
    def chats(self) -> ChatReader:
        """What reads the conversations."""
        return ChatReader(
            self.file_reader,
            self.messages_key,
            self.answer_key,
            self.workload,
            is_replaced=bool(self.instruction),
        )

    @cached_property
    def named_measure(self) -> Metric | None:
        """The metric that the settings name; None where the answers tell which it is."""
        if self.schema is not None:
            return BySchema.of_file(self.schema, self.min_f1)
        if self.verifier is None and self.metric == "auto":
            return None
        name = "exact" if self.metric == "auto" else self.metric
        return metric_of(name, self.min_f1, self.verifier)

    @cached_property
    @override
    def measure(self) -> Metric:
        return self.named_measure or metric_of(self.metric_name, self.min_f1, None)

    @property
    @override
    def metric_name(self) -> str:
        if self.metric != "auto":
            return self.metric
        return "exact" if self.schema is not None else self.content.suited

    @cached_property
    @override
    def prompt(self) -> HistoryPrompt:
        return HistoryPrompt(self.instruction or self.content.reader.system or "")

    @override
    def canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        is_compared = self.schema is not None or (
            self.metric == "numeric" and self.verifier is None
        )
        measure = self.named_measure
        return measure.canonical(answer, options) if is_compared and measure else answer

    # --- rows ------------------------------------------------------------------------------------

    @override
    def why_unreadable(self, path: str) -> Reason | None:
        return None if is_saved(path) else super().why_unreadable(path)

    @property
    @override
    def unlabelled_field(self) -> None:
        """None: a row without an answer is no row of a conversation."""
        return None

    @property
    @override
    def how_to_label(self) -> str:
        return "A log has some with +task=logs task.answers=relabel"

    @override
    def item_of(self, row: Row) -> Item:
        assert row.provenance is not None and self.content.keys is not None
        family = id_of(int(self.content.keys[row.provenance.conversation]))
        return replace(super().item_of(row), family=family)

    @cached_property
    @override
    def other_answers(self) -> list[str]:
        answers = super().other_answers
        return answers if len(answers) <= _FEW_ANSWERS else []

    @cached_property
    @override
    def examples(self) -> list[Item]:
        """First turns of training conversations."""
        return self.items("train", self.n_examples, seed=1, slice=SLICES[0])

    @property
    def sizes(self) -> str:
        """How many rows each split has, and how they were split."""
        return self.splits.how

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        seen = self.content.reader.seen
        formats = listed(f"{n:,} {name}" for name, n in seen.formats.most_common())
        least = f" (correct from {self.min_f1:g})" if self.metric_name == "f1" else ""
        return (
            f"Formats of {self.path}: {formats}. Metric: {self.metric_name}{least}.",
            self.sizes,
            *self.report.set_aside,
            *([] if self.workload is None
              else [str(words.OtherWorkloads(self.path, self.workload, seen.n_other))]),
            *([str(words.SecretsReplaced(seen.n_secrets))] if seen.n_secrets else []),
            *self.measure.notes,
        )  # fmt: skip

    @property
    @override
    def complaints(self) -> tuple[Reason, ...]:
        reader = self.content.reader
        seen, n_conversations = reader.seen, reader.n_conversations
        n_of_no_session = self.content.n_of_no_session
        n_dated = 0 if reader.is_replaced else reader.n_dated
        return (
            *([words.FilesLeftOut(self.path, seen.n_images)] if seen.n_images else []),
            *([words.CallsNotLearnt(self.path, seen.n_calls)] if seen.n_calls else []),
            *([words.DatedSystems(self.path, n_dated, n_conversations)] if n_dated else []),
            *([words.OtherSystems(self.path, reader.n_other_system, n_conversations)]
              if reader.n_other_system else []),
            *([words.OneSession(self.path, n_of_no_session)] if n_of_no_session else []),
            *super().complaints,
        )  # fmt: skip

    # --- what a teacher and a student are asked --------------------------------------------------

    @override
    def student_messages(self, item: Item) -> list[Message]:
        """Return the history, with a system message only where it has one of its own."""
        return history_of(item.question)

    @override
    def item_of_chat(self, chat: Sequence[Message]) -> Item | None:
        """Return the item of a history, in any number of turns."""
        question = as_question(chat)
        return Item(content_id(question), self.slices[0], question, "")

    @override
    def own_words(self, question: str) -> str:
        """Return what the user wrote: the model's turns repeat, and are no sign of a leak."""
        return "\n".join(
            message["content"] for message in history_of(question) if message["role"] == "user"
        )

    @override
    def as_row(self, item: Item, answer: str) -> dict[str, Any]:
        """Return an item as a line of fine-tuning messages."""
        history = history_of(item.question)
        answered = {"role": "assistant", "content": answer}
        return {"messages": [*self.prompt.opening, *history, answered]}

    # --- reading and scoring ---------------------------------------------------------------------

    @override
    def parse(self, text: str) -> AnswerText | None:
        """Return the whole text, without the thoughts in front of it; None of an empty one."""
        text = _THOUGHTS.sub("", text).strip()
        if self.metric == "numeric" or self.verifier is not None or self.schema is not None:
            return self.measure.read(text)
        return text or None

    @override
    def score(self, text: str, item: Item) -> Score:
        """Compare with the logged answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        right = self.measure.compare(answer, item.answer) >= 1
        if not right and isinstance(self.measure, Exact):
            # A model may announce a short answer in one line, or put an object into a fence.
            announced = self.measure.read(answer)
            is_read = announced and ("\n" not in answer or object_of(announced) is not None)
            right = bool(is_read) and self.measure.compare(announced or "", item.answer) >= 1
        return Score(
            float(right), 1.0 if right else self.measure.overlap(answer, item.answer), True
        )


@dataclass(frozen=True)
class ChatTask(ConversationTask[ChatContent]):
    """Conversations from a file, whole ones in each split."""

    name: str = "chat"
    """Name shown in tables and written into records."""
    test_path: str | None = None
    """A file of test conversations, which is the whole test split; null takes a part of `path`."""

    @property
    @override
    def reader(self) -> ChatReader:
        return self.chats

    @property
    @override
    def sizes(self) -> str:
        n = {split: f"{len(rows):,}" for split, rows in self.splits.rows.items()}
        of_test = f"test turns of {self.test_path}" if self.test_path else "test turns"
        conversations = counted(self.content.reader.n_conversations, "conversation", spec=",")
        return (
            f"Answers in {conversations} of {self.path}: {n['train']} to train on, "
            f"{n['validation']} validation turns, {n['test']} {of_test}. No "
            f"{self.content.what_is_whole} has turns in two splits, and near duplicates that were "
            "found are of one."
        )
