"""Conversations of a file as a task: each answer of the model, asked for with its history."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stratos.contrib.logs import words
from stratos.contrib.logs.messages.conversation import as_question, history_of
from stratos.contrib.logs.messages.row_formats import KNOWN
from stratos.contrib.logs.messages.turn_rows import SLICES, TurnReader, is_saved, suited_metric
from stratos.core.errors import ConfigError
from stratos.core.formats import counted, listed
from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Message, Score
from stratos.tasks.file_content import Content
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.metrics import Metric, MetricName, metric_of
from stratos.tasks.near_duplicates import Alike
from stratos.tasks.objects import object_of
from stratos.tasks.rows import FileRows, Record, RowSource, Settled
from stratos.tasks.split import content_id, id_of
from stratos.tasks.table import Row, Rows

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FEW_ANSWERS = 200
"""Different answers up to which a question has wrong ones to choose among."""


@dataclass(frozen=True)
class ChatContent(Content):
    """What was read of the files of a chat task."""

    reader: TurnReader = field(default_factory=TurnReader)
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each conversation a hash that all have that must be of its split."""
    unnumbered: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each a hash of what the user wrote that its numbers leave alone."""
    n_of_no_session: int = 0
    """Conversations with the id of a session that nearly all have."""
    metric: MetricName = "exact"


@dataclass(frozen=True)
class ChatTask(JsonlTask):
    """Conversations from a file: the history is the question, the model's turn the answer."""

    name: str = "chat"
    """Name shown in tables and written into records."""
    metric: Literal["auto", "exact", "numeric", "f1"] = "auto"
    """auto (exact for short answers and JSON objects, else f1), exact, numeric or f1."""
    min_f1: float = 0.5
    """For f1: word overlap with the logged answer from which an answer is correct."""
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
    question: str = field(init=False, default="messages")
    answer: str = field(init=False, default="answer")
    rationale: str | None = field(init=False, default=None)
    split_answer: str | None = field(init=False, default=None)
    options: str = field(init=False, default="options")
    slice: str | None = field(init=False, default=None)
    slices: tuple[str, ...] = field(init=False, default=SLICES)
    unlabelled_path: str | None = field(init=False, default=None)
    database: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Check the settings, and every conversation of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if self.metric not in ("auto", "exact", "numeric", "f1"):
            raise ValueError(f"metric={self.metric}: known are auto, exact, numeric, f1.")
        if self.schema and self.metric == "auto":
            object.__setattr__(self, "metric", "exact")
        if self.answer_key is not None and self.messages_key is None:
            raise ValueError("answer_key goes with messages_key: name the field of the messages.")
        super().__post_init__()

    # --- reading ---------------------------------------------------------------------------------

    def _why_unreadable(self, path: str) -> Reason | None:
        return None if is_saved(path) else super()._why_unreadable(path)

    @property
    def unlabelled_field(self) -> None:
        """Return None: a row without an answer is no row of a conversation."""
        return None

    @cached_property
    def _content(self) -> ChatContent:
        content = self._read_once()
        assert isinstance(content, ChatContent)
        if self.metric == "auto":  # from now on tables and records say which it is
            object.__setattr__(self, "metric", content.metric)
        return content

    def _read_files(self) -> ChatContent:
        return self._read_chats(None)

    def _read_chats(self, settle: Callable[[Sequence[Row]], Settled] | None) -> ChatContent:
        """Read the files; `settle` is as `RowSource` has it."""
        reader = TurnReader(self.messages_key, self.answer_key, self.workload)
        reader.is_replaced = bool(self.instruction)
        source = RowSource(partial(_records, reader), settle)
        files = tuple(
            self._explained(reader, key, path, source) for key, path in self._paths.items()
        )
        alike = reader.alike
        keys, unnumbered, n_of_no_session = alike.keys(), alike.unnumbered(), alike.n_of_no_session
        reader.alike = Alike()  # the signatures are needed no more
        return ChatContent(
            files,
            reader=reader,
            keys=keys,
            unnumbered=unnumbered,
            n_of_no_session=n_of_no_session,
            metric=suited_metric(files[0].rows) if self.metric == "auto" else self.metric,
        )

    def _explained(self, reader: TurnReader, key: str, path: str, source: RowSource) -> FileRows:
        """Read a file, and say what to type where it has no conversation that is read.

        Raises:
            ConfigError: it cannot be used.
        """
        try:
            return self._read(key, path, source)
        except ConfigError as error:
            n_other = reader.seen.n_other
            if self.workload is not None and n_other and not reader.n_conversations:
                raise ConfigError(
                    f"task.workload={self.workload}: none of {n_other:,} conversations of {path} "
                    f"is of it. See which there are: stratos logs {path}"
                ) from error
            if reader.seen.formats or not reader.seen.n_rows:
                raise
            if self.messages_key is not None:
                raise
            raise ConfigError(
                f"{error}\n    Known formats: {KNOWN}. Name the fields of another one: "
                "task.messages_key=… task.answer_key=… Rows of a question and its answer: "
                "+task=jsonl"
            ) from error

    def _canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        if self.schema is not None:
            return self._metric.canonical(answer, options)
        if self.metric == "numeric" and self.verifier is None:
            return metric_of("numeric", 1.0, None).canonical(answer, options)
        return answer

    def _slice_of(self, key: str, row: Row) -> str:
        return row.slice

    @cached_property
    def _metric(self) -> Metric:
        if self.schema is not None:
            return self._by_schema
        if self.verifier is not None:
            return metric_of("exact", 1.0, self.verifier)
        name = self._content.metric if self.metric == "auto" else self.metric
        return metric_of(name, self.min_f1, None)

    # --- splits ----------------------------------------------------------------------------------

    def _families(self, rows: Rows) -> NDArray[np.uint64]:
        if not len(rows):
            return np.zeros(0, np.uint64)
        return self._content.keys[rows.column("conversations").astype(np.int64)]

    def _item(self, row: Row) -> Item:
        assert row.provenance is not None
        item = Item(
            id=content_id(row.question),
            slice=row.slice,
            question=row.question,
            answer=row.answer,
            family=id_of(int(self._content.keys[row.provenance.conversation])),
        )
        return replace(item, choices=self._choices(item))

    def _choices(self, item: Item) -> tuple[str, ...]:
        return super()._choices(item) if len(self._answers) <= _FEW_ANSWERS else ()

    # --- what is said of the file ----------------------------------------------------------------

    @property
    def _set_aside(self) -> dict[str, int]:
        return {**super()._set_aside, **self._content.reader.seen.passed}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the formats of the file, and how many turns each split has."""
        seen = self._content.reader.seen
        formats = listed(f"{n:,} {name}" for name, n in seen.formats.most_common())
        least = f" (correct from {self.min_f1:g})" if self.metric == "f1" else ""
        return (
            f"Formats of {self.path}: {formats}. Metric: {self.metric}{least}.",
            self._sizes,
            *self._left_out_note,
            *([] if self.workload is None
              else [str(words.OtherWorkloads(self.path, self.workload, seen.n_other))]),
            *([str(words.SecretsReplaced(seen.n_secrets))] if seen.n_secrets else []),
            *self._schema_note,
        )  # fmt: skip

    @property
    def _sizes(self) -> str:
        n = {split: f"{len(rows):,}" for split, rows in self._by_split.items()}
        of_test = f"test turns of {self.test_path}" if self.test_path else "test turns"
        conversations = counted(self._content.reader.n_conversations, "conversation", spec=",")
        return (
            f"Answers in {conversations} of {self.path}: {n['train']} to train on, "
            f"{n['validation']} validation turns, {n['test']} {of_test}. No "
            f"{self._what_is_whole} has turns in two splits, and near duplicates that were found "
            "are of one."
        )

    @property
    def _what_is_whole(self) -> str:
        return "conversation" if self._content.n_of_no_session else "conversation or session"

    @property
    @override
    def complaints(self) -> tuple[Reason, ...]:
        reader = self._content.reader
        seen, n_conversations = reader.seen, reader.n_conversations
        n_of_no_session = self._content.n_of_no_session
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

    @property
    @override
    def system_prompt(self) -> str:
        return self.instruction or self._content.reader.system or ""

    def student_messages(self, item: Item) -> list[Message]:
        """Return the history, with a system message only where it has one of its own."""
        return history_of(item.question)

    def item_of_chat(self, chat: Sequence[Message]) -> Item | None:
        """Return the item of a history, in any number of turns."""
        question = as_question(chat)
        return Item(content_id(question), self.slices[0], question, "")

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the history behind the system prompt, and behind examples if the prompt has any.

        An item is never its own example, nor is another turn of its conversation.
        """
        history = history_of(item.question)
        opening = [] if history[0]["role"] == "system" else self._opening
        if history[0]["role"] == "system":
            opening, history = history[:1], history[1:]
        shown: list[Message] = []
        for example in self._examples(prompt):
            if example.family != item.family:
                turns = [
                    message
                    for message in history_of(example.question)
                    if message["role"] != "system"
                ]
                shown += [*turns, {"role": "assistant", "content": example.answer}]
        return [*opening, *shown, *history]

    @property
    @override
    def how_to_label(self) -> str:
        return "A log has some with +task=logs task.answers=relabel"

    def own_words(self, question: str) -> str:
        """Return what the user wrote: the model's turns repeat, and are no sign of a leak."""
        return "\n".join(
            message["content"] for message in history_of(question) if message["role"] == "user"
        )

    @property
    def _opening(self) -> list[Message]:
        return [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the history, and four answers to choose from behind its last message."""
        *before, last = self.messages(item, "zero_shot")
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        content = "\n".join([last["content"], *lines, "Answer with one letter."])
        return [*before, {"role": "user", "content": content}]

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1, slice=SLICES[0])

    def answer_texts(self, prompt: str) -> list[str]:
        """Return the answers to training and validation rows: no test item is among them."""
        rows = (*self._by_split["train"], *self._by_split["validation"])
        return [row.answer for row in rows]

    def completion(self, item: Item) -> str:
        """Return the model's turn."""
        return item.answer

    def as_row(self, item: Item, answer: str) -> dict[str, Any]:
        """Return an item as a line of fine-tuning messages."""
        history = history_of(item.question)
        return {"messages": [*self._opening, *history, {"role": "assistant", "content": answer}]}

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> AnswerText | None:
        """Return the whole text, without the thoughts in front of it; None of an empty one."""
        text = _THOUGHTS.sub("", text).strip()
        if self.metric == "numeric" or self.verifier is not None or self.schema is not None:
            return self._metric.read(text)
        return text or None

    def score(self, text: str, item: Item) -> Score:
        """Compare with the logged answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        right = self._metric.compare(answer, item.answer) >= 1
        is_exact = self.metric == "exact" and self.schema is None and self.verifier is None
        if is_exact and not right:
            # A model may announce a short answer in one line, or put an object into a fence.
            announced = self._metric.read(answer)
            is_read = announced and ("\n" not in answer or object_of(announced) is not None)
            right = bool(is_read) and self._metric.compare(announced or "", item.answer) >= 1
        return Score(
            float(right), 1.0 if right else self._metric.overlap(answer, item.answer), True
        )


def _records(reader: TurnReader, path: str) -> Iterable[tuple[str, Record]]:
    """Return the turns of a file; of the first file, the system prompt is found before."""
    if reader.system is None:
        reader.find_system(path)
    return reader.rows(path)
