"""One line of a user's file as a question with its tools, and its gold calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stratos.contrib.tools.calls import Call, calls_of, written
from stratos.contrib.tools.matching import why_invalid
from stratos.contrib.tools.signatures import Tool, question_of, tools_of
from stratos.contrib.tools.words import NoArgument, NoTools, WrongAccept
from stratos.core.reasons import Because, Reason
from stratos.tasks.rows import Unanswered, find_field
from stratos.tasks.shown import shown
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
        found = find_field(row, names.calls)
        if found is not None and row[found] is not None:
            calls = calls_of(row[found])
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
    said = find_field(row, names.messages)
    named = find_field(row, names.question)
    value = row[said] if said is not None else row[named] if named is not None else None
    if isinstance(value, str) and said is not None:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{said} is {shown(value)}, which is no JSON") from None
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value.strip()}], None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # one turn of several
    if not isinstance(value, list) or not value:
        lacking = f"{names.question}|{names.messages}".replace("|", " or ")
        raise ValueError(f"has no {lacking}")
    messages = [_message(one, k) for k, one in enumerate(value, start=1)]
    last = value[-1] if messages[-1]["role"] == "assistant" else None
    asked = messages[:-1] if last is not None else messages
    open_calls = False
    for k, message in enumerate(asked, start=1):
        if message["role"] == "tool" and not open_calls:
            raise ValueError(f"message {k} is the result of a tool that no message called")
        open_calls = message["role"] == "tool" or "tool_calls" in message
    if not any(message["role"] == "user" for message in asked):
        raise ValueError("no message is of the user")
    return asked, last


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
