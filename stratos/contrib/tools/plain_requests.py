"""Requests that name what a tool does and its arguments, without the wording of any row.

What a tool does is told by its description, by the first words of it, or by its name, as an order
or as a question. An argument stands with its name, or without it where only one reading is left:
the first that is required (`Find the weather in Rome`), all of them where they are numbers
(`… of 40 and 50`), or each with the words that its name suggests (`… from Rome to Oslo on
2024-05-03 for 3 nights`). `read` goes through the same forms without the call.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.drawing import (
    ENGLISH,
    LONGEST,
    CannotDrawError,
    spellings,
    value_of_text,
)
from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.words import NoDraw, NotDrawn

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
_DANGLING = re.compile(r"(?: (?:a|an|the|of|in|on|at|to|for|its|their))+$", re.IGNORECASE)
_SPACE = re.compile(r".*\.|^[A-Za-z]+_\d+_")
"""What stands before the name of a tool proper: its API."""
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_LEAST_WORDS = 2
"""Of a shorter phrase, and of a name, so that it says what is done."""
_MOST_WORDS = 6
"""Of a name that is said in place of the description."""


def phrases(tool: Tool) -> tuple[str, ...]:
    """Return what a tool does, as it follows "Please"."""
    return _phrases_of(tool.name, tool.description)


def nouns(tool: Tool) -> tuple[str, ...]:
    """Return what a tool gives, as it follows "Show me"; none where it does something else."""
    parts = (phrase.partition(" ") for phrase in phrases(tool))
    return tuple(
        dict.fromkeys(rest for verb, _, rest in parts if verb in ENGLISH["asking"] and rest)
    )


def words_of(name: str) -> str:
    """Return the words of a name."""
    words = _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ").lower()
    return " ".join(words.split())


@lru_cache(maxsize=4096)
def _phrases_of(name: str, description: str) -> tuple[str, ...]:
    first = _FIRST.split(description, maxsplit=1)[0].strip().rstrip(".")
    words = words_of(_SPACE.sub("", name))
    by_name = words if _LEAST_WORDS <= len(words.split()) <= _MOST_WORDS else ""
    verb, _, rest = _PREFACE.sub("", first).partition(" ")
    whole = f"{_bare(verb)} {rest}".strip()
    short = _DANGLING.sub("", _DETAIL.split(whole, maxsplit=1)[0].strip())
    if len(short.split()) < _LEAST_WORDS:
        short = ""
    found = [one for one in (whole, short, by_name) if 0 < len(one) <= LONGEST // 4]
    return tuple(dict.fromkeys(found)) or (f"call {name}",)


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


BETWEEN_NUMBERS = " and "
BEFORE_ANY = ENGLISH["before_any"]
BEFORE_FIRST = [*BEFORE_ANY, *ENGLISH["before_first"]]
_END = re.compile(r"(?:,? please)?(?: for me)?[.?!]?(?: Thanks!)?$")


def headed(form: str, phrase: str) -> str:
    """Return the head of a request: what it wants, in a form."""
    return form.format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])


def without_manners(request: str) -> str:
    """Return a request without its greeting, and without what ends it."""
    greeting = next((one for one in ENGLISH["greetings"] if request.startswith(one)), "")
    return _END.sub("", request[len(greeting) :], count=1)


@lru_cache(maxsize=4096)
def ways_of(name: str) -> tuple[tuple[str, str], ...]:
    """Return what may stand before and behind the value of an argument, by its name."""
    words = words_of(name)
    parts = words.split()
    if parts and parts[-1] in ENGLISH["counted"]:
        return ((" for ", f" {parts[-1]}"), (" with ", f" {parts[-1]}"))
    fitting = (entry for entry in ENGLISH["suggested"] if set(entry["names"]) & set(parts))
    suggested = next(fitting, {"before": ()})["before"]
    return *((before, "") for before in suggested), (f" with {words} ", "")


@lru_cache(maxsize=4096)
def marks_of(names: tuple[str, ...]) -> frozenset[str]:
    """Return what the arguments of these names begin with, behind another one's value."""
    signs = {sign for _, sign, _ in ENGLISH["styles"]}
    named = {f" {words_of(name)}{sign}" for name in names for sign in signs}
    return frozenset(named | {before for name in names for before, _ in ways_of(name)})


_SHARE_UNNAMED, _SHARE_FLOWING = 0.4, 0.4
_SHARE_ASKED = 0.4
"""Share of questions, where a tool gives something."""
_SHARE_GREETED, _SHARE_ENDED = 0.15, 0.4
_LEAST_NUMBERS, _MOST_NUMBERS = 2, 4
_MOST_FLOWING = 6
"""Arguments that stand one behind another."""


def write(call: Call, tool: Tool, rng: random.Random, *, is_alone: bool = True) -> str:
    """Return a request for one call.

    Args:
        call: that is asked for.
        tool: that it is of.
        rng: source of chance.
        is_alone: whether nothing else stands in the same text, so that it may begin with a
            greeting, and end like a sentence.

    Raises:
        CannotDrawError: a value cannot be said in a few words.
    """
    asked = nouns(tool)
    is_question = bool(asked) and rng.random() < _SHARE_ASKED
    phrase = rng.choice(asked if is_question else phrases(tool))
    form = rng.choice(ENGLISH["questions"] if is_question else ENGLISH["orders"])
    text = headed(form, phrase) + told(call.arguments, tool, rng)
    if is_alone and rng.random() < _SHARE_GREETED:
        text = rng.choice(ENGLISH["greetings"]) + text
    return text + rng.choice(ENGLISH["ends"]) if is_alone and rng.random() < _SHARE_ENDED else text


def told(
    arguments: Mapping[str, Any], tool: Tool, rng: random.Random, *, is_further: bool = False
) -> str:
    """Return what a request says of arguments, behind what is done.

    Args:
        arguments: of a call.
        tool: that it is of.
        rng: source of chance.
        is_further: whether the request has named such arguments before: one stands alone then, and
            of several each has its words.

    Raises:
        CannotDrawError: a value cannot be said in a few words.
    """

    def said(name: str) -> str:
        if not (ways := spellings(arguments[name], tool, name)):
            raise CannotDrawError(NotDrawn(NoDraw.NOT_SAYABLE, words_of(name)), tool.name)
        return rng.choice(ways)

    names = list(arguments)
    if is_further and len(names) == 1:
        return f" {said(names[0])}"
    rng.shuffle(names)
    kind = 0.0 if is_further else rng.random()
    if kind < _SHARE_FLOWING and len(names) <= _MOST_FLOWING:
        ways = ((name, rng.choice(ways_of(name))) for name in names)
        return "".join(f"{before}{said(name)}{behind}" for name, (before, behind) in ways)
    text = ""
    if kind < _SHARE_FLOWING + _SHARE_UNNAMED:
        if _are_numbers(arguments, tool):
            values = BETWEEN_NUMBERS.join(said(name) for name in tool.required)
            return f"{rng.choice(BEFORE_ANY)}{values}"
        first = _first(tool)
        if first in names:
            names.remove(first)
            suggested = [before for before, behind in ways_of(first)[:-1] if not behind]
            text = f"{rng.choice([*BEFORE_ANY, *suggested])}{said(first)}"
    link, sign, glue = rng.choice(ENGLISH["styles"])
    named = [f"{words_of(name)}{sign}{said(name)}" for name in names]
    return text + (link + glue.join(named) if named else "")


def read(request: str, tool: Tool) -> Iterator[Call]:
    """Yield every call of a tool that a request can be read as."""
    request = without_manners(request)
    heads = [
        headed(form, phrase)
        for wordings, some in (
            (ENGLISH["orders"], phrases(tool)),
            (ENGLISH["questions"], nouns(tool)),
        )
        for form in wordings
        for phrase in some
    ]
    # Where one phrase goes on as another does, the longer one is what is said.
    head = max((one for one in heads if request.startswith(one)), key=len, default=None)
    if head is not None:
        for arguments in read_told(request[len(head) :], tool):
            if tool.problem(arguments) is None and not _runs_on(arguments, tool):
                yield Call(tool.name, tool.ordered(arguments))


def read_told(rest: str, tool: Tool) -> Iterator[dict[str, Any]]:
    """Yield the arguments that stand behind what is done."""
    if not rest:
        yield {}
        return
    yield from _named(rest, tool)
    yield from _flowing(rest, tool, ())
    first = _first(tool)
    for before in BEFORE_FIRST:
        if not rest.startswith(before):
            continue
        text = rest[len(before) :]
        parts = text.split(BETWEEN_NUMBERS)
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


def read_further(text: str, tool: Tool, names: Set[str]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of these names that a request says after others of the same names."""
    if len(names) > 1:
        yield from (one for one in _flowing(text, tool, ()) if one.keys() == names)
        return
    for name in names:
        value = value_of_text(text.removeprefix(" "), tool, name)
        if value is not None:
            yield {name: value}


def _runs_on(arguments: Mapping[str, Any], tool: Tool) -> bool:
    """Return whether a text holds words that another argument begins with.

    A request is read so that each value ends where the words of another argument stand.
    """
    texts = [
        one
        for value in arguments.values()
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str)
    ]
    return any(mark in text for text in texts for mark in marks_of(tuple(tool.properties)))


def _flowing(rest: str, tool: Tool, before: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the arguments that stand one behind another, each with its own words."""
    if len(before) >= _MOST_FLOWING:
        return
    for name in tool.properties:
        if name in before:
            continue
        for start, behind in ways_of(name):
            if not rest.startswith(start):
                continue
            text = rest[len(start) :]
            # A value ends where the words of another argument begin, or with the text.
            marks = marks_of(tuple(tool.properties))
            ends = sorted({p.start() for m in marks for p in re.finditer(re.escape(m), text)})
            for end in (*ends, len(text)):
                piece = text[:end]
                if not piece.endswith(behind):
                    continue
                value = value_of_text(piece.removesuffix(behind), tool, name) if piece else None
                if value is None:
                    continue
                if end == len(text):
                    yield {name: value}
                    continue
                for others in _flowing(text[end:], tool, (*before, name)):
                    yield {name: value, **others}


def _ends(text: str, tool: Tool) -> list[int]:
    """Return where in a text the arguments that are named may begin.

    A value that holds the name of an argument as a request says it cannot be told from that one.
    """
    found = set()
    for link, sign, _ in ENGLISH["styles"]:
        for name in tool.properties:
            place = text.find(f"{link}{words_of(name)}{sign}")
            if place >= 0:
                found.add(place)
    return sorted(found)


def _named(text: str, tool: Tool) -> Iterator[dict[str, Any]]:
    for link, sign, glue in ENGLISH["styles"]:
        if text.startswith(link):
            arguments = _arguments(text[len(link) :], sign, glue, tool)
            if arguments is not None:
                yield arguments


def _arguments(text: str, sign: str, glue: str, tool: Tool) -> dict[str, Any] | None:
    """Return the arguments that a text names; None where some part of it names none."""
    by_words = {words_of(name) + sign: name for name in tool.properties}
    found: dict[str, Any] = {}
    starts = "|".join(map(re.escape, by_words))
    for part in re.split(rf"{re.escape(glue)}(?={starts})", text):
        words = max((one for one in by_words if part.startswith(one)), key=len, default="")
        value = value_of_text(part[len(words) :], tool, by_words[words]) if words else None
        if value is None or by_words[words] in found:
            return None
        found[by_words[words]] = value
    return found


def _first(tool: Tool) -> str | None:
    """Return the argument that may stand without its name: the first that is required."""
    return next((name for name in tool.properties if name in tool.required), None)


def _are_numbers(arguments: Mapping[str, Any], tool: Tool) -> bool:
    """Return whether arguments are all that are required and no others, each of them a number."""
    return (
        _LEAST_NUMBERS <= len(arguments) <= _MOST_NUMBERS
        and arguments.keys() == set(tool.required)
        and all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value in arguments.values()
        )
    )
