"""A JSON Schema from a file: read once, and refused where it cannot be trusted.

A schema is refused if it refers to another document, if no finite answer can match it, or if a
reference leads to itself without a step into the answer, so that validation would never end. A
pattern that needs backtracking is refused.

A value is checked by jsonschema, with own keywords where its ones mislead. Patterns are matched by
RE2 (through Arrow, where that is here), whose time grows with the length of a text alone.
`multipleOf` is exact, and 1e999 is no number.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any, TypeAlias

from stratos.core.foreign import cause, open_regular
from stratos.core.limited import OverLimitError, limited
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.core.remote import local_path
from stratos.tasks.answers import is_finite
from stratos.tasks.schema import words

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
    own["uniqueItems"] = _unique_items
    counted = {name: _counted(check) for name, check in {**cls.VALIDATORS, **own}.items()}
    cls = extend(cls, counted, type_checker=cls.TYPE_CHECKER.redefine("number", _is_number))
    return cls(schema, format_checker=FormatChecker(FORMATS))


MOST_STEPS = 200_000
"""Keywords that one value is checked by: a schema that shares its parts may have 2^24 of them."""
_PARTS_A_STEP = 100
"""Parts of a keyword or of a value, such as the values of `enum`, that count as one step."""
_CHARACTERS_A_STEP = 1000
"""Of the texts that a pattern is matched against."""
_MATCH_S, _MOST_PATTERNS_S = 1.0, 1.0
"""Seconds of CPU that Python may match a pattern, and RE2 all of a schema: it compiles them for
each value, in 16 µs a short one, and in 8 ms the longest."""


class TooManyStepsError(Exception):
    """A value cannot be checked by a schema in reasonable time."""


class _Steps(threading.local):
    n: int | None = None
    """Of the value that is checked; None where none is."""
    texts: _Texts | None = None
    """Names and texts of that value."""


_steps = _Steps()


@contextlib.contextmanager
def counted_steps(value: Any = None) -> Iterator[None]:
    """Limit the steps of the block, which checks one value; an inner block counts for an outer.

    A pattern is compiled once for all texts of the value.
    """
    is_outermost = _steps.n is None
    if is_outermost:
        _steps.n, _steps.texts = 0, _Texts(_texts_in(value))
    try:
        yield
    finally:
        if is_outermost:
            _steps.n, _steps.texts = None, None


def _texts_in(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            pending += [*part, *part.values()]
        elif isinstance(part, list):
            pending += part


def step(n: int = 1) -> None:
    """Count steps of checking one value.

    Raises:
        TooManyStepsError: there are more than `MOST_STEPS`.
    """
    if _steps.n is not None:
        _steps.n += n
        if _steps.n > MOST_STEPS:
            raise TooManyStepsError


def _counted(check: Any) -> Any:
    def counted(validator: Any, keyword: Any, value: Any, schema: Any) -> Iterator[Any]:
        step(1 + sum(map(_n_parts, (keyword, value))) // _PARTS_A_STEP)
        yield from check(validator, keyword, value, schema) or ()

    return counted


def _n_parts(value: Any) -> int:
    return len(value) if isinstance(value, list | Mapping) else 0


def _unique_items(validator: Any, is_unique: Any, value: Any, schema: Any) -> Iterator[Any]:
    """Check `uniqueItems` in linear time, by what equal values have in common."""
    from jsonschema.exceptions import ValidationError

    if is_unique and isinstance(value, list) and len(value) > len({_key(part) for part in value}):
        yield ValidationError(f"{shown(json.dumps(value))} has non-unique elements")


def _key(value: Any) -> Any:
    """Return what equal JSON values share: 1 and 1.0 are equal, true is neither."""
    if isinstance(value, Mapping):
        return frozenset((name, _key(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return ("list", *map(_key, value))
    return ("bool", value) if isinstance(value, bool) else value


def class_of(schema: Mapping[str, Any]) -> Any:
    """Return the validator of jsonschema for the draft that a schema names."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def finds(text: str, pattern: str) -> bool:
    """Return whether a pattern of RE2 matches somewhere in a text.

    RE2 comes with pyarrow. The core has none: there Python matches, within a limit.

    Raises:
        ValueError: it is no such pattern.
        TooManyStepsError: it takes too long.
    """
    texts = _steps.texts
    if texts is None or text not in texts.places:
        texts = _Texts([text])
    return texts.match(pattern, text)


class _Texts:
    """Texts that are matched together."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.places = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        self._n_steps = sum(map(len, self.places)) // _CHARACTERS_A_STEP
        self._matches: dict[str, Sequence[bool]] = {}
        """Of each pattern, which texts it matches."""

    def match(self, pattern: str, text: str) -> bool:
        if pattern not in self._matches:
            step(self._n_steps)
            self._matches[pattern] = self._matched(pattern)
        return bool(self._matches[pattern][self.places[text]])

    def _matched(self, pattern: str) -> Sequence[bool]:
        if find_spec("pyarrow") is not None:
            import pyarrow.compute as pc

            return pc.match_substring_regex(self._column, pattern).to_numpy(zero_copy_only=False)
        try:
            re.compile(pattern)
            return limited(_matched_by_python, list(self.places), pattern, seconds=_MATCH_S)
        except re.error as error:
            raise ValueError(str(error)) from error
        except OverLimitError:
            raise TooManyStepsError from None

    @cached_property
    def _column(self) -> Any:
        import pyarrow as pa

        return pa.array([text.encode("utf-8", "replace").decode() for text in self.places])


def _matched_by_python(texts: Sequence[str], pattern: str) -> list[bool]:
    search = re.compile(pattern, re.ASCII).search
    return [search(text) is not None for text in texts]


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
            step(len(value))
            for name, element in value.items():
                if finds(name, pattern):
                    yield from validator.descend(element, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, Mapping) or allowed is True:
        return
    patterns = schema.get("patternProperties", {})
    for name, element in value.items():
        step(1 + len(patterns))
        if name in schema.get("properties", {}) or any(finds(name, p) for p in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"it has a field {shown(name)!r} that the schema does not")
        else:
            yield from validator.descend(element, allowed, path=name)


_LARGEST = 2**20
"""Bytes of a schema."""
_MOST_NODES = 20_000
_DEEPEST = 100
_ELSEWHERE = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")
"""References whose target depends on the way that led to them."""
_UNKNOWN = ("unevaluatedItems", "unevaluatedProperties", "dependencies", "extends")
"""Keywords that would be checked by patterns that may backtrack, or are older than draft 6."""
_OF_ONE = ("not", "if", "then", "else", "items", "additionalItems", "contains", "propertyNames",
           "additionalProperties")  # fmt: skip
_OF_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
Schema = Mapping[str, Any] | bool
Place: TypeAlias = str
"""Where a part stands in a schema: $.properties.total."""


def read_schema(path: str) -> dict[str, Any]:
    """Return the JSON Schema of a file.

    Raises:
        ValueError: there is none, or it is refused; the message says where and why.
        OSError: the file cannot be read.
    """
    with open_regular(os.path.expanduser(local_path(path))) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"{path}: a schema may have {_LARGEST // 2**20} MiB.")
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (byte {error.start + 1}).") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not JSON ({error.msg}, line {error.lineno}, column {error.colno})."
        ) from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not JSON that can be read ({cause(error)}).") from error
    # What the API of a provider takes as a response format.
    if (
        isinstance(document, dict)
        and isinstance(document.get("schema"), dict)
        and "type" not in document
    ):
        document = document["schema"]
    if problem := why_refused(document):
        raise ValueError(f"{path}: {problem}")
    if not _allows_object(document):
        raise ValueError(
            f'{path}: an answer is one JSON object, so that a schema says "type": "object". Put '
            'what it describes into a property: {"type": "object", "properties": {…}}'
        )
    return dict(document)


def why_refused(schema: Any) -> Reason | None:
    """Return what is wrong with a schema; None if answers can be checked by it."""
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict):
        return words.NoSchema(json.dumps(schema))
    schema = _Root(schema)
    try:
        nodes = dict(_nodes(schema))
        class_of(schema).check_schema(schema)
    except SchemaError as error:
        return words.InvalidSchema(pointer(error.absolute_path), error.message)
    except (RecursionError, _TooLargeError):
        return words.TooManyParts(_MOST_NODES, _DEEPEST)
    if _are_patterns_slow(nodes.values()):
        return words.SlowPatterns(_MOST_PATTERNS_S)
    known = {id(node) for node in nodes.values()}
    for location, node in nodes.items():
        if problem := _why_refused_alone(schema, node, known):
            return words.AtPlace(location, problem)
    if (circle := _endless_reference(schema, nodes)) is not None:
        return words.AtPlace(circle, words.EndlessReference())
    if (endless := _endless_answer(schema, nodes)) is not None:
        return words.AtPlace(endless, words.EndlessAnswer())
    return None


def placed_parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each schema in a schema that is no bare true or false, with its place."""
    return ((location, node) for location, node in _nodes(schema) if isinstance(node, Mapping))


def pointer(path: Any) -> str:
    """Return a path into a JSON value as a user reads it: $.lines[0].total."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def resolved(root: Mapping[str, Any], node: Schema) -> Schema:
    """Return what a schema's reference leads to, however many there are."""
    for _ in range(_DEEPEST):
        if not isinstance(node, Mapping) or not isinstance(node.get("$ref"), str):
            return node
        node = _target(root, node["$ref"])
    return node


class _TooLargeError(Exception):
    """A schema has too many parts."""


class _Root(dict[str, Any]):
    """A whole schema, walked once to find what its references name."""

    @cached_property
    def anchors(self) -> dict[str, Schema]:
        """The schema of each `$anchor`, the first of those that share one."""
        return _anchors(self)


def _anchors(root: Mapping[str, Any]) -> dict[str, Schema]:
    nodes = [node for _, node in _nodes(root) if isinstance(node, Mapping)]
    return {str(node["$anchor"]): node for node in reversed(nodes) if "$anchor" in node}


def _nodes(schema: Schema, location: str = "$", depth: int = 0) -> Iterator[tuple[str, Schema]]:
    """Yield every schema in a schema with its place.

    Raises:
        _TooLargeError: there are too many.
    """
    pending: list[tuple[str, Any, int]] = [(location, schema, depth)]
    n = 0
    while pending:
        here, node, depth = pending.pop()
        n += 1
        if depth > _DEEPEST or n > _MOST_NODES:
            raise _TooLargeError
        if not isinstance(node, Mapping | bool):
            continue
        yield here, node
        if isinstance(node, Mapping):
            pending += [(f"{here}.{at}", inner, depth + 1) for at, inner in _parts(node)][::-1]


def _parts(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _OF_ONE:
        if isinstance(node.get(name), Mapping | bool):
            yield name, node[name]
    for name in _OF_LIST:
        if isinstance(node.get(name), list):
            yield from ((f"{name}[{k}]", inner) for k, inner in enumerate(node[name]))
    for name in _BY_NAME:
        if isinstance(node.get(name), Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in node[name].items())


def _why_refused_alone(root: Mapping[str, Any], node: Schema, known: set[int]) -> Reason | None:
    """Return what is wrong with one schema of a root, whose schemas have the `known` ids."""
    if not isinstance(node, Mapping):
        return None
    for name in _UNKNOWN:
        if name in node:
            return words.UnknownKeyword(name)
    for name in _ELSEWHERE:
        if name in node:
            return words.DynamicReference(name)
    if node is not root and "$id" in node:
        return words.InnerId()
    reference = node.get("$ref")
    if reference is not None:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return words.OtherDocument(str(reference))
        try:
            is_schema = id(_target(root, reference)) in known
        except KeyError:
            is_schema = False
        if not is_schema:
            return words.NoTarget(reference)
    if not is_finite(node.get("multipleOf")):
        return words.InfiniteMultiple()
    return next(filter(None, (_trial(pattern)[0] for pattern in _patterns_of(node))), None)


def _patterns_of(node: Schema) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from [node["pattern"]] if isinstance(node.get("pattern"), str) else []
        by_name = node.get("patternProperties")
        yield from by_name if isinstance(by_name, Mapping) else ()


def _target(root: Mapping[str, Any], reference: str) -> Any:
    """Return what a reference names.

    Raises:
        KeyError: it names nothing.
    """
    from urllib.parse import unquote

    name = unquote(reference.removeprefix("#"))
    if not name:
        return root
    if not name.startswith("/"):
        return (root.anchors if isinstance(root, _Root) else _anchors(root))[name]
    target: Any = root
    for step in name[1:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and step.isdigit() and int(step) < len(target):
            target = target[int(step)]
        elif isinstance(target, Mapping):
            target = target[step]
        else:
            raise KeyError(reference)
    if not isinstance(target, Mapping | bool):
        raise KeyError(reference)
    return target


def _in_place(root: Mapping[str, Any], node: Schema) -> Iterator[Schema]:
    """Yield what a value has to be checked by as well, without a step into it."""
    if not isinstance(node, Mapping):
        return
    if isinstance(node.get("$ref"), str):
        yield _target(root, node["$ref"])
    for name in ("not", "if", "then", "else"):
        if name in node:
            yield node[name]
    for name in ("allOf", "anyOf", "oneOf"):
        yield from node.get(name, ())
    yield from node.get("dependentSchemas", {}).values()


def _endless_reference(root: Mapping[str, Any], nodes: Mapping[str, Schema]) -> Place | None:
    """Return the place of a schema that is checked by itself again, at the same value."""
    places = {id(node): location for location, node in nodes.items()}
    done: set[int] = set()
    for start in nodes.values():
        # A walk in depth that keeps its path: a node that is met on its own path closes a circle.
        path: list[tuple[Schema, Iterator[Schema]]] = [(start, _in_place(root, start))]
        on_path = {id(start)}
        while path and id(start) not in done:
            node, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                on_path.discard(id(node))
                if isinstance(node, Mapping):
                    done.add(id(node))
            elif isinstance(following, Mapping) and id(following) in on_path:
                return places.get(id(following), "$")
            elif isinstance(following, Mapping) and id(following) not in done:
                path.append((following, _in_place(root, following)))
                on_path.add(id(following))
    return None


def _endless_answer(root: Mapping[str, Any], nodes: Mapping[str, Schema]) -> Place | None:
    """Return the place of a schema that no finite value matches, as it requires itself."""
    # The least fixed point: what is finite by what is known to be so, until nothing is added. Each
    # node waits for its conditions, and each of them is met once: linear in the references.
    lacking: dict[int, int] = {}
    waiting: dict[int, list[tuple[int, int]]] = {}
    conditions: list[bool] = []
    """Whether each is met."""
    finite: set[int] = set()
    pending: list[int] = []
    for node in {id(node): node for node in nodes.values() if isinstance(node, Mapping)}.values():
        groups = [ids for ids in _conditions(root, node) if ids is not None]
        lacking[id(node)] = len(groups)
        if not groups:
            pending.append(id(node))
        for ids in groups:
            for id_ in ids:
                waiting.setdefault(id_, []).append((id(node), len(conditions)))
            conditions.append(False)
    while pending:
        finite.add(known := pending.pop())
        for key, condition in waiting.get(known, ()):
            if not conditions[condition]:
                conditions[condition] = True
                lacking[key] -= 1
                if not lacking[key]:
                    pending.append(key)
    used = _used(root)
    return next(
        (location for location, node in nodes.items()
         if isinstance(node, Mapping) and id(node) not in finite and id(node) in used), None
    )  # fmt: skip


def _conditions(root: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[set[int] | None]:
    """Yield what has to be finite so that a schema is: one of the ids each; None where one is."""
    every: list[Any] = list(node.get("allOf", ()))
    if isinstance(node.get("$ref"), str):
        every.append(_target(root, node["$ref"]))
    kinds = node.get("type", "object" if "properties" in node else None)
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    if kinds == ["object"]:
        properties = node.get("properties", {})
        every += [properties[name] for name in node.get("required", ()) if name in properties]
    if kinds == ["array"] and node.get("minItems", 0) > 0 and "items" in node:
        every.append(node["items"])
    some = [node[name] for name in ("anyOf", "oneOf") if node.get(name)]
    for options in (*([node] for node in every), *some):
        is_met = not all(isinstance(option, Mapping) for option in options)
        yield None if is_met else {id(option) for option in options}


def _used(root: Mapping[str, Any]) -> set[int]:
    """Return what a value has to be checked by from the root, through required parts alone."""
    ids: set[int] = set()
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        if not isinstance(node, Mapping) or id(node) in ids:
            continue
        ids.add(id(node))
        pending += node.get("allOf", ())
        if isinstance(node.get("$ref"), str):
            pending.append(_target(root, node["$ref"]))
        properties = node.get("properties", {})
        pending += [properties[name] for name in node.get("required", ()) if name in properties]
        pending += [node["items"]] if node.get("minItems", 0) and "items" in node else []
    return ids


def _allows_object(schema: Mapping[str, Any]) -> bool:
    target = resolved(schema, schema)
    kinds = target.get("type", "object") if isinstance(target, Mapping) else "object"
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds)


def _are_patterns_slow(nodes: Iterable[Schema]) -> bool:
    """Return whether the patterns of a schema take too long for each answer; stop where they do."""
    seconds = 0.0
    for pattern in {pattern for node in nodes for pattern in _patterns_of(node)}:
        seconds += _trial(pattern)[1]
        if seconds > _MOST_PATTERNS_S:
            return True
    return False


@lru_cache(maxsize=_MOST_NODES)
def _trial(pattern: str) -> tuple[words.UnsafePattern | None, float]:
    """Return why a pattern cannot be matched, and the seconds of CPU that it takes."""
    finds("", "")  # so that nothing is imported in the time of this pattern
    start = time.thread_time()
    try:
        finds("", pattern)
    except ValueError as error:
        why = str(error).removeprefix("Invalid regular expression: ")
        return words.UnsafePattern(pattern, why), 0.0
    return None, time.thread_time() - start
