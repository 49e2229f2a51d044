"""Object arguments as fields: `who: {"name": …, "phone": …}` is said as who name and who phone.

A tool with fields in place of objects is one whose requests are written and read like any other's;
its calls are put together again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.drawing import CannotDrawError
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
        rest = {name: one for name, one in call.arguments.items() if name not in self._tops}
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

    @property
    def _tops(self) -> set[str]:
        return {path[0] for path in self.paths.values()}


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
