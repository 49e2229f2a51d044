"""The form of an answer: its fields as rows and a JSON Schema show them, taken apart and built.

A field is a path of names to a scalar, a list of scalars or a list of flat objects. An answer that
is built matches the schema, whatever the values. It is compared with a gold one field by field.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial
from typing import Any

from stratos.tasks.answers import Path, as_key, fields_of, nested, object_of, same
from stratos.tasks.schema.answers import spelled
from stratos.tasks.schema.document import resolved, validator


@dataclass(frozen=True)
class ExtractionScore:
    """How well one field is extracted."""

    exact: float
    """Share of all rows in which it is right; where no value is right, that is no value."""
    f1: float
    """Harmonic mean of the shares of gold values that are answered and of answers that are gold."""
    n_missing: int
    """Rows with a gold value and no answer."""
    n_invented: int
    """Rows without a gold value and with an answer."""


def extraction_scores(
    golds: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any] | None]
) -> dict[str, ExtractionScore]:
    """Return the scores of each field of gold objects by its path, such as "person.name".

    Null, an empty list and a field that is left out are no value. A list is one value.

    Args:
        golds: gold objects.
        answers: in the same order; None where an answer is no object.
    """
    gold_rows = [fields_of(gold) for gold in golds]
    answer_rows = [fields_of(answer or {}) for answer in answers]
    scores = {}
    for path in dict.fromkeys(path for row in gold_rows for path in row):
        pairs = [
            (_value(g, path), _value(a, path)) for g, a in zip(gold_rows, answer_rows, strict=True)
        ]
        right = sum(same(g, a) for g, a in pairs)
        hits = sum(g is not None and same(g, a) for g, a in pairs)
        n_gold, n_answers = (
            sum(g is not None for g, _ in pairs),
            sum(a is not None for _, a in pairs),
        )
        scores[".".join(path)] = ExtractionScore(
            exact=right / len(pairs),
            f1=2 * hits / (n_gold + n_answers) if n_gold + n_answers else 1.0,
            n_missing=sum(g is not None and a is None for g, a in pairs),
            n_invented=sum(g is None and a is not None for g, a in pairs),
        )
    return scores


def _value(row: Mapping[Path, Any], path: Path) -> Any:
    value = row.get(path)
    return None if value == [] or value == {} else value


def majority_object(answers: Sequence[str]) -> str:
    """Return the most frequent answer as a whole, in the spelling that most rows have.

    Its fields are those of one row. The most frequent values of single fields make an object that
    may be the answer to no row at all.

    Args:
        answers: JSON objects as texts, at least one.
    """
    forms = {answer: _form(answer) for answer in set(answers)}
    [(best, _)] = Counter(forms[answer] for answer in answers).most_common(1)
    return Counter(answer for answer in answers if forms[answer] == best).most_common(1)[0][0]


def _form(answer: str) -> str:
    parsed = object_of(answer)
    return answer if parsed is None else as_key(parsed)


Object = Mapping[str, Any]
_SCALARS = (str, int, float, bool)
_MISSING = object()


class Absent(Enum):
    """What stands in an answer for a field without a value."""

    NULL = "null"
    MISSING = "missing"
    """The field is left out."""
    NEVER = "never"
    """There always is a value."""


@dataclass(frozen=True, eq=False)
class Field:
    """A leaf of answers."""

    path: Path
    """Names that lead to it, or to the list that it is in."""
    is_list: bool
    key: str | None
    """Its name in the elements of a list of objects."""
    types: tuple[str, ...]
    """Of JSON, as rows show them; none where its values are neither scalars nor flat lists."""
    absent: Absent
    """Of the scalar or of the list."""
    fallback: Any
    """Stands where there has to be a value, and no reader has one."""
    rule: dict[str, Any]
    """Schema of the leaf."""
    key_absent: Absent = Absent.NEVER
    """Of the leaf in an element of a list."""

    @property
    def whole(self) -> str:
        """The name of the scalar or of the list, as answers are scored by."""
        return ".".join(self.path)

    @property
    def name(self) -> str:
        """The name of the leaf."""
        key = f".{self.key}" if self.key is not None else ""
        return self.whole + ("[]" + key if self.is_list else "")

    def value(self, answer: Object) -> Any:
        """Return the scalar or the list in an answer; None where there is none."""
        value: Any = answer
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def elements(self, answer: Object) -> list[Any]:
        """Return the elements of the list."""
        value = self.value(answer)
        return value if isinstance(value, list) else []

    def inner(self, element: Any) -> Any:
        """Return the leaf of an element of the list."""
        if self.key is None:
            return element
        return element.get(self.key) if isinstance(element, Mapping) else None

    def leaves(self, answer: Object) -> list[Any]:
        """Return the values of the leaf, without nulls."""
        is_list = self.is_list
        values = map(self.inner, self.elements(answer)) if is_list else (self.value(answer),)
        return [value for value in values if isinstance(value, _SCALARS)]

    def allows(self, value: Any) -> bool:
        """Return whether a value can stand in the leaf."""
        if value is None:
            return (self.key_absent if self.is_list else self.absent) is not Absent.NEVER
        if self._validator is not None:
            return bool(self._validator.is_valid(value))
        kind = _type_of(value)
        return kind in self.types or {kind, *self.types} == {"integer", "number"}

    @cached_property
    def _validator(self) -> Any:
        return validator(self.rule) if self.rule else None


@dataclass(frozen=True)
class Form:
    """Fields of answers, and how these are built."""

    fields: tuple[Field, ...]
    null_parents: tuple[Path, ...]
    """Objects that are null where all their fields are missing."""
    schema: dict[str, Any] | None
    safe: dict[str, Any]
    """A valid answer with few values, for when no other can be built."""

    @classmethod
    def of_rows(cls, answers: Sequence[Object], schema: Object | None = None) -> Form:
        """Return the form of answers.

        Raises:
            ValueError: no answer matches the schema.
        """
        flat = [fields_of(answer) for answer in answers]
        paths = list(dict.fromkeys(path for row in flat for path in row))
        parents = {path[:k] for path in paths for k in range(1, len(path))}
        check = validator(schema) if schema is not None else None
        valid = [a for a in answers if check is None or check.is_valid(a)]
        if not valid:
            raise ValueError("no row has an answer that matches the schema")
        fields = [
            field
            for path in paths
            if path not in parents
            for field in _fields_at(path, [row.get(path, _MISSING) for row in flat], schema)
        ]
        safe = min(valid, key=lambda answer: len(json.dumps(answer)))
        null = {path for row in flat for path, value in row.items() if value is None}
        null_parents = tuple(sorted(parents & null, key=len))
        return cls(tuple(fields), null_parents, dict(schema) if schema else None, dict(safe))

    @property
    def names(self) -> list[str]:
        """Names of the scalars and lists."""
        return list(dict.fromkeys(field.whole for field in self.fields))

    def built(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the answer with values by name, and whether they can be in a valid answer."""
        flat: dict[Path, Any] = {}
        for field in self.fields:
            value = values.get(field.whole)
            value = None if field.is_list and not value else value
            if value is None and field.absent is Absent.MISSING:
                continue
            if value is None and field.absent is Absent.NEVER:
                value = field.fallback
            if isinstance(value, float) and value.is_integer() and "integer" in field.types:
                value = int(value)
            flat[field.path] = value
        for path in self.null_parents:  # outer ones come first
            if not any(path[: len(p)] == p or p[: len(path)] == path for p in flat):
                flat[path] = None
        answer = nested(flat)
        if self._validator is None:
            return answer, True
        if not self._validator.is_valid(answer):
            return self.safe, False
        made: dict[str, Any] = spelled(self.schema or {}, answer, self._takes)
        return made, True

    @cached_property
    def _validator(self) -> Any:
        return validator(self.schema) if self.schema is not None else None

    def _takes(self, schema: Any, value: Any) -> bool:
        return bool(self._validator.evolve(schema=schema).is_valid(value))


def _fields_at(path: Path, values: Sequence[Any], schema: Object | None) -> list[Field]:
    """Return the leaves at a path: one, or one for each key of a list of objects."""
    stated = [v for v in values if v is not None and v is not _MISSING]
    absent, rule = _absent(values), _rule(schema, path)
    if not any(isinstance(value, list) for value in stated):
        scalars = [v for v in stated if isinstance(v, _SCALARS)]
        types = _types(scalars) if len(scalars) == len(stated) else ()
        blank = Field(path, False, None, types, absent, None, _own(rule))
        return [replace(blank, fallback=_stand_in(blank, stated))]
    absent = Absent.NEVER if [] in stated else absent
    elements = [element for value in stated if isinstance(value, list) for element in value]
    items = resolved(schema or {}, rule.get("items", {}))
    inner = _own(items) if isinstance(items, Mapping) else {}
    if all(isinstance(element, _SCALARS) for element in elements):
        return [Field(path, True, None, _types(elements), absent, [], inner)]
    if not all(isinstance(element, Mapping) for element in elements):
        return [Field(path, True, None, (), absent, [], {})]
    fields = []
    for key in dict.fromkeys(key for element in elements for key in element):
        column = [element.get(key, _MISSING) for element in elements]
        leaf = _fields_at((key,), column, inner)[0]
        types = () if leaf.is_list else leaf.types
        fields.append(Field(path, True, key, types, absent, [], leaf.rule, leaf.absent))
    return fields


def _stand_in(blank: Field, stated: Sequence[Any]) -> Any:
    """Return what stands where a value has to be and none is read.

    It is "" or null, which nobody takes for a value; where the schema takes neither, the value that
    most rows have.
    """
    if blank.types == ("string",) and blank.allows(""):
        return ""
    if not blank.rule or validator(blank.rule).is_valid(None):
        return None
    return _commonest(stated)


def _absent(values: Sequence[Any]) -> Absent:
    n_null, n_missing = sum(v is None for v in values), sum(v is _MISSING for v in values)
    if not n_null + n_missing:
        return Absent.NEVER
    return Absent.NULL if n_null >= n_missing else Absent.MISSING


def _rule(schema: Object | None, path: Path) -> dict[str, Any]:
    """Return the schema at a path; empty where the schema does not name it in a plain way."""
    node: Any = schema or {}
    for name in path:
        node = resolved(schema or {}, node)
        node = node.get("properties", {}).get(name, {}) if isinstance(node, Mapping) else {}
    node = resolved(schema or {}, node)
    return dict(node) if isinstance(node, Mapping) else {}


def _own(rule: Object) -> dict[str, Any]:
    """Return a schema that refers to no other; empty for one that does."""
    return {} if "$ref" in json.dumps(rule) else dict(rule)


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return (
        "integer" if isinstance(value, int) else "number" if isinstance(value, float) else "string"
    )


def _types(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(sorted({_type_of(value) for value in values}))


def _commonest(values: Sequence[Any]) -> Any:
    texts = Counter(json.dumps(value, sort_keys=True) for value in values)
    return json.loads(texts.most_common(1)[0][0]) if texts else None


# Values such as "682.50 USD": a number and a unit, which a text often writes otherwise.
#
# Where a field has such values and the text does not show them whole, the number and the unit are
# read as two fields, and written together again.

_NUMBER = r"(?P<number>-?\d+(?:\.\d+)?)"
_UNIT = r"(?P<unit>[^\d\s.,-][^\d]{0,11}?)"
_BEHIND = re.compile(rf"{_NUMBER}(?P<gap> ?){_UNIT}")
_BEFORE = re.compile(rf"{_UNIT}(?P<gap> ?){_NUMBER}")
_SHARE = 0.95
"""Of the values of a field that have to be a number and a unit, written in one way."""
_MOST_UNITS = 20
_SHOWN = 0.5
"""Share of the values that stand in the text as they are, from which nothing is split."""


@dataclass(frozen=True)
class Amount:
    """A field whose values are a number and a unit."""

    path: Path
    is_unit_first: bool
    gap: str
    decimals: int | None
    """Of every number; None where they differ."""

    @property
    def parts(self) -> tuple[str, str]:
        """Names of the two fields that are read in place of this one."""
        return f"{self.path[-1]} (number)", f"{self.path[-1]} (unit)"

    def split(self, value: Any) -> tuple[Any, Any]:
        """Return number and unit of a value; the value itself as the unit where it is neither."""
        match = (_BEFORE if self.is_unit_first else _BEHIND).fullmatch(str(value))
        return (None, value) if match is None else (_number(match["number"]), match["unit"])

    def joined(self, number: Any, unit: Any) -> Any:
        """Return the value of a number and a unit; without a number there is no value."""
        if not isinstance(number, int | float) or not unit:
            return "" if unit == "" else None
        figures = f"{number:.{self.decimals}f}" if self.decimals is not None else f"{number}"
        pair = (str(unit), figures) if self.is_unit_first else (figures, str(unit))
        return self.gap.join(pair)


def amounts_of(texts: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> tuple[Amount, ...]:
    """Return the fields whose values are a number and a unit that the texts write otherwise."""
    columns: dict[Path, list[tuple[str, str]]] = {}
    for text, answer in zip(texts, answers, strict=True):
        for path, value in fields_of(answer).items():
            if value not in (None, ""):
                columns.setdefault(path, []).append((text, value))
    amounts = (_amount(path, rows) for path, rows in columns.items())
    return tuple(amount for amount in amounts if amount is not None)


def _amount(path: Path, rows: Sequence[tuple[str, Any]]) -> Amount | None:
    if not all(isinstance(value, str) for _, value in rows):
        return None
    if sum(value in text for text, value in rows) >= _SHOWN * len(rows):
        return None
    for pattern in (_BEHIND, _BEFORE):
        matches = [match for _, value in rows if (match := pattern.fullmatch(value))]
        if len(matches) < _SHARE * len(rows):
            continue
        gap, n = Counter(match["gap"] for match in matches).most_common(1)[0]
        units = {match["unit"] for match in matches}
        if n < _SHARE * len(rows) or len(units) > min(_MOST_UNITS, len(rows) / 5):
            continue
        decimals = {len(match["number"].partition(".")[2]) for match in matches}
        return Amount(path, pattern is _BEFORE, gap, decimals.pop() if len(decimals) == 1 else None)
    return None


def split(answer: Mapping[str, Any], amounts: Sequence[Amount]) -> dict[str, Any]:
    """Return an answer with numbers and units apart."""
    apart = dict(answer)
    for amount in amounts:
        apart = _at(apart, amount.path, partial(_split_in, amount))
    return apart


def joined(answer: Mapping[str, Any], amounts: Sequence[Amount]) -> dict[str, Any]:
    """Return an answer with numbers and units together again."""
    whole = dict(answer)
    for amount in amounts:
        whole = _at(whole, amount.path, partial(_joined_in, amount))
    return whole


def _at(
    answer: dict[str, Any], path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Change the object that holds the last name of a path."""
    if len(path) == 1:
        return change(answer)
    inner = answer.get(path[0])
    if not isinstance(inner, Mapping):
        return answer
    return {**answer, path[0]: _at(dict(inner), path[1:], change)}


def _split_in(amount: Amount, outer: Mapping[str, Any]) -> dict[str, Any]:
    apart: dict[str, Any] = {}
    for key, value in outer.items():
        if key == amount.path[-1]:
            apart |= dict(zip(amount.parts, amount.split(value), strict=True))
        else:
            apart[key] = value
    return apart


def _joined_in(amount: Amount, outer: Mapping[str, Any]) -> dict[str, Any]:
    number, unit = amount.parts
    whole: dict[str, Any] = {}
    for key, value in outer.items():
        if key in amount.parts:
            if amount.path[-1] not in whole:
                whole[amount.path[-1]] = amount.joined(outer.get(number), outer.get(unit))
        else:
            whole[key] = value
    return whole


def _number(figures: str) -> int | float:
    return float(figures) if "." in figures else int(figures)
