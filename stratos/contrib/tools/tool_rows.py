"""One line of a user's file as a question with its tools, and its gold calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stratos.contrib.logs.conversation import (
    PassedOver,
    Turn,
    UnansweredRow,
    WrongRow,
    conversation_of,
    particulars,
)
from stratos.contrib.logs.exchanges import exchange_in
from stratos.contrib.logs.turn_rows import (
    OF_WRONG_TYPES,
    beginnings,
    session_of,
    workload_of,
)
from stratos.contrib.logs.words import FieldOfWrongType
from stratos.contrib.tools.calls import Call, calls_of, why_invalid, written
from stratos.contrib.tools.signatures import Tool, json_of, messages_in, question_of, tools_of
from stratos.contrib.tools.words import NoArgument, NoTools, WrongAccept
from stratos.core.foreign import cause
from stratos.core.formats import writable
from stratos.core.reasons import Because, Reason
from stratos.core.redact import redact_shapes, shown
from stratos.tasks.dedup.hashes import family_hash, id_of, normalised
from stratos.tasks.dedup.near import Alike
from stratos.tasks.rows import Unanswered, find_field
from stratos.tasks.table import Provenance, Row
from stratos.tasks.words import EmptyField, LacksField

_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Names:
    """What the fields of a line are called: `a|b` is the first of them that it has."""

    question: str
    messages: str
    tools: str
    calls: str


def row_of(data: Mapping[str, Any], names: Names) -> dict[str, Any] | Unanswered | Reason:
    """Return the fields that a row is read by, or what is wrong with the line.

    They are `question`, `answer`, `slice`, and `options`: what else is right, where the line says
    so.
    """
    row = dict(data)
    named_tools = find_field(row, names.tools)
    if named_tools is None:
        return LacksField(names.tools, tuple(map(str, row)))
    try:
        tools = tools_of(row[named_tools] or [])
        if not tools:
            return NoTools(named_tools)
        messages, last = _asked(row, names)
        key = find_field(row, names.calls)
        if key is not None and row[key] is not None:
            calls = calls_of(row[key])
        elif last is not None:
            calls = calls_of(last.get("tool_calls") or [])
        else:
            return Unanswered(EmptyField(names.calls.replace("|", " or ")))
    except ValueError as error:
        return Because(str(error))
    by_name = {tool.name: tool for tool in tools}
    calls = [
        replace(call, arguments=by_name[call.name].without_nulls(call.arguments))
        if call.name in by_name
        else call
        for call in calls
    ]
    if problem := why_invalid(calls, tools) or _why_no_other(calls, by_name):
        return problem
    ordered = [Call(call.name, by_name[call.name].ordered(call.arguments)) for call in calls]
    made: dict[str, Any] = {
        "question": question_of(tools, messages),
        "answer": written(ordered),
        "slice": slice_of(tools, ordered),
    }
    if any(call.accept or call.optional for call in calls):
        more = [[call.accept, sorted(call.optional)] for call in calls]
        made["options"] = [json.dumps(more, ensure_ascii=False)]
    return made


def _why_no_other(calls: Sequence[Call], by_name: Mapping[str, Tool]) -> Reason | None:
    """Return what is wrong with what else is right; None if nothing."""
    for number, call in enumerate(calls, start=1):
        tool = by_name[call.name]
        for key, names in (("optional", call.optional), ("accept", call.accept)):
            for name in names:
                if not tool.has(name):
                    return NoArgument(key, number, name, tool.name, tuple(tool.properties))
        for name, values in call.accept.items():
            for value in values:
                if not tool.takes(tool.properties.get(name, True), value):
                    return WrongAccept(number, name, value, tool.name)
    return None


def slice_of(tools: Sequence[Tool], calls: Sequence[Call]) -> str:
    """Return the slice of a row: by how many tools there are, and how many calls."""
    if not calls:
        return "irrelevant"
    if len(calls) > 1:
        return "parallel"
    return "multiple" if len(tools) > 1 else "simple"


def _asked(
    row: dict[str, Any], names: Names
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """Return the messages before the calls, and the message that makes them, if it is there.

    Raises:
        ValueError: they cannot be read; the message says which and why.
    """
    key = find_field(row, names.messages)
    named = find_field(row, names.question)
    value = row[key] if key is not None else row[named] if named is not None else None
    if isinstance(value, str) and key is not None:
        value = json_of(value, f"{key} is")
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value.strip()}], None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # one turn of several
    if not isinstance(value, list) or not value:
        lacking = f"{names.question}|{names.messages}".replace("|", " or ")
        raise ValueError(f"has no {lacking}")
    messages = [_message(message, k) for k, message in enumerate(value, start=1)]
    last = value[-1] if messages[-1]["role"] == "assistant" else None
    before = messages[:-1] if last is not None else messages
    open_calls = False
    for k, message in enumerate(before, start=1):
        if message["role"] == "tool" and not open_calls:
            raise ValueError(f"message {k} is the result of a tool that no message called")
        open_calls = message["role"] == "tool" or "tool_calls" in message
    if not any(message["role"] == "user" for message in before):
        raise ValueError("no message is of the user")
    return before, last


def _message(value: Any, number: int) -> dict[str, Any]:
    if not isinstance(value, Mapping) or value.get("role") not in _ROLES:
        role = value.get("role") if isinstance(value, Mapping) else None
        raise ValueError(
            f"message {number} has the role {shown(str(role))}, not one of {', '.join(_ROLES)}"
        )
    content = value.get("content")
    if isinstance(content, list):  # of parts: what is no text is left out
        content = "".join(
            str(part.get("text", "")) for part in content if isinstance(part, Mapping)
        )
    if content is not None and not isinstance(content, str):
        raise ValueError(f"the content of message {number} is no text")
    made: dict[str, Any] = {"role": value["role"], "content": (content or "").strip()}
    if value["role"] == "user" and not made["content"]:
        is_image = isinstance(value.get("content"), list) and bool(value["content"])
        what = "has an image or file and no text" if is_image else "is empty"
        raise ValueError(f"message {number} of the user {what}")
    if value.get("tool_calls"):
        calls = calls_of(value["tool_calls"])
        made["tool_calls"] = json.loads(written(calls))
    return made


_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class Families:
    """Of each row of a file's requests the family, and the same of any other request."""

    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each row, by its number."""
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Hashes of all requests, sorted."""
    of_requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each of these its family."""
    n_of_no_session: int = 0
    """Rows with an id of a session that nearly all have."""

    @staticmethod
    def of(alike: Alike) -> Families:
        """Return the families of the requests that were taken in."""
        keys = alike.keys()
        requests, first = np.unique(alike.wholes(), return_index=True)
        return Families(keys, requests, keys[first], alike.n_of_no_session)

    def family(self, question: str) -> str:
        """Return the family of a question: of a request that no row has, one of its own."""
        own = np.uint64(family_hash(normalised(asked_in(messages_in(question)))))
        index = int(np.searchsorted(self.requests, own))
        is_known = index < len(self.requests) and self.requests[index] == own
        return id_of(int(self.of_requests[index] if is_known else own))


def take_in(alike: Alike, question: str, session: str) -> int:
    """Take the request of a question in; return its number.

    Args:
        alike: what takes it in.
        question: with the tools, as a model is asked.
        session: id of its session, "" without one.
    """
    messages = messages_in(question)
    coded = ((str(message["role"]), _encode(message)) for message in messages)
    return alike.add(asked_in(messages), beginnings(coded, "user"), session_of(session))


def asked_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what the user wrote, a line for each message."""
    return "\n".join(str(message["content"]) for message in messages if message["role"] == "user")


NO_TOOLS = "requests without tools"
TEXT_AFTER_RESULTS = "answers in text to results of tools"
"""Nothing says that no call would have been right."""
_OWN = Names("question", "messages", "tools", "calls")


class _OtherWorkload(Exception):
    """A row is of another workload than the one that is read."""


@dataclass
class ToolRowReader:
    """Reads rows of either form, and counts what is left out though nothing is wrong with it."""

    names: Names
    workload: str | None = None
    """Id of the only workload that is read of a log; None reads all."""
    n_logged: int = 0
    """Rows that were requests with responses."""
    n_other: int = 0
    """Rows of other workloads."""
    n_secrets: int = 0
    """Keys and tokens that were replaced."""
    passed: Counter[str] = field(default_factory=Counter)
    alike: Alike = field(default_factory=Alike)
    """Tells which requests belong together."""

    def read(self, line: str, data: Mapping[str, Any]) -> Row | Unanswered | Reason | None:
        """Return a row, or what is wrong with it; None of one that is left out."""
        try:
            own = self._of_log(data)
            row = row_of(data, self.names) if own is None else row_of(own, _OWN)
            session = particulars("", data).session
        except UnansweredRow as error:
            return Unanswered(Because(str(error)))
        except WrongRow as error:
            return Because(str(error))
        except _OtherWorkload:
            self.n_other += 1
            return None
        except PassedOver as kind:
            self.passed[str(kind)] += 1
            return None
        except OF_WRONG_TYPES as error:
            return FieldOfWrongType(cause(error))
        return self._row(line, row, session) if isinstance(row, dict) else row

    def _row(self, line: str, fields: dict[str, Any], session: str) -> Row:
        question, answer = self._redacted(fields["question"]), self._redacted(fields["answer"])
        number = take_in(self.alike, question, session)
        options = tuple(map(self._redacted, fields.get("options", ())))
        provenance = Provenance(number, nan, "", "")
        return Row(line, question, answer, "", fields["slice"], options, provenance)

    def _of_log(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return messages, tools and calls of a request with its response; None of another row."""
        if find_field(dict(data), self.names.calls) is not None:
            return None
        exchange = exchange_in(data)
        if exchange is None:
            return None
        conversation = conversation_of(exchange.turns, exchange.about)  # checks their order
        if self.workload is not None and workload_of(conversation).id != self.workload:
            raise _OtherWorkload
        if exchange.tools is None:
            raise PassedOver(NO_TOOLS)
        *before, answer = exchange.turns
        if not answer.calls and any(turn.role == "tool" for turn in before):
            raise PassedOver(TEXT_AFTER_RESULTS)
        self.n_logged += 1
        return {
            "messages": [_message_of(turn) for turn in before],
            "tools": exchange.tools,
            "calls": _calls_of(answer),
        }

    def _redacted(self, text: str) -> str:
        redacted, n = redact_shapes(writable(text))
        self.n_secrets += n
        return redacted


def _message_of(turn: Turn) -> dict[str, Any]:
    message = {"role": turn.role, "content": turn.text}
    return {**message, "tool_calls": _calls_of(turn)} if turn.calls else message


def _calls_of(turn: Turn) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": json.loads(call.arguments)} for call in turn.calls]
