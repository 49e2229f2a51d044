"""Requests written from calls by templates, and read back without the call.

A template is a training row's request whose values are places to fill; `plain_requests` says what
a tool's description and its arguments are called. `read` tries all of all tools that are offered: a
request counts if exactly one list of calls is read from it.

A tool with fields in place of objects is one whose requests are written and read like any other's;
its calls are put together again.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import Any

from stratos.contrib.tools import plain_requests as plain
from stratos.contrib.tools.calls import Call, written
from stratos.contrib.tools.drawing import ENGLISH, LONGEST, CannotDrawError, spelled, value_of_text
from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.words import NoDraw, NotDrawn
from stratos.tasks.schema.document import resolved

_DEEPEST = 3
"""Objects in objects whose fields are named."""
_KEPT = ("additionalProperties", "$defs", "definitions")
_OTHERWISE_DRAWN = ("enum", "const", "examples", "anyOf", "oneOf", "allOf")

_Path = tuple[str, ...]


@dataclass(frozen=True)
class Flat:
    """A tool, and the same with the fields of its object arguments as arguments."""

    own: Tool
    tool: Tool
    """The tool with one argument for each field."""
    paths: Mapping[str, _Path]
    """Argument of that tool to the keys that lead to it; empty where the tool has no objects."""

    def call(self, call: Call) -> Call:
        """Return a call of the tool as one of the tool with fields.

        Raises:
            CannotDrawError: it holds something that no field is.
        """
        if not self.paths:
            return call
        found = {
            name: value
            for name, path in self.paths.items()
            if (value := _at(call.arguments, path)) is not _NOTHING
        }
        tops = {path[0] for path in self.paths.values()}
        rest = {name: value for name, value in call.arguments.items() if name not in tops}
        made = Call(call.name, {**found, **rest})
        if self.nested(made).arguments != call.arguments:
            raise CannotDrawError(NotDrawn(NoDraw.UNNAMED_FIELDS), call.name)
        return made

    def nested(self, call: Call) -> Call:
        """Return a call of the tool with fields as one of the tool, in the order of its schema."""
        arguments: dict[str, Any] = {}
        for name, path in self.paths.items():
            if name in call.arguments:
                inner = arguments
                for key in path[:-1]:
                    inner = inner.setdefault(key, {})
                inner[path[-1]] = call.arguments[name]
        rest = {name: one for name, one in call.arguments.items() if name not in self.paths}
        return Call(call.name, self.own.ordered({**arguments, **rest}))


_NOTHING = object()


def flat_of(tool: Tool) -> Flat:
    """Return a tool with the fields of its objects as arguments; as it is where it has none."""
    return _flat_of(tool.line)


@lru_cache(maxsize=4096)
def _flat_of(line: str) -> Flat:
    own = Tool(**json.loads(line))
    found = list(_fields(own.parameters, own.parameters, (), True))
    names = ["_".join(path) for path, *_ in found]
    # References into `properties` would lead nowhere, and two fields of one name to either.
    if all(len(path) == 1 for path, *_ in found) or "#/properties" in line:
        return Flat(own, own, {})
    if len(set(names)) < len(names):
        return Flat(own, own, {})
    parameters = {
        **{key: own.parameters[key] for key in _KEPT if key in own.parameters},
        "type": "object",
        "properties": {name: schema for name, (_, schema, _) in zip(names, found, strict=True)},
        "required": [name for name, (*_, needed) in zip(names, found, strict=True) if needed],
    }
    paths = {name: path for name, (path, *_) in zip(names, found, strict=True)}
    return Flat(own, Tool(own.name, own.description, parameters), paths)


def _fields(
    root: Mapping[str, Any], schema: Mapping[str, Any], path: _Path, is_required: bool
) -> Iterator[tuple[_Path, Any, bool]]:
    """Yield the keys that lead to each value that is no object, its schema, and if it is needed."""
    required = schema.get("required", ())
    for key, inner in schema.get("properties", {}).items():
        needed = is_required and key in required
        found = resolved(root, inner)
        if len(path) < _DEEPEST and isinstance(found, Mapping) and _has_fields(found):
            yield from _fields(root, found, (*path, key), needed)
        else:
            yield (*path, key), inner, needed


def _has_fields(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type", "object" if schema.get("properties") else "string")
    is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    return (
        is_object
        and bool(schema.get("properties"))
        and not any(key in schema for key in _OTHERWISE_DRAWN)
    )


def _at(value: Any, path: _Path) -> Any:
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _NOTHING
        value = value[key]
    return value


_MOST_SLOTS = 6
_SHARE_SHORT = 0.7
"""Share of requests for several calls that could share what they do, and do."""
_MOST_WORDINGS = 200
"""Templates of one tool: each request is read by all of them."""


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
            and all(spelled(call.arguments[name]) is not None for name in self.slots)
        )

    def fill(self, call: Call) -> str:
        """Return the request for a call that fits."""
        texts = [str(spelled(call.arguments[name])) for name in self.slots]
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
            value = value_of_text(text, tool, name)
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
        text = spelled(value)
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
    if not places or len(places) > _MOST_SLOTS or not apart or len(request) > LONGEST:
        return None
    ends = [0, *(end for _, end, _ in places)]
    starts = [*(start for start, _, _ in places), len(request)]
    pieces = tuple(request[a:b] for a, b in zip(ends, starts, strict=True))
    return Template(tool.name, pieces, tuple(name for *_, name in places), tuple(fixed))


@dataclass(frozen=True)
class Requests:
    """Writes requests for calls, and reads them without the calls.

    The fields of an argument that is an object are said like arguments (`flat`).
    """

    templates: Mapping[str, Sequence[Template]]
    """Of each tool those that its training rows gave."""

    def write(self, call: Call, tool: Tool, rng: random.Random) -> str:
        """Return a request for one call.

        Raises:
            CannotDrawError: a value cannot be said in a few words.
        """
        flat = flat_of(tool)
        return self._write(flat.call(call), flat.tool, rng, is_alone=True)

    def _write(self, call: Call, tool: Tool, rng: random.Random, *, is_alone: bool) -> str:
        fitting = [one for one in self.templates.get(tool.name, ()) if one.fits(call)]
        if fitting and rng.random() < 0.8:
            return rng.choice(fitting).fill(call)
        return plain.write(call, tool, rng, is_alone=is_alone)

    def write_all(self, calls: Sequence[Call], tools: Sequence[Tool], rng: random.Random) -> str:
        """Return a request for calls of these tools.

        Several calls of one tool whose arguments have the same names may share what they do.

        Raises:
            CannotDrawError: a value cannot be said in a few words.
        """
        if len(calls) == 1:
            return self.write(calls[0], tools[0], rng)
        flats = [flat_of(tool) for tool in tools]
        calls = [flat.call(call) for flat, call in zip(flats, calls, strict=True)]
        tools = [flat.tool for flat in flats]
        first, *others = calls
        are_alike = bool(first.arguments) and all(
            one.name == first.name and one.arguments.keys() == first.arguments.keys()
            for one in others
        )
        if are_alike and rng.random() < _SHARE_SHORT:
            join = rng.choice(ENGLISH["short_joins"])
            text = self._write(first, tools[0], rng, is_alone=False)
            return text + "".join(
                join + plain.told(one.arguments, tool, rng, is_further=True)
                for one, tool in zip(others, tools[1:], strict=True)
            )
        parts = [
            self._write(call, tool, rng, is_alone=False).rstrip(".?!")
            for call, tool in zip(calls, tools, strict=True)
        ]
        return rng.choice(ENGLISH["joins"]).join(parts)

    def read(self, request: str, tools: Sequence[Tool]) -> list[list[Call]]:
        """Return every list of calls that a request can be read as; [] where it is no call's.

        Args:
            request: what is asked for.
            tools: that are offered.
        """
        flats = {tool.name: flat_of(tool) for tool in tools}
        found: dict[str, list[Call]] = {}
        for calls in self._read(request, [flat.tool for flat in flats.values()]):
            made = [flats[call.name].nested(call) for call in calls]
            if all(flats[one.name].own.problem(one.arguments) is None for one in made):
                found[written(made)] = made
        return list(found.values())

    def _read(self, request: str, tools: Sequence[Tool]) -> list[list[Call]]:
        found = {written([call]): [call] for call in self._single(request, tools)}
        for join in ENGLISH["joins"]:
            if join in request:
                parts = [self._single(part, tools) for part in request.split(join)]
                found |= {written(calls): list(calls) for calls in product(*parts)}
        for join in ENGLISH["short_joins"]:
            if f"{join} " in request:
                head, *tails = request.split(join)
                for call in self._single(head, tools):
                    tool = next(one for one in tools if one.name == call.name)
                    parts = [[call], *(_further(tail, tool, call) for tail in tails)]
                    found |= {written(calls): list(calls) for calls in product(*parts)}
        return list(found.values())

    def _single(self, request: str, tools: Sequence[Tool]) -> list[Call]:
        found: dict[str, Call] = {}
        for tool in tools:
            of_rows = (one.read(request, tool) for one in self.templates.get(tool.name, ()))
            for call in (*of_rows, *plain.read(request, tool)):
                if call is not None:
                    found[written([call])] = call
        return list(found.values())


def _further(text: str, tool: Tool, first: Call) -> list[Call]:
    """Return the calls that a text makes which says the arguments of a first call anew."""
    return [
        Call(tool.name, tool.ordered(arguments))
        for arguments in plain.read_further(text, tool, first.arguments.keys())
        if tool.problem(arguments) is None
    ]


def templates_of(rows: Iterable[tuple[str, Call, Tool]]) -> dict[str, list[Template]]:
    """Return the templates of training rows by the tool that they call, the commonest of many."""
    found: dict[str, Counter[Template]] = {}
    for request, nested, tool in rows:
        flat = flat_of(tool)
        tool = flat.tool
        try:
            call = flat.call(nested)
        except CannotDrawError:
            continue
        template = learnt(request, call, tool)
        # One that does not read its own row back is of no use.
        if template is not None and template.read(request, tool) == call:
            found.setdefault(tool.name, Counter())[template] += 1
    return {
        name: [template for template, _ in some.most_common(_MOST_WORDINGS)]
        for name, some in found.items()
    }


def _is_choice(tool: Tool, name: str) -> bool:
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    return isinstance(schema, Mapping) and ("enum" in schema or schema.get("type") == "boolean")
