"""Calls as models write them: JSON, tagged JSON, what an API returns, or a call in Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.tasks.chat import MARK
from stratos.tasks.objects import plain_json
from stratos.tasks.shown import shown

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_FENCED = re.compile(r"```(?:json|python|tool_code)?[ \t]*\n?(.*?)(?:```|$)", re.DOTALL)
_PYTHON_TAG = re.compile(r"<\|?python_tag\|?>")
_NO_CALL = r"none|null|nothing|no (?:call|tool|function)s?"
_NONE = re.compile(rf"[\s*_`'\"(\[]*(?:{_NO_CALL})[\s*_`'\").\]]*", re.IGNORECASE)
_OPEN = re.compile(r"[\[{]")
_NEXT = re.compile(r"\s*(?:```\s*```(?:json)?\s*)?[,;]?\s*(?=\{)")
"""What may stand between objects that are several calls."""
_OF_JSON = re.compile(r"[\[{]\s*[{\"]")
"""How a list or an object begins that is JSON, even if it is cut off."""
_IN_PYTHON = re.compile(r"(?:=\s*|\w\()\Z")
"""What stands before a value that is an argument in Python."""
_DECODER = json.JSONDecoder()
_MOST_STARTS = 50
"""Brackets of a text behind which calls are looked for."""
_LONGEST = 100_000


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    accept: dict[str, list[Any]] = field(default_factory=dict)
    """Of a gold call: other values of an argument that are right."""
    optional: frozenset[str] = frozenset()
    """Of a gold call: arguments that may be left out."""


def written(calls: Sequence[Call]) -> str:
    """Return calls as the text that a student learns to write."""
    plain = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return plain_json(plain)


def read(text: str) -> list[Call] | None:
    """Return the calls that a text makes, [] where it says that it makes none.

    None where neither can be read: what is no call is not taken for the decision to make none.
    """
    text = text[-_LONGEST:]
    # A text that is calls as a whole may hold anything inside its arguments.
    if (whole := _whole(text)) is not None or MARK not in text:
        return whole if whole is not None else _within(text)
    behind = text.rpartition(MARK)[2]
    found = _whole(behind)
    found = _within(behind) if found is None else found
    return _within(text) if found is None else found


def _whole(text: str) -> list[Call] | None:
    """Return the calls that all of a text is; None if there is more, or it is none."""
    text = text.strip()
    if _NONE.fullmatch(text):
        return []
    value = _decoded(text)
    return _python(text) if value is None else calls_of_or_none(value)


def _within(text: str) -> list[Call] | None:
    """Return the calls that a text has somewhere; None if there are none."""
    if tagged := _TAGGED.findall(text):
        found = [_decoded(one.strip()) for one in tagged]
        calls = [None if one is None else calls_of_or_none(one) for one in found]
        return [call for some in calls for call in some or ()] if all(calls) else None
    fenced = [one[1] for one in _FENCED.finditer(text)]
    tag = _PYTHON_TAG.search(text)
    for part in [*(fenced if len(fenced) == 1 else ()), *([text[tag.end() :]] if tag else ())]:
        if (whole := _whole(part)) is not None:
            return whole
    # An empty list among words does not say that no tool is called.
    return next(filter(None, map(calls_of_or_none, _values(text))), None)


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON lists and objects of a text; what lies within one is passed over.

    Behind one that is cut off there are none: what is whole in it is a part of what was meant.
    """
    place = 0
    for _ in range(_MOST_STARTS):
        start = _OPEN.search(text, place)
        if start is None:
            return
        value, place = _value_at(text, start.start())
        if value is None and _OF_JSON.match(text, start.start()):
            return
        if value is None or _IN_PYTHON.search(text[max(0, start.start() - 20) : start.start()]):
            continue
        # Objects one after the other are several calls.
        values = [value]
        while isinstance(value, dict) and (more := _NEXT.match(text, place)):
            value, place = _value_at(text, more.end())
            if value is None:
                return
            values.append(value)
        yield values if len(values) > 1 else values[0]


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value at a place and where it ends; None where there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def calls_of_or_none(value: Any) -> list[Call] | None:
    """Return the calls that a value is; None where it is none."""
    try:
        return calls_of(value)
    except ValueError:
        return None


def calls_of(value: Any) -> list[Call]:
    """Return the calls of a row or an answer.

    Raises:
        ValueError: they cannot be read; the message says which and why.
    """
    if isinstance(value, str):
        decoded = _decoded(value)
        if decoded is None:
            raise ValueError(f"calls is {shown(value)}, which is no JSON")
        value = decoded
    if isinstance(value, Mapping):
        inner = value.get("tool_calls", value.get("calls"))
        value = inner if isinstance(inner, list) else [value]
    if not isinstance(value, list):
        raise ValueError("calls is no list")
    return [_call_of(one, k) for k, one in enumerate(value, start=1)]


def _call_of(value: Any, number: int) -> Call:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"call {number} has no name")
    named = [key for key in ("arguments", "parameters", "input", "args") if key in value]
    arguments = value[named[0]] if named else {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise ValueError(
                f"the arguments of call {number} are {shown(arguments)}, which is no JSON"
            ) from None
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of call {number} are no object")
    accept, optional = value.get("accept", {}), value.get("optional", [])
    if not isinstance(accept, Mapping) or not all(isinstance(v, list) for v in accept.values()):
        raise ValueError(f'accept of call {number} has to be {{"argument": [values]}}')
    if not isinstance(optional, list):
        raise ValueError(f"optional of call {number} has to be a list of arguments")
    return Call(value["name"], dict(arguments), dict(accept), frozenset(map(str, optional)))


def _python(text: str) -> list[Call] | None:
    """Return the calls of a text such as [weather(city="Rome"), time()]; None where it is none."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    found = []
    for node in nodes:
        if not isinstance(node, ast.Call) or node.args:
            return None
        try:
            arguments = {one.arg: ast.literal_eval(one.value) for one in node.keywords if one.arg}
            # Only what JSON can say.
            arguments = json.loads(json.dumps(arguments))
        except (ValueError, TypeError, RecursionError, MemoryError):
            return None
        found.append(Call(ast.unparse(node.func), arguments))
    return found or None
