"""What checks a value by a JSON Schema: jsonschema, with own keywords where its ones mislead.

Patterns are matched by RE2 (through Arrow), whose time grows with the length of a text alone.
`multipleOf` is exact, and 1e999 is no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from stratos.tasks.shown import shown

FORMATS = ("date", "email", "ipv4", "ipv6", "uuid")
"""Formats that are checked: those for which nothing has to be installed."""


def validator(schema: Mapping[str, Any]) -> Any:
    """Return what finds the errors of an answer; patterns are matched in linear time."""
    from jsonschema import FormatChecker
    from jsonschema.validators import extend

    own = {"pattern": _pattern, "patternProperties": _pattern_properties}
    own["additionalProperties"] = _additional_properties
    own["multipleOf"] = _multiple_of
    cls = class_of(schema)
    cls = extend(cls, own, type_checker=cls.TYPE_CHECKER.redefine("number", _is_number))
    return cls(schema, format_checker=FormatChecker(FORMATS))


def class_of(schema: Mapping[str, Any]) -> Any:
    """Return the validator of jsonschema for the draft that a schema names."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def finds(text: str, pattern: str) -> bool:
    """Return whether a pattern of RE2 matches somewhere in a text.

    Raises:
        ValueError: it is no such pattern.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = text.encode("utf-8", "replace").decode()
    return bool(pc.match_substring_regex(pa.scalar(text), pattern).as_py())


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not finds(value, pattern):
        yield ValidationError(f"{shown(value)!r} does not match {shown(pattern)!r}")


def _is_number(checker: Any, value: Any) -> bool:
    """Return whether a value is a number; 1e999, which Python reads as infinite, is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _multiple_of(validator: Any, unit: Any, value: Any, schema: Any) -> Iterator[Any]:
    """Check `multipleOf` exactly, by the digits of both numbers: 0.07 is a multiple of 0.01."""
    from jsonschema.exceptions import ValidationError

    if validator.is_type(value, "number") and _exact(value) % _exact(unit):
        yield ValidationError(f"{value!r} is not a multiple of {unit!r}")


def _exact(value: float) -> Fraction:
    """Return a number as its shortest digits say it, without the rounding of a float."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for pattern, inner in patterns.items():
            for name, one in value.items():
                if finds(name, pattern):
                    yield from validator.descend(one, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, Mapping) or allowed is True:
        return
    patterns = schema.get("patternProperties", {})
    for name, one in value.items():
        if name in schema.get("properties", {}) or any(finds(name, p) for p in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"it has a field {shown(name)!r} that the schema does not")
        else:
            yield from validator.descend(one, allowed, path=name)
