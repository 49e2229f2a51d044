"""Requests that name what a tool does and its arguments, without the wording of any row.

What a tool does is told by its description, by the first words of it, or by its name. An argument
stands with its name, or without it where only one reading is left: the first that is required
(`Find the weather in Rome`), or all of them where they are numbers (`… of 40 and 50`). `read` goes
through the same forms without the call.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from stratos.tasks.tools.calls import Call
from stratos.tasks.tools.signatures import Tool
from stratos.tasks.tools.spelling import LONGEST, spellings, value_of_text

_FORMS = (
    "Please {phrase}",
    "I need to {phrase}",
    "Could you {phrase}",
    "{Phrase}",
    "I want to {phrase}",
    "Can you {phrase}",
    "Help me {phrase}",
    "I'd like to {phrase}",
)
_STYLES = (
    (" with ", " ", " and "),
    (": ", " = ", " and "),
    (", ", ": ", " and "),
    (" using ", " ", " and "),
    (", where ", " is ", " and "),
    (" with a ", " of ", " and a "),
    (". The ", " is ", " and the "),
    (" with ", " ", ", "),
    (". ", ": ", ", "),
)
"""What stands before the arguments, between the name of each and its value, and between two."""
_BEFORE_FIRST = (" for ", " of ", " in ", " at ", " about ", " from ")
"""What stands before the first argument where it has no name."""
_BETWEEN_NUMBERS = " and "
_SHARE_UNNAMED = 0.5
_LEAST_NUMBERS, _MOST_NUMBERS = 2, 4
_FIRST = re.compile(r"(?<=[a-z\d)])\.(?:\s|$)|\n")
_PREFACE = re.compile(
    r"(?:this|the) (?:function|tool|api|method|endpoint)\s+(?:is used to |allows you to |can )?",
    re.IGNORECASE,
)
_DETAIL = re.compile(
    r",| (?:based on|given|by|using|with|from|for|of an?|for an?|in an?|according to|including|that"
    r"|which|and|if|between|where|on an?|at an?|via|through) ",
    re.IGNORECASE,
)
"""Behind this a description goes into what is given."""
_SPACE = re.compile(r".*\.|^[A-Za-z]+_\d+_")
"""What stands before the name of a tool proper: its API."""
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_LEAST_WORDS = 2
"""Of a shorter phrase, and of a name, so that it says what is done."""
_MOST_WORDS = 6
"""Of a name that is said in place of the description."""


def write(call: Call, tool: Tool, rng: random.Random) -> str:
    """Return a request for one call."""
    phrase = rng.choice(_phrases(tool))
    text = rng.choice(_FORMS).format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])
    names = list(call.arguments)

    def said(name: str) -> str:
        return rng.choice(spellings(call.arguments[name], tool, name) or [str(None)])

    if rng.random() < _SHARE_UNNAMED:
        if _are_numbers(call.arguments, tool):
            values = _BETWEEN_NUMBERS.join(said(name) for name in tool.required)
            return f"{text}{rng.choice(_BEFORE_FIRST)}{values}"
        first = _first(tool)
        if first in names:
            names.remove(first)
            text += f"{rng.choice(_BEFORE_FIRST)}{said(first)}"
    rng.shuffle(names)
    link, sign, glue = rng.choice(_STYLES)
    told = [f"{_words(name)}{sign}{said(name)}" for name in names]
    return text + (link + glue.join(told) if told else "")


def read(request: str, tool: Tool) -> Iterator[Call]:
    """Yield every call of a tool that a request can be read as."""
    for phrase in _phrases(tool):
        for form in _FORMS:
            head = form.format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])
            if not request.startswith(head):
                continue
            for arguments in _read_rest(request[len(head) :], tool):
                if tool.problem(arguments) is None:
                    yield Call(tool.name, tool.ordered(arguments))


def _read_rest(rest: str, tool: Tool) -> Iterator[dict[str, Any]]:
    """Yield the arguments that stand behind what is done."""
    if not rest:
        yield {}
        return
    yield from _named(rest, tool)
    first = _first(tool)
    for before in _BEFORE_FIRST:
        if not rest.startswith(before):
            continue
        text = rest[len(before) :]
        parts = text.split(_BETWEEN_NUMBERS)
        if len(parts) == len(tool.required):
            values = [
                value_of_text(one, tool, name)
                for one, name in zip(parts, tool.required, strict=True)
            ]
            found = dict(zip(tool.required, values, strict=True))
            if _are_numbers(found, tool):
                yield found
        if first is None:
            continue
        ends = _ends(text, tool)
        for end in ends or [len(text)]:
            value = value_of_text(text[:end], tool, first)
            if value is None or not text[:end]:
                continue
            for others in _named(text[end:], tool) if text[end:] else [{}]:
                if first not in others:
                    yield {first: value, **others}


def _ends(text: str, tool: Tool) -> list[int]:
    """Return where in a text the arguments that are named may begin.

    A value that holds the name of an argument as a request says it cannot be told from that one.
    """
    found = set()
    for link, sign, _ in _STYLES:
        for name in tool.properties:
            place = text.find(f"{link}{_words(name)}{sign}")
            if place >= 0:
                found.add(place)
    return sorted(found)


def _named(text: str, tool: Tool) -> Iterator[dict[str, Any]]:
    for link, sign, glue in _STYLES:
        if text.startswith(link):
            arguments = _arguments(text[len(link) :], sign, glue, tool)
            if arguments is not None:
                yield arguments


def _arguments(text: str, sign: str, glue: str, tool: Tool) -> dict[str, Any] | None:
    """Return the arguments that a text names; None where some part of it names none."""
    by_words = {_words(name) + sign: name for name in tool.properties}
    found: dict[str, Any] = {}
    for part in text.split(glue):
        words = max((one for one in by_words if part.startswith(one)), key=len, default="")
        value = value_of_text(part[len(words) :], tool, by_words[words]) if words else None
        if value is None or by_words[words] in found:
            return None
        found[by_words[words]] = value
    return found


def _first(tool: Tool) -> str | None:
    """Return the argument that may stand without its name: the first that is required."""
    return next((name for name in tool.properties if name in tool.required), None)


def _are_numbers(arguments: dict[str, Any], tool: Tool) -> bool:
    """Return whether arguments are all that are required and no others, each of them a number."""
    return (
        _LEAST_NUMBERS <= len(arguments) <= _MOST_NUMBERS
        and arguments.keys() == set(tool.required)
        and all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value in arguments.values()
        )
    )


@lru_cache(maxsize=4096)
def _phrases_of(name: str, description: str) -> tuple[str, ...]:
    first = _FIRST.split(description, maxsplit=1)[0].strip().rstrip(".")
    words = _words(_SPACE.sub("", name))
    by_name = words if _LEAST_WORDS <= len(words.split()) <= _MOST_WORDS else ""
    verb, _, rest = _PREFACE.sub("", first).partition(" ")
    whole = f"{_bare(verb)} {rest}".strip()
    short = _DETAIL.split(whole, maxsplit=1)[0].strip()
    if len(short.split()) < _LEAST_WORDS:
        short = ""
    found = [one for one in (whole, short, by_name) if 0 < len(one) <= LONGEST // 4]
    return tuple(dict.fromkeys(found)) or (f"call {name}",)


def _phrases(tool: Tool) -> tuple[str, ...]:
    """Return what a tool does, as it follows "Please"."""
    return _phrases_of(tool.name, tool.description)


def _bare(verb: str) -> str:
    """Return a verb as it follows "Please": that of "Returns the weather" is "return"."""
    if verb.isupper():
        return verb
    verb = verb.lower()
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    if verb.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith(("ss", "us", "is")) else verb


def _words(name: str) -> str:
    return _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ").lower()
