"""Draw calls from the schemas of tools: by type, enum, format, examples, and training rows."""

from __future__ import annotations

import datetime
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.words import NoDraw, NotDrawn
from stratos.core.extensions import table
from stratos.tasks.schema.document import resolved

VALUES: dict[str, Any] = table(__file__, "values.toml")
"""Texts and ranges of numbers by the names of arguments."""
_TEXTS = {name: entry["values"] for entry in reversed(VALUES["texts"]) for name in entry["names"]}
_FROM_ROWS = 0.5
"""Share of values that are taken from the training rows, where those have some."""
_MOST_WITH_OPTIONAL, _OPTIONAL = 0.5, 1.2
"""Share of calls that have an optional argument at most, and how many a call has on average."""
_AS_DESCRIBED = 0.5
"""Share of values that are an example of the description, where it has some."""
_DEEPEST = 4
_MOST_ITEMS = 3
_TRIES = 20
_SPAN = 100
"""Between the bounds of a number of which only one is given."""
_EXAMPLES = re.compile(
    r"""(?:such as|e\.?g\.?,?|for example,?|examples?|like|default is)[ :(]*"""
    r"""((?:(?:[,/ ]|or\b|and\b)*(?:'[^'\n]{1,60}'|"[^"\n]{1,60}"|`[^`\n]{1,60}`))+)""",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""'([^']+)'|"([^"]+)"|`([^`]+)`""")
_DATES = {"YYYY-MM-DD": "%Y-%m-%d", "DD/MM/YYYY": "%d/%m/%Y", "MM/DD/YYYY": "%m/%d/%Y"}
"""Form of a date that a description names, and how it is written."""
_BY_NAME = {"date": "date", "email": "email", "url": "uri", "uri": "uri", "link": "uri"}
"""Word in the name of an argument, and the format of its value."""


class CannotDrawError(Exception):
    """A schema asks for values that nothing here can make; the message says which."""

    def __init__(self, reason: NotDrawn, tool: str = "") -> None:
        super().__init__(str(reason))
        self.reason, self.tool = reason, tool


@dataclass(frozen=True)
class Drawer:
    """Draws calls of tools."""

    seen: Mapping[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    """Of a tool's argument its values in the training rows."""

    def call(self, tool: Tool, rng: random.Random) -> Call:
        """Return a valid call of a tool.

        Raises:
            CannotDrawError: none could be made.
        """
        optional = [name for name in tool.properties if name not in tool.required]
        share = _share_of_optional(len(optional))
        for _ in range(_TRIES):
            arguments: dict[str, Any] = {}
            # A call says something, where there is anything that it can say.
            needed = {*tool.required} or {rng.choice(optional or [""])}
            for name, schema in tool.properties.items():
                if name not in needed and rng.random() >= share:
                    continue
                try:
                    arguments[name] = self._argument(tool, name, schema, rng)
                except CannotDrawError as error:
                    if name in tool.required:
                        raise CannotDrawError(error.reason, tool.name) from error
            if tool.problem(arguments) is None:
                return Call(tool.name, tool.ordered(arguments))
        raise CannotDrawError(NotDrawn(NoDraw.NO_MATCH), tool.name)

    def _argument(self, tool: Tool, name: str, schema: Any, rng: random.Random) -> Any:
        known = self.seen.get((tool.name, name), ())
        if known and rng.random() < _FROM_ROWS:
            return rng.choice(known)
        try:
            return value_of(tool.parameters, schema, name, rng)
        except CannotDrawError:
            if not known:
                raise
            return rng.choice(known)


def _share_of_optional(n: int) -> float:
    """Return the share of calls that have each of `n` optional arguments."""
    return min(_MOST_WITH_OPTIONAL, _OPTIONAL / max(1, n))


def value_of(
    root: Mapping[str, Any], schema: Any, name: str, rng: random.Random, depth: int = 0
) -> Any:
    """Return a value that a schema describes.

    Args:
        root: the schema that references are read in.
        schema: of the value.
        name: of the argument, which tells what a text may be.
        rng: source of chance.
        depth: how many values this one is in.

    Raises:
        CannotDrawError: nothing here can make one.
    """
    schema = resolved(root, schema)
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise CannotDrawError(NotDrawn(NoDraw.UNKNOWN_VALUES, name))
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return rng.choice(schema[key])
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return value_of(root, rng.choice(schema[key]), name, rng, depth + 1)
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind in ("integer", "number"):
        return _number(schema, kind == "integer", name, rng)
    if kind == "string":
        return _text(schema, name, rng)
    if kind == "array":
        return _items(root, schema, name, rng, depth)
    if kind == "object" and schema.get("properties"):
        required = schema.get("required", ())
        share = _share_of_optional(len(schema["properties"].keys() - set(required)))
        return {
            key: value_of(root, inner, key, rng, depth + 1)
            for key, inner in schema["properties"].items()
            if key in required or rng.random() < share
        }
    raise CannotDrawError(NotDrawn(NoDraw.NO_FIELDS, name))


def _items(
    root: Mapping[str, Any], schema: Mapping[str, Any], name: str, rng: random.Random, depth: int
) -> list[Any]:
    inner = schema.get("items", {"type": "string"})
    least = schema.get("minItems", 1)
    n = rng.randint(least, max(least, min(_MOST_ITEMS, schema.get("maxItems", _MOST_ITEMS))))
    items: list[Any] = []
    for _ in range(_TRIES):
        if len(items) == n:
            break
        item = value_of(root, inner, name, rng, depth + 1)
        items += [item] if item not in items else []
    return items


def _number(schema: Mapping[str, Any], is_whole: bool, name: str, rng: random.Random) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        ranges = VALUES["ranges"]
        known = (ranges[word] for word in reversed(_words(name)) if word in ranges)
        low, high = next(known, (1, _SPAN))
    low = (min(1, high - _SPAN) if high < 1 else 1) if low is None else low
    high = max(low + _SPAN, low) if high is None else high
    step = schema.get("multipleOf", 1 if is_whole else 0.5)
    n_steps = int((high - low) / step) if step > 0 else 0
    start = low + rng.randint(0, max(0, n_steps)) * step
    if step:  # the multiple that is nearest
        start = round(start / step) * step
    value = round(float(start), 6)
    return int(value) if is_whole or value.is_integer() else value


def _text(schema: Mapping[str, Any], name: str, rng: random.Random) -> str:
    form = schema.get("format")
    description = str(schema.get("description", ""))
    day = datetime.date(2024, 1, 1) + datetime.timedelta(rng.randrange(1000))
    time = f"{rng.randrange(24):02d}:{rng.choice((0, 15, 30, 45)):02d}"
    drawn = {
        "date": day.isoformat(),
        "date-time": f"{day.isoformat()}T{time}:00Z",
        "time": f"{time}:00",
        "email": f"{_word(rng)}@{_word(rng)}.org",
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "uri": f"https://{_word(rng)}.org/{_word(rng)}",
        "ipv4": ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
    }
    if form in drawn:
        return drawn[form]
    examples = examples_in(description)
    if "pattern" in schema or form is not None:
        if examples:
            return rng.choice(examples)
        lacking = "a pattern" if "pattern" in schema else f"the format {form}"
        raise CannotDrawError(NotDrawn(NoDraw.NO_EXAMPLES, name, lacking))
    for mark, layout in _DATES.items():
        if mark in description.upper():
            return day.strftime(layout)
    if examples and rng.random() < _AS_DESCRIBED:
        return rng.choice(examples)
    words = _words(name)
    by_name = next((_BY_NAME[word] for word in words if word in _BY_NAME), None)
    if by_name is not None:
        return drawn[by_name]
    if "id" in words:
        return f"{_word(rng)[:2].upper()}{rng.randrange(1000, 9999)}"
    known = next((_TEXTS[word] for word in reversed(words) if word in _TEXTS), None)
    return rng.choice(known) if known else f"{_word(rng)} {_word(rng)}"


def _word(rng: random.Random) -> str:
    return rng.choice(VALUES["words"])


def _words(name: str) -> list[str]:
    parts = "".join(f"_{c}" if c.isupper() else c for c in name).replace("-", "_").lower()
    words = [part for part in parts.split("_") if part]
    return [word if word in _TEXTS else word.rstrip("s") for word in words]


def examples_in(description: str) -> tuple[str, ...]:
    """Return the values in quotes that a description gives as examples."""
    quoted = (text for listed in _EXAMPLES.findall(description) for text in _QUOTED.findall(listed))
    return tuple(dict.fromkeys(next(filter(None, texts)).strip() for texts in quoted))
