"""The turns of the model as a check of live requests compares them: of a test and of a log alike.

Two turns are of one conversation where one goes on from the other. A beginning that goes on in more
than one way, such as "hi", tells nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from stratos.contrib.logs.conversation import PassedOver, Trace, UnansweredRow, conversation_of
from stratos.contrib.logs.row_formats import parts_of_row
from stratos.contrib.logs.turn_rows import OF_WRONG_TYPES, workload_of
from stratos.contrib.tools.calls import Call, read, written
from stratos.contrib.tools.signatures import line_of, messages_in
from stratos.contrib.tools.tool_rows import Names, ToolRowReader, message_of, row_of
from stratos.core.formats import writable
from stratos.core.reasons import Reason
from stratos.core.redact import redact_shapes
from stratos.tasks.base import Turn
from stratos.tasks.files import read_records

NO_CALL = "text"
"""Kind of the turns that call nothing."""
_NO_SESSION = 0.9
"""Share of the rows above which what they have as id of a session is none."""
Message = Mapping[str, Any]


@dataclass(frozen=True)
class _PlacedTurn:
    turn: Turn
    beginnings: tuple[str, ...]
    """Hashes of what was said before each turn of the model so far, its own the last."""
    session: str = ""


@dataclass(frozen=True)
class ToolTurns:
    """Tells the turns of a task of tools: see `stratos.tasks.base.Turns`."""

    parse: Callable[[str], str | None]
    learns_texts: bool
    """Whether a text may be due; where not, it is the decision to call nothing."""
    names: Names
    workload: str | None = None
    """Id of the only workload of a log to read; None reads all."""

    def of_answers(self, answers: Iterable[tuple[str, str]]) -> list[Turn]:
        """Return the turns of questions with a model's texts, in their order."""
        return _joined([self._asked(question, text) for question, text in answers])

    def of_log(
        self, path: str, messages_key: str | None, answer_key: str | None
    ) -> tuple[list[Turn], int]:
        """Return the turns of a log, and how many rows could not be read.

        Raises:
            OSError: it cannot be read.
        """
        names = self.names
        names = replace(names, messages=messages_key or names.messages)
        names = replace(names, calls=answer_key or names.calls)
        reader, turns, n_wrong = ToolRowReader(names), list[_PlacedTurn](), 0
        reader.begin(read_records(path))
        for _, data in read_records(path):
            if isinstance(data, Reason):
                n_wrong += 1
                continue
            try:
                for _, part in list(parts_of_row(data)):
                    with suppress(PassedOver):
                        turns += self._of_row(reader, part)
            except OF_WRONG_TYPES:  # a row that is no conversation, too
                n_wrong += 1
        return _joined(turns), n_wrong

    def typed(self, path: str, messages_key: str | None, answer_key: str | None) -> tuple[str, ...]:
        """Return the overrides of a task that learns a log, whose answers a teacher checks."""
        keys = ("conversation", messages_key), ("answer", answer_key)
        named = [f"task.{key}={value}" for key, value in keys if value is not None]
        return (f"task.path={path}", "task.answers=relabel", *named)

    def _of_row(self, reader: ToolRowReader, data: Mapping[str, Any]) -> Iterator[_PlacedTurn]:
        """Yield the turns of a row.

        Raises:
            ValueError: it cannot be read.
        """
        if (trace := reader.trace_of(data)) is not None:
            yield from self._of_trace(trace)
            return
        fields = row_of(data, reader.names)
        if not isinstance(fields, dict):
            raise ValueError(str(fields))
        yield self._asked(fields["question"], fields["answer"])

    def _of_trace(self, trace: Trace) -> Iterator[_PlacedTurn]:
        """Yield the turns of a conversation that are the model's own.

        Raises:
            WrongRow: its messages are out of order.
        """
        with suppress(UnansweredRow):  # an empty text is the decision to call nothing
            conversation = conversation_of(trace.turns, trace.about)
            if self.workload not in (None, workload_of(conversation).id):
                return
        calls_of_turns = [
            [Call(call.name, json.loads(call.arguments)) for call in turn.calls]
            for turn in trace.turns
        ]
        messages = [*map(_clean, map(message_of, trace.turns, calls_of_turns))]
        roles = [message["role"] for message in messages]
        first = roles.index("user") if "user" in roles else len(roles)
        first = len(roles) - 1 if trace.about.only_last else first
        n_results = 0
        for index, beginnings in _beginnings(messages):
            n_results = roles[:index].count("tool")
            if index < first or index == len(roles) or not trace.turns[index].is_learnt:
                continue
            calls = calls_of_turns[index]
            # Nothing says that no call would have been right.
            if not calls and not self.learns_texts and n_results:
                continue
            answer = written(calls) if calls else messages[index]["content"]
            yield self._turn(messages[:index], beginnings, answer, trace.about.session)

    def _asked(self, question: str, text: str) -> _PlacedTurn:
        messages = messages_in(question)
        *_, (_, beginnings) = _beginnings(messages)
        return self._turn(messages, beginnings, text)

    def _turn(
        self, messages: Sequence[Message], beginnings: tuple[str, ...], text: str, session: str = ""
    ) -> _PlacedTurn:
        answer, kind = self._spelled(text)
        last = max((k for k, message in enumerate(messages) if message["role"] == "assistant"),
                   default=-1)  # fmt: skip
        request = "\n".join(
            str(message["content"])
            for message in messages[last + 1 :]
            if message["role"] in ("user", "tool")
        )
        return _PlacedTurn(Turn(beginnings[-1], "", request, answer, kind), beginnings, session)

    def _spelled(self, text: str) -> tuple[str, str | None]:
        """Return an answer in one spelling, and its kind: a server sends no calls as no text."""
        text, calls = text.strip(), read(text)
        if calls:
            return written(calls), " + ".join(sorted(call.name for call in calls))
        if calls is not None or not text:
            return "", NO_CALL
        is_read = self.parse(text) is not None
        is_text = not self.learns_texts and text[0] not in "[{<"  # else calls that are broken
        return text, NO_CALL if is_read or is_text else None


def _clean(message: Message) -> Message:
    """Return a message as a model reads it, without secrets."""
    cleaned: Message = json.loads(redact_shapes(writable(line_of(message)))[0])
    return cleaned


def _beginnings(messages: Sequence[Message]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the place of each turn of the model, and of one behind all messages, with hashes.

    They are of what was said before each turn so far, but for the system's messages.
    """
    digest, hashes = hashlib.blake2b(digest_size=8), tuple[str, ...]()
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            hashes = (*hashes, digest.hexdigest())
            yield index, hashes
        if message["role"] not in ("system", "developer"):
            digest.update(line_of(message).encode())
    yield len(messages), (*hashes, digest.hexdigest())


def _joined(turns: Sequence[_PlacedTurn]) -> list[Turn]:
    """Return the turns with their conversations."""
    follows: dict[str, set[str]] = {}
    for placed in turns:
        for before, behind in pairwise(placed.beginnings):
            follows.setdefault(before, set()).add(behind)
    up = {
        behind: before
        for before, several in follows.items()
        if len(several) == 1
        for behind in several
    }

    def root(node: str) -> str:
        start = node
        while node in up:
            node = up[node]
        while start != node:  # so that no way is walked twice
            up[start], start = node, up[start]
        return node

    sessions = Counter(placed.session for placed in turns)
    first, seen = dict[str, str](), set[str]()
    for placed in turns:
        is_one = bool(placed.session) and sessions[placed.session] <= _NO_SESSION * len(turns)
        if is_one and placed.turn.id not in seen:  # what two sessions begin with does not join them
            seen.add(placed.turn.id)
            own = root(placed.beginnings[-1])
            of_session = root(first.setdefault(placed.session, own))
            if own != of_session:
                up[own] = of_session
    return [replace(placed.turn, conversation=root(placed.beginnings[-1])) for placed in turns]
