"""Values as they are learnt: spelled as a grammar of their schema lets them be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stratos.tasks.schema.document import Schema, resolved

Takes = Callable[[Any, Any], bool]


def spelled(root: Mapping[str, Any], value: Any, takes: Takes) -> Any:
    """Return a value that matches a schema as a grammar of it wants it, with what it has unchanged.

    Fields stand in the order in which the schema names them, at any depth; a whole number is
    written without a point where it has to be an integer, or one of an `enum`.

    Args:
        root: the schema.
        value: that matches it.
        takes: whether a schema inside the root takes a value.
    """
    return _Speller(root, takes).value(root, value)


class _Speller:
    """Spells the values of one schema."""

    def __init__(self, root: Mapping[str, Any], takes: Takes) -> None:
        self._root, self._takes = root, takes

    def value(self, node: Schema, value: Any) -> Any:
        """Return a value by a schema inside the root."""
        parts = list(self._parts(node, value))
        if isinstance(value, dict):
            return self._object(parts, value)
        if isinstance(value, list):
            inner = [one for key, one in parts if key == "items" and isinstance(one, Mapping)]
            first = [one for key, one in parts if key == "prefixItems"]
            return [
                self.value({"allOf": [*(f[k] for f in first if k < len(f)), *inner]}, one)
                for k, one in enumerate(value)
            ]
        is_integer = any(
            key in ("enum", "const") or (key == "type" and "integer" in one and "number" not in one)
            for key, one in parts
        )
        is_whole = isinstance(value, float) and value.is_integer()
        return int(value) if is_whole and is_integer else value

    def _object(self, parts: list[tuple[str, Any]], value: dict[str, Any]) -> dict[str, Any]:
        inner: dict[str, list[Schema]] = {}
        for key, properties in parts:
            for name, one in properties.items() if key == "properties" else ():
                inner.setdefault(name, []).append(one)
        others = [one for key, one in parts if key == "additionalProperties"]
        names = [*(name for name in inner if name in value), *(n for n in value if n not in inner)]
        return {name: self.value({"allOf": inner.get(name, others)}, value[name]) for name in names}

    def _parts(self, node: Schema, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the keywords that a value is checked by, in the order in which a schema has them.

        Of alternatives, those of the first that takes the value.
        """
        for key, inner in node.items() if isinstance(node, Mapping) else ():
            if key == "$ref":
                yield from self._parts(resolved(self._root, {"$ref": inner}), value)
            elif key == "allOf":
                for one in inner:
                    yield from self._parts(one, value)
            elif key in ("anyOf", "oneOf"):
                fitting = next((one for one in inner if self._takes(one, value)), True)
                yield from self._parts(fitting, value)
            else:
                yield key, inner
