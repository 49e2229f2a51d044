"""What the messages of all formats have in common: roles, parts of content, tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from stratos.contrib.logs.messages.conversation import Call, Turn, WrongRow
from stratos.tasks.shown import shown

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""Role to what it is here."""
_ROLE = {"role", "from"}
_OF_TEXT = {"text", "input_text", "output_text", "refusal"}
_LEFT_OUT = {
    "image", "image_url", "input_image", "audio", "input_audio", "video", "video_url", "file",
    "input_file", "document", "blob", "uri",
}  # fmt: skip
"""Parts that are counted and not read."""
_UNSAID = {"thinking", "redacted_thinking", "reasoning"}
"""Parts that the user did not get to see."""
_IMAGE_URL = re.compile(r"data:[\w.+/-]+;base64,[A-Za-z0-9+/=\s]{64,}")
IMAGE = "[image]"
"""What stands in a text in place of an image that was written into it."""


def decoded(value: Any) -> Any:
    """Return what a text is the JSON of, where it is an object or a list; else the value itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def messages_in(value: Any) -> Any:
    """Return the messages that a text is the JSON of; any other value as it is.

    A text that is JSON of something else is what somebody wrote.
    """
    found = decoded(value)
    is_list = isinstance(found, list) and bool(found)
    return (
        found
        if is_list and all(isinstance(one, Mapping) and _ROLE & set(one) for one in found)
        else value
    )


def turns_of(raw: Any, what: str = "messages") -> list[Turn]:
    """Return the turns of a list of messages.

    Raises:
        WrongRow: it is none.
    """
    raw = decoded(raw)
    if not isinstance(raw, list):
        raise WrongRow(f"{what} is no list")
    if not raw:
        raise WrongRow(f"{what} is empty")
    found: list[Turn] = []
    for number, one in enumerate(raw, start=1):
        if not isinstance(one, Mapping):
            raise WrongRow(f"message {number} is no object")
        found += _turns_of_message(one, number)
    return found


def _turns_of_message(message: Mapping[str, Any], number: int) -> list[Turn]:
    role = role_of(message.get("role", message.get("from")), number)
    content = message.get("content", message.get("value", message.get("parts")))
    text, n_images, calls, results = parts_of(content, number)
    calls += _calls(message, number)
    is_learnt = message.get("weight", 1) not in (0, False)
    if role == "tool":
        of = message.get("tool_call_id") or message.get("name") or ""
        return results or [Turn("tool", text, result_of=str(of), n_images=n_images)]
    if results and not text:
        return results
    return [*results, Turn(role, text, tuple(calls), None, is_learnt, n_images)]


def role_of(role: Any, number: int) -> str:
    """Return what a role is here.

    Raises:
        WrongRow: there is no such role.
    """
    known = ROLES.get(role.casefold()) if isinstance(role, str) else None
    if known is None:
        raise WrongRow(f"message {number} has the role {shown(json.dumps(role, default=str))}")
    return known


def parts_of(content: Any, number: int) -> tuple[str, int, list[Call], list[Turn]]:
    """Return text, number of images, tool calls and results of tools of a message's content.

    Raises:
        WrongRow: it is neither text nor a list of parts.
    """
    if content is None:
        return "", 0, [], []
    if isinstance(content, str):
        text, n = without_images(content)
        return text, n, [], []
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        raise WrongRow(f"message {number} has a content that is no text")
    texts: list[str] = []
    n_images, calls, results = 0, list[Call](), list[Turn]()
    for part in content:
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, Mapping):
            raise WrongRow(f"message {number} has a part that is neither text nor an object")
        kind = part.get("type", "text" if "text" in part else None)
        if kind in _OF_TEXT:
            text = part.get("text", part.get("content", part.get("refusal")))
            if not isinstance(text, str):
                raise WrongRow(f"message {number} has a part of text without text")
            text, n = without_images(text)
            n_images += n
            texts.append(text)
        elif kind in _LEFT_OUT or "image_url" in part:
            n_images += 1
        elif kind in ("tool_use", "tool_call"):
            arguments = part.get("input", part.get("arguments", {}))
            calls.append(call_of(part.get("id"), part.get("name"), arguments, number))
        elif kind in ("tool_result", "tool_call_response"):
            inner = part.get("content", part.get("response", part.get("result")))
            inner = inner if isinstance(inner, str | list | None) else json.dumps(inner)
            text, n, *_ = parts_of(inner, number)
            of = str(part.get("tool_use_id", part.get("id")) or "")
            results.append(Turn("tool", text, result_of=of, n_images=n))
        elif kind not in _UNSAID:
            raise WrongRow(
                f"message {number} has a part of the type {shown(json.dumps(kind, default=str))}"
            )
    return "\n".join(texts), n_images, calls, results


def without_images(text: str) -> tuple[str, int]:
    """Return a text without images that are written into it as base64, and how many there were."""
    return _IMAGE_URL.subn(IMAGE, text) if ";base64," in text else (text, 0)


def _calls(message: Mapping[str, Any], number: int) -> list[Call]:
    found = message.get("tool_calls") or []
    if not isinstance(found, list):
        raise WrongRow(f"message {number} has tool_calls that are no list")
    single = message.get("function_call")
    calls = [(None, single)] if isinstance(single, Mapping) else []
    for one in found:
        if not isinstance(one, Mapping):
            raise WrongRow(f"message {number} has a tool call that is no object")
        calls.append((one.get("id"), one.get("function", one)))
    made = []
    for id, function in calls:
        if not isinstance(function, Mapping):
            raise WrongRow(f"message {number} has a tool call without a function")
        made.append(
            call_of(
                id, function.get("name"), function.get("arguments", function.get("args")), number
            )
        )
    return made


def call_of(id: Any, name: Any, arguments: Any, number: int) -> Call:
    """Return a tool call.

    Raises:
        WrongRow: it has no name, or its arguments are no JSON.
    """
    if not isinstance(name, str) or not name:
        raise WrongRow(f"message {number} calls a tool without a name")
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise WrongRow(
                f"message {number} calls {shown(name)} with arguments that are no JSON"
            ) from error
    return Call(str(id or ""), name, json.dumps(arguments or {}, ensure_ascii=False, default=str))
