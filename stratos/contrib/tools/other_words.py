"""Asking a teacher to word the request for calls that are there already."""

from __future__ import annotations

from stratos.contrib.tools.calls import read
from stratos.contrib.tools.signatures import request_in, tools_in
from stratos.tasks.base import Item, Message

_FOR_CALLS = (
    "You write what people ask an assistant. Write one request that makes it call exactly these "
    "tools with exactly these arguments. Say every argument's value, in the words of somebody who "
    "does not know the tools: name no tool, and no argument as it is spelled there. Write the "
    "request only."
)
_FOR_NONE = (
    "You write what people ask an assistant. Say the request in other words, as somebody would who "
    "knows nothing of tools. Keep its meaning, and all names, numbers and values in it. Write the "
    "request only."
)


def wording_of(item: Item) -> list[Message]:
    """Return the chat that asks for a request in other words.

    It shows the calls and their tools. Where no call is right, the request is said anew.
    """
    plain = request_in(item.question)
    names = {call.name for call in read(item.answer) or ()}
    if not names:
        asked = f"Request: {plain}\nNew request:"
        return [{"role": "system", "content": _FOR_NONE}, {"role": "user", "content": asked}]
    tools = "\n".join(tool.line for tool in tools_in(item.question) if tool.name in names)
    asked = f"Tools:\n{tools}\n\nCalls: {item.answer}\n\nA clumsy request: {plain}\nNew request:"
    return [{"role": "system", "content": _FOR_CALLS}, {"role": "user", "content": asked}]


def gives_away(text: str, item: Item) -> bool:
    """Return whether a text holds calls as they are written, or a name that nobody says."""
    called = read(item.answer) or ()
    names = {name for call in called for name in (call.name, *call.arguments)}
    return "{" in text or any(name in text for name in names if not name.isalpha())
