"""JSON Schemas as grammars are made of them: wider where a grammar would forbid valid answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORMATS = ("date", "ipv4", "uuid")
"""Formats that a grammar takes as validation does: that checks no others, or checks them less."""
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SMALLEST, _LARGEST = 1e-4, 1e16
"""Between them, numbers are written without an exponent."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords that hold values, in which no schema stands."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def wider(schema: Any) -> Any:
    """Return a schema that takes what another one takes, spelled as JSON is usually written.

    A grammar of limits knows no exponent (1e-07), so that limits stay only where no number that
    keeps them is written with one. The same is true of an `enum`. Formats stay where a grammar
    takes each text that validation takes.
    """
    if isinstance(schema, list):
        return [wider(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        name: {key: wider(one) for key, one in inner.items()}
        if name in _BY_NAME and isinstance(inner, Mapping)
        else inner
        if name in _VALUES
        else wider(inner)
        for name, inner in schema.items()
    }
    if made.get("format") not in _FORMATS:
        made.pop("format", None)
    if _needs_exponents(made):
        made = {name: inner for name, inner in made.items() if name not in _LIMITS}
    chosen = [*made.get("enum", ()), *([made["const"]] if "const" in made else [])]
    if any(isinstance(one, float) and "e" in repr(one) for one in chosen):
        made = {name: inner for name, inner in made.items() if name not in ("enum", "const")}
    return made


def _needs_exponents(node: Mapping[str, Any]) -> bool:
    """Return whether a number that keeps the limits of a schema may be written with an exponent."""
    if not any(name in node for name in _LIMITS):
        return False
    kinds = node.get("type", "number")
    if "number" not in (kinds if isinstance(kinds, list) else [kinds]):
        return False
    low = max((node[n] for n in ("minimum", "exclusiveMinimum") if _is_number(node.get(n))),
              default=float("-inf"))  # fmt: skip
    high = min((node[n] for n in ("maximum", "exclusiveMaximum") if _is_number(node.get(n))),
               default=float("inf"))  # fmt: skip
    is_within = _SMALLEST <= low <= high < _LARGEST
    return not (is_within or -_LARGEST < low <= high <= -_SMALLEST)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
