"""JSON answers: parse, and compare field by field.

Two objects are equal whatever the order of their keys and the spacing between them. Inside a list
the order counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stratos.tasks.dedup.hashes import normalised

_FENCE = "```"
_DECODER = json.JSONDecoder()
_NEAR = 1e-14
"""Relative difference of numbers that are not whole and are the same: some steps of rounding."""

Path = tuple[str, ...]


def object_of(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is, apart from a code fence around it; None if it is none.

    What stands before the object does not count, what stands behind it does.
    """
    text = text.rstrip().removesuffix(_FENCE).rstrip()
    start = text.find("{")
    if start < 0 or not text.endswith("}"):
        return None
    value, end = _decoded(text, start)
    return value if end == len(text) else None


def object_at_start(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text begins with, apart from a code fence; None if it does not.

    What stands behind the object does not count.
    """
    text = text.lstrip(" \t\r\n*`").removeprefix("json").lstrip()
    return _decoded(text, 0)[0] if text.startswith("{") else None


def written(value: Mapping[str, Any]) -> str:
    """Return an object as the text that a student learns to write."""
    return plain_json(value)


def plain_json(value: Any) -> str:
    """Return a value as one line of JSON, without the one character that grammars want escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def fields_of(value: Mapping[str, Any], outer: Path = ()) -> dict[Path, Any]:
    """Return path to value of every field: the names of the objects that it is in, then its own."""
    fields: dict[Path, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            fields |= fields_of(inner, (*outer, name))
        else:
            fields[*outer, name] = inner
    return fields


def nested(fields: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the object whose `fields_of` are given."""
    made: dict[str, Any] = {}
    for (*outer, last), value in fields.items():
        inner = made
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return made


def same(first: Any, second: Any) -> bool:
    """Return whether two JSON values are equal; in texts, case and spacing do not count."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, str) and isinstance(second, str):
        return normalised(first) == normalised(second)
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)


def same_number(first: float, second: float) -> bool:
    """Return whether two numbers are equal: whole ones exactly, others up to rounding.

    What is not finite equals nothing.
    """
    if not (is_finite(first) and is_finite(second)):
        return False
    if first == second or (_is_whole(first) and _is_whole(second)):
        return first == second
    try:
        return math.isclose(first, second, rel_tol=_NEAR)
    except OverflowError:  # a whole number beyond the largest float, and one that is not whole
        return False


def is_finite(value: Any) -> bool:
    """Return whether each number of a JSON value is one: not infinite, as 1e999 is, and not NaN."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, float) and not math.isfinite(current):
            return False
        pending += (
            current.values()
            if isinstance(current, Mapping)
            else current
            if isinstance(current, list)
            else ()
        )
    return True


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()


def pairs_all(fits: Sequence[Sequence[bool]]) -> bool:
    """Return whether each row can have a column of its own that fits it."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not all(map(any, fits)):
        return False
    if len(fits) < 2:
        return True
    pairs = maximum_bipartite_matching(csr_matrix(np.array(fits, bool)), perm_type="column")
    return bool((pairs >= 0).all())


def form_of(value: Any) -> Any:
    """Return what two JSON values have in common exactly where they are the `same`."""
    if isinstance(value, Mapping):
        return {key: form_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [form_of(inner) for inner in value]
    if isinstance(value, str):
        return normalised(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_key(value: Any) -> str:
    """Return a JSON value as a text that differs where values are not the `same`."""
    return json.dumps(form_of(value), sort_keys=True)


def _decoded(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    try:
        decoded, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (decoded, end) if isinstance(decoded, dict) else (None, end)
