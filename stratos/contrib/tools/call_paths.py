"""Arguments that are objects or lists, as plain ones under paths: `address/street`, `ids/*`.

Each property of an object is chosen by itself, after whether an optional object is given at all. Of
a list of plain values each item is taken or not. Lists of objects stay whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

from stratos.tasks.schema.document import resolved

_DEEPEST, _MOST = 4, 200
"""Paths of this length are not divided; and leaves of a tool."""
_MISSING = object()
_SCALARS = {"string", "integer", "number", "boolean"}


class Part(Enum):
    """What is chosen at a path."""

    VALUE = ""
    PRESENCE = "/"
    """Whether an object is given."""
    LIST = "/[]"
    """Which list of the conversation it is, or `[]` for one that is made of items."""
    ITEM = "/*"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One thing that is chosen of the arguments of a tool."""

    path: tuple[str, ...]
    schema: Any
    """Of the value, or of an item."""
    part: Part = Part.VALUE
    is_required: bool = False
    is_null: bool = False
    """Whether it is null where it is left out: it is required, and may be null."""
    within: str = ""
    """Name of the leaf that tells whether the object around it is given; "" outside of objects."""

    @property
    def name(self) -> str:
        """The path, and what is chosen there."""
        return "/".join(self.path) + self.part.value


def leaves_of(parameters: Mapping[str, Any]) -> tuple[Leaf, ...]:
    """Return what is chosen of the arguments that a schema describes.

    Where that is too much, as of a schema that holds itself in many places, objects stay whole.
    """
    leaves = tuple(islice(_leaves(parameters, parameters, (), "", _DEEPEST), _MOST + 1))
    if len(leaves) <= _MOST:
        return leaves
    return tuple(_leaves(parameters, parameters, (), "", 1))


def _leaves(
    root: Mapping[str, Any],
    schema: Mapping[str, Any],
    outer: tuple[str, ...],
    within: str,
    deepest: int,
) -> Iterator[Leaf]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        is_null = name in required and _takes_null(root, inner)
        path, inner = (*outer, name), _plain(root, inner)
        own = name in required and not is_null, is_null, within
        named = inner if isinstance(inner, Mapping) else {}
        is_fixed = "enum" in named or "const" in named
        if _has_type(named, "object") and named.get("properties") and not is_fixed:
            if len(path) < deepest:
                presence = Leaf(path, {}, Part.PRESENCE, *own)
                yield presence
                yield from _leaves(root, named, path, presence.name, deepest)
                continue
        elif _has_type(named, "array") and not is_fixed:
            items = _plain(root, named.get("items", {}))
            if not isinstance(items, Mapping) or _are_plain(items):
                yield Leaf(path, {}, Part.LIST, *own)
                yield Leaf(path, items, Part.ITEM, True, within=within)
                continue
        yield Leaf(path, inner, Part.VALUE, *own)


def _takes_null(root: Mapping[str, Any], schema: Any) -> bool:
    schema = resolved(root, schema)
    if not isinstance(schema, Mapping):
        return False
    parts = [part for key in ("anyOf", "oneOf") for part in schema.get(key, ())]
    some = [schema, *(resolved(root, part) for part in parts)]
    return any("null" in _types(part) for part in some)


def _types(schema: Any) -> Sequence[str]:
    kinds = schema.get("type", []) if isinstance(schema, Mapping) else []
    return [kinds] if isinstance(kinds, str) else kinds


def _plain(root: Mapping[str, Any], schema: Any) -> Any:
    """Return a schema; of one or null, as optional arguments of Python have it, the one."""
    schema = resolved(root, schema)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema, Mapping) and isinstance(schema.get(key), list):
            some = [resolved(root, part) for part in schema[key]]
            some = [part for part in some if [*_types(part)] != ["null"]]
            if len(some) == 1 and len(schema[key]) == 2:
                return some[0]
    return schema


def _has_type(schema: Mapping[str, Any], kind: str) -> bool:
    return {*_types(schema)} - {"null"} == {kind}


def _are_plain(items: Mapping[str, Any]) -> bool:
    has_parts = {"properties", "items", "anyOf", "oneOf"} & items.keys()
    return {*_types(items)} <= _SCALARS and not has_parts


def flattened(leaves: Sequence[Leaf], arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values that the arguments of a call give each leaf; none where it is left out."""
    made: dict[str, list[Any]] = {}
    for leaf in leaves:
        value: Any = arguments
        for key in leaf.path:
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        is_value = leaf.part is Part.VALUE and not leaf.is_null
        if value is _MISSING or (value is None and not is_value):
            made[leaf.name] = []
        elif leaf.part is Part.PRESENCE:
            made[leaf.name] = [{}]
        elif leaf.part is Part.VALUE:
            made[leaf.name] = [value]
        else:
            items = value if isinstance(value, list) else [value]
            made[leaf.name] = [items] if leaf.part is Part.LIST else items
    return made


def nested(leaves: Sequence[Leaf], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call whose leaves have some values; of items it is the list."""
    made: dict[str, Any] = {}
    for leaf in leaves:
        is_given = leaf.name in values
        if (leaf.within and leaf.within not in values) or not (is_given or leaf.is_null):
            continue
        node = made
        for key in leaf.path[:-1]:
            node = node[key]
        if not is_given:
            node[leaf.path[-1]] = None
        else:
            node[leaf.path[-1]] = {} if leaf.part is Part.PRESENCE else values[leaf.name]
    return made


def named_values(value: Mapping[str, Any], outer: str = "", depth: int = 0) -> Iterator[
    tuple[str, Any]
]:  # fmt: skip
    """Yield what a call has given, by names as leaves have them: each value, and what is in it."""
    for key, inner in value.items():
        name = f"{outer}{key}"
        yield name, inner
        if isinstance(inner, Mapping) and depth < _DEEPEST:
            yield from named_values(inner, f"{name}/", depth + 1)
        elif isinstance(inner, list):
            yield from ((f"{name}/*", item) for item in inner
                        if item is not None and not isinstance(item, Mapping | list))  # fmt: skip
