"""Answers that a JSON Schema describes: checked by it, and compared field by field.

They are learnt spelled as a grammar of their schema lets them be written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from typing_extensions import override

from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.tasks import answers
from stratos.tasks.answers import AnswerText, behind_marker, word_f1
from stratos.tasks.metrics import Metric
from stratos.tasks.schema.document import (
    MOST_STEPS,
    Schema,
    TooManyStepsError,
    counted_steps,
    placed_parts,
    pointer,
    read_schema,
    resolved,
    step,
    validator,
)
from stratos.tasks.schema.words import Mismatch, NestedTooDeep, TooManyFields, TooManySteps

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
            inner = [node for key, node in parts if key == "items" and isinstance(node, Mapping)]
            first = [node for key, node in parts if key == "prefixItems"]
            return [
                self.value({"allOf": [*(f[k] for f in first if k < len(f)), *inner]}, element)
                for k, element in enumerate(value)
            ]
        is_integer = any(
            key in ("enum", "const")
            or (key == "type" and "integer" in node and "number" not in node)
            for key, node in parts
        )
        is_whole = isinstance(value, float) and value.is_integer()
        return int(value) if is_whole and is_integer else value

    def _object(self, parts: list[tuple[str, Any]], value: dict[str, Any]) -> dict[str, Any]:
        inner: dict[str, list[Schema]] = {}
        for key, properties in parts:
            for name, node in properties.items() if key == "properties" else ():
                inner.setdefault(name, []).append(node)
        further = [node for key, node in parts if key == "additionalProperties"]
        names = [*(name for name in inner if name in value), *(n for n in value if n not in inner)]
        return {
            name: self.value({"allOf": inner.get(name, further)}, value[name]) for name in names
        }

    def _parts(self, node: Schema, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the keywords that a value is checked by, in the order in which a schema has them.

        Of alternatives, those of the first that takes the value.
        """
        step()
        for key, inner in node.items() if isinstance(node, Mapping) else ():
            if key == "$ref":
                yield from self._parts(resolved(self._root, {"$ref": inner}), value)
            elif key == "allOf":
                for subschema in inner:
                    yield from self._parts(subschema, value)
            elif key in ("anyOf", "oneOf"):
                fitting = next((node for node in inner if self._takes(node, value)), True)
                yield from self._parts(fitting, value)
            else:
                yield key, inner


SCORE = "x-score"
"""Keyword of a schema that says how a field is compared."""
VALID = "(valid)"
"""Name of the share of answers that match the schema, among those of the fields."""
_ELEMENT = "[]"
"""What the elements of a list are called in a path."""
_NO_KINDS = "it has to be one of exact, numeric, set or text"
_NOT_USED = (
    f"{SCORE} is not used here. It is used in the schema of a field that has no properties of its "
    "own, below properties, items, allOf, anyOf and oneOf. Take it out, or put it there."
)


class Kind(Enum):
    """How a field is compared."""

    EXACT = "exact"
    """Equal up to case and spacing."""
    NUMERIC = "numeric"
    """Equal as numbers: whole ones exactly, others up to rounding."""
    SET = "set"
    """The same elements, in any order."""
    TEXT = "text"
    """Enough words in common."""


@dataclass(frozen=True)
class BySchema(Metric):
    """Right if the answer matches the schema, and every field is right."""

    schema: Mapping[str, Any] = field(default_factory=dict)
    min_f1: float = 0.8
    """Of fields that are texts: word overlap from which they are right."""
    path: str = ""
    """File of the schema."""

    @staticmethod
    def of_file(path: str, min_f1: float) -> BySchema:
        """Return the metric of a schema in a file.

        Raises:
            ValueError: it is none; the message says where and why.
            OSError: the file cannot be read.
        """
        metric = BySchema(read_schema(path), min_f1, path)
        _ = metric.kinds
        return metric

    @cached_property
    def _validator(self) -> Any:
        return validator(self.schema)

    @cached_property
    def kinds(self) -> dict[answers.Path, Kind]:
        """Return how each field that the schema names is compared.

        Raises:
            ValueError: a field names a kind that there is not, or one where none is used.
        """
        by_path: dict[answers.Path, Kind] = {}
        used: set[int] = set()
        try:
            with counted_steps():
                self._collect(self.schema, (), by_path, (), used)
        except TooManyStepsError:
            raise ValueError(str(TooManyFields(MOST_STEPS))) from None
        for location, node in placed_parts(self.schema):
            is_shared = location.startswith(("$.$defs.", "$.definitions."))  # may be used nowhere
            if SCORE in node and id(node) not in used and not is_shared:
                raise ValueError(f"{location}: {_NOT_USED}")
        return by_path

    def canonical(self, answer: str, options: Any = ()) -> str:
        """Return a gold answer as the text that a student learns.

        Raises:
            ValueError: it does not match the schema; the message says where.
        """
        try:
            parsed = json.loads(answer)
        except (ValueError, RecursionError):
            raise ValueError(f"the answer {shown(answer)} is no JSON object") from None
        if not isinstance(parsed, dict):
            raise ValueError(f"the answer {shown(answer)} is no JSON object")
        if not answers.is_finite(parsed):
            raise ValueError(f"the answer {shown(answer)} has a number that is not finite")
        if problem := self.problem(parsed):
            raise ValueError(f"the answer does not match the schema: {problem}")
        try:
            with counted_steps(parsed):
                return answers.written(spelled(self.schema, parsed, self._takes))
        except TooManyStepsError:
            raise ValueError(f"the answer cannot be spelled: {TooManySteps(MOST_STEPS)}") from None

    def _takes(self, schema: Any, value: Any) -> bool:
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def problem(self, answer: Mapping[str, Any]) -> Reason | None:
        """Return what is wrong with an answer by the schema, at its first place; None if nothing.

        The deepest error of alternatives is told, as it names what the writer meant to write.
        """
        from jsonschema.exceptions import best_match

        try:
            with counted_steps(answer):
                error = best_match(self._validator.iter_errors(answer))
        except RecursionError:
            return NestedTooDeep()
        except TooManyStepsError:
            return TooManySteps(MOST_STEPS)
        if error is None:
            return None
        return Mismatch(pointer(error.absolute_path), error.message)

    def read(self, text: str) -> AnswerText | None:
        """Return the JSON object that a text ends with or announces; None if there is none."""
        parsed = (
            answers.object_of(text)
            or answers.object_at_start(behind_marker(text))
            or answers.object_at_start(text)
        )
        return None if parsed is None else answers.written(parsed)

    def compare(self, answer: str, gold: str) -> float:
        """Return 1 where the answer matches the schema and every field is right."""
        parsed = answers.object_of(answer)
        if parsed is None or self.problem(parsed):
            return 0.0
        return float(all(score >= 1 for score in self._fields(parsed, gold, whole=True).values()))

    def overlap(self, answer: str, gold: str) -> float:
        """Return the mean score of the fields that the answer or the gold answer has."""
        scores = self._fields(answers.object_of(answer) or {}, gold, whole=True)
        return sum(scores.values()) / len(scores) if scores else 1.0

    def field_scores(self, answer: str | None, gold: str) -> dict[str, float]:
        """Return field to how right it is, of the gold answer's; and whether the answer is valid.

        Args:
            answer: as it was read; None where there was none.
            gold: the gold answer.
        """
        parsed = answers.object_of(answer or "")
        valid = float(parsed is not None and self.problem(parsed) is None)
        scores = self._fields(parsed or {}, gold, whole=False)
        return {VALID: valid, **{".".join(path): score for path, score in scores.items()}}

    def normal(self, answer: str) -> str:
        """Return a gold answer in a form that all spellings share that are equal by the schema."""
        parsed = answers.object_of(answer)
        if parsed is None:
            return answer
        return answers.as_key(self._normal((), parsed))

    def _normal(self, path: answers.Path, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._normal((*path, name), inner) for name, inner in value.items()}
        if not isinstance(value, list):
            return value
        elements = [self._normal((*path, _ELEMENT), element) for element in value]
        return (
            sorted({*map(answers.as_key, elements)}) if self._kind(path) is Kind.SET else elements
        )

    @property
    @override
    def answer_schema(self) -> Mapping[str, Any]:
        return self.schema

    @property
    @override
    def identity(self) -> str:
        return json.dumps(self.schema, sort_keys=True)

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        return (f"{self.path}: fields are compared so: {self.described()}.",)

    def described(self) -> str:
        """Return how each field is compared, in words."""
        return ", ".join(
            f"{_told(path)} {kind.value}"
            for path, kind in self.kinds.items()
            if path[-1] != _ELEMENT or kind is not Kind.EXACT
        )

    def _kind(self, path: answers.Path) -> Kind:
        return self.kinds.get(path, Kind.EXACT)

    def _fields(
        self, parsed: Mapping[str, Any], gold: str, *, whole: bool
    ) -> dict[answers.Path, float]:
        """Return the score of each field of the gold answer; with `whole`, of those added, too."""
        return self._scores((), parsed, answers.object_of(gold) or {}, whole=whole)

    def _scores(
        self,
        outer: answers.Path,
        parsed: Mapping[str, Any],
        gold: Mapping[str, Any],
        *,
        whole: bool,
    ) -> dict[answers.Path, float]:
        expected, given = answers.fields_of(gold, outer), answers.fields_of(parsed, outer)
        scores = {
            path: self._score(path, given[path], value) if path in given else 0.0
            for path, value in expected.items()
        }
        added = {path: 0.0 for path in given if path not in expected} if whole else {}
        return {**scores, **added}

    def _score(self, path: answers.Path, given: Any, expected: Any) -> float:
        kind = self._kind(path)
        if isinstance(given, list) and isinstance(expected, list):
            if kind is Kind.SET:
                return float(self._is_same_set(path, given, expected))
            pairs = zip(given, expected, strict=False)
            return float(
                len(given) == len(expected) and all(self._is_element(path, *pair) for pair in pairs)
            )
        if kind is Kind.TEXT and isinstance(given, str) and isinstance(expected, str):
            overlap = word_f1(given, expected)
            return 1.0 if answers.same(given, expected) or overlap >= self.min_f1 else overlap
        if kind is Kind.NUMERIC and _is_number(given) and _is_number(expected):
            return float(answers.same_number(given, expected))
        return float(answers.same(given, expected))

    def _is_same_set(self, path: answers.Path, given: list[Any], expected: list[Any]) -> bool:
        """Return whether each element of a list is one of another's; how often does not count."""
        ours, theirs = (
            {answers.as_key(element): element for element in some} for some in (given, expected)
        )
        missing = [ours[key] for key in ours.keys() - theirs.keys()]
        right = [theirs[key] for key in theirs.keys() - ours.keys()]
        if len(missing) != len(right) or len(missing) ** 2 > MOST_STEPS:
            return False
        # What is not spelled the same may be the same by the kinds of the elements.
        return answers.pairs_all(
            [[self._is_element(path, ours_, theirs_) for theirs_ in right] for ours_ in missing]
        )

    def _is_element(self, path: answers.Path, given: Any, expected: Any) -> bool:
        """Return whether an element of the list at a path is right."""
        path = (*path, _ELEMENT)
        if isinstance(given, Mapping) and isinstance(expected, Mapping):
            scores = self._scores(path, given, expected, whole=True)
            return all(score >= 1 for score in scores.values())
        return self._score(path, given, expected) >= 1

    def _collect(
        self,
        node: Schema,
        path: answers.Path,
        by_path: dict[answers.Path, Kind],
        within: tuple[int, ...],
        used: set[int],
    ) -> None:
        """Add the kinds of the fields below a schema, those of a recursive one once.

        Args:
            node: the schema.
            path: of the field that it describes.
            by_path: added to.
            within: the ids of the schemas that it is in.
            used: ids of the schemas that say how something is compared, added to.
        """
        step()
        original, node = node, resolved(self.schema, node)
        if not isinstance(node, Mapping) or id(node) in within:
            return
        # What stands beside a $ref says more than what the $ref leads to.
        beside = (
            {SCORE: original[SCORE]} if isinstance(original, Mapping) and SCORE in original else {}
        )
        within = (*within, id(node))
        for part in ("allOf", "anyOf", "oneOf"):
            for node_ in node.get(part, ()):
                self._collect(node_, path, by_path, within, used)
        properties = node.get("properties", {})
        for name, inner in properties.items():
            self._collect(inner, (*path, name), by_path, within, used)
        if path and not properties and (kind := _kind_of({**node, **beside}, path)):
            used |= {id(original), id(node)}
            by_path.setdefault(path, kind)
        if isinstance(node.get("items"), Mapping):
            self._collect(node["items"], (*path, _ELEMENT), by_path, within, used)


def _kind_of(node: Mapping[str, Any], path: answers.Path) -> Kind | None:
    """Return how a field of a schema is compared; None where the schema does not say what it is."""
    named = node.get(SCORE)
    if named is not None:
        if named not in [kind.value for kind in Kind]:
            raise ValueError(f"{SCORE}={named} of {_told(path)}: {_NO_KINDS}.")
        return Kind(named)
    types = node.get("type", ())
    types = {types} if isinstance(types, str) else {*types}
    types -= {"null"}
    if types and types <= {"number", "integer"}:
        return Kind.NUMERIC
    if types == {"array"} and node.get("uniqueItems"):
        return Kind.SET
    return Kind.EXACT if types or "enum" in node or "const" in node else None


def _told(path: answers.Path) -> str:
    """Return a path as a user reads it: lines[].note."""
    return ".".join(path).replace(f".{_ELEMENT}", _ELEMENT)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
