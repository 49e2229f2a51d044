"""Requests written from calls by templates, and read back without the call.

A template is a training row's request whose values are places to fill, or a phrase of the tool's
description with its arguments by name. `read` tries all templates of all tools that are offered:
a request counts if exactly one list of calls is read from it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

from stratos.tasks.schema.document import resolved
from stratos.tasks.tools.calls import Call, written
from stratos.tasks.tools.signatures import Tool

_MOST_SLOTS = 6
_MOST_WORDINGS = 200
"""Templates of one tool: each request is read by all of them."""
_LONGEST = 400
"""Characters of a request that is read back."""
_FORMS = (
    "Please {phrase}",
    "I need to {phrase}",
    "Could you {phrase}",
    "{Phrase}",
    "I want to {phrase}",
)
_STYLES = ((" with ", " "), (": ", " = "), (", ", ": "), (" using ", " "), (", where ", " is "))
"""What stands before the arguments, and between the name of each and its value."""
JOINS = (". Also, ", ". Then ", "; and ", ". After that, ")
"""What stands between the requests for several calls."""
_FIRST = re.compile(r"(?<=[a-z\d)])\.(?:\s|$)|\n")
_PREFACE = re.compile(
    r"(?:this|the) (?:function|tool|api|method|endpoint)\s+(?:is used to |allows you to |can )?",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])")


@dataclass(frozen=True)
class Template:
    """A request with places for the arguments of one call."""

    tool: str
    pieces: tuple[str, ...]
    """Texts before, between and behind the places."""
    slots: tuple[str, ...]
    """Argument of each place."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """Arguments that the request says in other words."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = [re.escape(self.pieces[0])]
        for piece in self.pieces[1:]:
            parts += ["(.+?)", re.escape(piece)]
        return re.compile("".join(parts))

    def fits(self, call: Call) -> bool:
        """Return whether a call can be written with this template."""
        fixed = dict(self.fixed)
        return (
            call.name == self.tool
            and call.arguments.keys() == {*self.slots, *fixed}
            and all(call.arguments[name] == value for name, value in fixed.items())
            and all(_spelled(call.arguments[name]) is not None for name in self.slots)
        )

    def fill(self, call: Call) -> str:
        """Return the request for a call that fits."""
        texts = [str(_spelled(call.arguments[name])) for name in self.slots]
        return self.pieces[0] + "".join(
            text + piece for text, piece in zip(texts, self.pieces[1:], strict=True)
        )

    def read(self, request: str, tool: Tool) -> Call | None:
        """Return the call that a request makes by this template; None if it is another's."""
        found = self._pattern.fullmatch(request)
        if found is None:
            return None
        arguments = dict(self.fixed)
        for name, text in zip(self.slots, found.groups(), strict=True):
            value = _value(text, tool, name)
            if value is None:
                return None
            arguments[name] = value
        call = Call(tool.name, tool.ordered(arguments))
        return call if tool.problem(call.arguments) is None else None


def learnt(request: str, call: Call, tool: Tool) -> Template | None:
    """Return the template of a training row; None where its values are not in its request."""
    places: list[tuple[int, int, str]] = []
    fixed: list[tuple[str, Any]] = []
    for name, value in call.arguments.items():
        text = _spelled(value)
        found = (
            []
            if text is None
            else [
                m.span() for m in re.finditer(rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)", request)
            ]
        )
        if len(found) == 1:
            places.append((*found[0], name))
        elif not found and isinstance(value, str | bool) and _is_choice(tool, name):
            fixed.append((name, value))
        else:
            return None
    places.sort()
    apart = all(one[1] < other[0] for one, other in pairwise(places))
    if not places or len(places) > _MOST_SLOTS or not apart or len(request) > _LONGEST:
        return None
    ends = [0, *(end for _, end, _ in places)]
    starts = [*(start for start, _, _ in places), len(request)]
    pieces = tuple(request[a:b] for a, b in zip(ends, starts, strict=True))
    return Template(tool.name, pieces, tuple(name for *_, name in places), tuple(fixed))


@dataclass(frozen=True)
class Requests:
    """Writes requests for calls, and reads them without the calls."""

    templates: Mapping[str, Sequence[Template]]
    """Of each tool those that its training rows gave."""

    def write(self, call: Call, tool: Tool, rng: random.Random) -> str:
        """Return a request for one call."""
        fitting = [one for one in self.templates.get(tool.name, ()) if one.fits(call)]
        if fitting and rng.random() < 0.8:
            return rng.choice(fitting).fill(call)
        return _plain(call, tool, rng)

    def read(self, request: str, tools: Sequence[Tool]) -> list[list[Call]]:
        """Return every list of calls that a request can be read as; [] where it is no call's.

        Args:
            request: what is asked for.
            tools: that are offered.
        """
        for join in JOINS:
            if join in request:
                parts = [self._single(part, tools) for part in request.split(join)]
                if all(parts):
                    return [list(calls) for calls in product(*parts)]
        return [[call] for call in self._single(request, tools)]

    def _single(self, request: str, tools: Sequence[Tool]) -> list[Call]:
        found: dict[str, Call] = {}
        for tool in tools:
            of_rows = (one.read(request, tool) for one in self.templates.get(tool.name, ()))
            for call in (*of_rows, *_read_plain(request, tool)):
                if call is not None:
                    found[written([call])] = call
        return list(found.values())


def templates_of(rows: Iterable[tuple[str, Call, Tool]]) -> dict[str, list[Template]]:
    """Return the templates of training rows by the tool that they call, the commonest of many."""
    found: dict[str, Counter[Template]] = {}
    for request, call, tool in rows:
        template = learnt(request, call, tool)
        # One that does not read its own row back is of no use.
        if template is not None and template.read(request, tool) == call:
            found.setdefault(tool.name, Counter())[template] += 1
    return {
        name: [template for template, _ in some.most_common(_MOST_WORDINGS)]
        for name, some in found.items()
    }


def _plain(call: Call, tool: Tool, rng: random.Random) -> str:
    phrase = _phrase(tool)
    text = rng.choice(_FORMS).format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])
    names = list(call.arguments)
    rng.shuffle(names)
    link, sign = rng.choice(_STYLES)
    told = [f"{_words(name)}{sign}{_spelled(call.arguments[name])}" for name in names]
    return text + (link + " and ".join(told) if told else "")


def _read_plain(request: str, tool: Tool) -> Iterable[Call]:
    phrase = _phrase(tool)
    for form in _FORMS:
        head = form.format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])
        if not request.startswith(head):
            continue
        rest = request[len(head) :]
        if not rest:
            if tool.problem({}) is None:
                yield Call(tool.name)
            continue
        for link, sign in _STYLES:
            if rest.startswith(link):
                arguments = _arguments(rest[len(link) :], sign, tool)
                if arguments is not None and tool.problem(arguments) is None:
                    yield Call(tool.name, tool.ordered(arguments))


def _arguments(text: str, sign: str, tool: Tool) -> dict[str, Any] | None:
    """Return the arguments that a text names; None where some part of it names none."""
    by_words = {_words(name) + sign: name for name in tool.properties}
    found: dict[str, Any] = {}
    for part in text.split(" and "):
        words = max((one for one in by_words if part.startswith(one)), key=len, default="")
        value = _value(part[len(words) :], tool, by_words[words]) if words else None
        if value is None:
            return None
        found[by_words[words]] = value
    return found


def _phrase(tool: Tool) -> str:
    """Return what a tool does, as it follows "Please"."""
    first = _FIRST.split(tool.description, maxsplit=1)[0].strip().rstrip(".")
    if not first or len(first) > _LONGEST // 4:
        return f"call {tool.name}"
    verb, _, rest = _PREFACE.sub("", first).partition(" ")
    return f"{_bare(verb)} {rest}".strip()


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


def _is_choice(tool: Tool, name: str) -> bool:
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    return isinstance(schema, Mapping) and ("enum" in schema or schema.get("type") == "boolean")


def _spelled(value: Any) -> str | None:
    """Return a value as a request says it; None where it cannot be said in a few words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value.strip() == value and value and "\n" not in value else None
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(one, str | int) for one in value):
        texts = [_spelled(one) or "" for one in value]
        return ", ".join(texts) if all(texts) and not any(", " in one for one in texts) else None
    return None


def _value(text: str, tool: Tool, name: str) -> Any:
    """Return the value that a text is by the argument's schema; None if it is none."""
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    if not isinstance(schema, Mapping):
        return text
    return _typed(text, schema, tool)


def _typed(text: str, schema: Mapping[str, Any], tool: Tool) -> Any:
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    if "enum" in schema:
        return next((one for one in schema["enum"] if _spelled(one) == text), None)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" or "." not in text else float(text)
        except ValueError:
            return None
    if kind == "array":
        inner = resolved(tool.parameters, schema.get("items", {"type": "string"}))
        if not isinstance(inner, Mapping):
            return None
        found = [_typed(one, inner, tool) for one in text.split(", ")]
        return found if all(one is not None for one in found) else None
    return text if kind == "string" else None
