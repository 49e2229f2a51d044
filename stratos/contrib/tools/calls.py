"""Calls as models write them: JSON, tagged JSON, what an API returns, or a call in Python."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.contrib.tools.signatures import Tool, json_of
from stratos.contrib.tools.words import UnknownTool, WrongCall
from stratos.core.reasons import Reason
from stratos.tasks.chat import MARK
from stratos.tasks.objects import as_key, pairs_all, plain_json, same
from stratos.tasks.schema.document import resolved
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
    calls = _whole(behind)
    calls = _within(behind) if calls is None else calls
    return _within(text) if calls is None else calls


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
        values = [_decoded(value.strip()) for value in tagged]
        calls = [None if value is None else calls_of_or_none(value) for value in values]
        return [call for some in calls for call in some or ()] if all(calls) else None
    fenced = [value[1] for value in _FENCED.finditer(text)]
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
    position = 0
    for _ in range(_MOST_STARTS):
        start = _OPEN.search(text, position)
        if start is None:
            return
        value, position = _value_at(text, start.start())
        if value is None and _OF_JSON.match(text, start.start()):
            return
        if value is None or _IN_PYTHON.search(text[max(0, start.start() - 20) : start.start()]):
            continue
        # Objects one after the other are several calls.
        values = [value]
        while isinstance(value, dict) and (more := _NEXT.match(text, position)):
            value, position = _value_at(text, more.end())
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
    return [_call_of(item, k) for k, item in enumerate(value, start=1)]


def _call_of(value: Any, number: int) -> Call:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"call {number} has no name")
    named = [key for key in ("arguments", "parameters", "input", "args") if key in value]
    arguments = value[named[0]] if named else {}
    if isinstance(arguments, str):
        arguments = json_of(arguments or "{}", f"the arguments of call {number} are")
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
    calls = []
    for node in nodes:
        if not isinstance(node, ast.Call) or node.args:
            return None
        try:
            arguments = {
                keyword.arg: ast.literal_eval(keyword.value)
                for keyword in node.keywords
                if keyword.arg
            }
            # Only what JSON can say.
            arguments = json.loads(json.dumps(arguments))
        except (ValueError, TypeError, RecursionError, MemoryError):
            return None
        calls.append(Call(ast.unparse(node.func), arguments))
    return calls or None


_PAUSE = re.compile(r"(?<=\w)[.,;:!?]++(?=\s)")
"""Signs of a sentence between its words: right behind one, before a space."""
_SIGNS = ".,;:!?"
"""Signs of a sentence, which do not count at the end of a text of several words."""


def why_invalid(calls: Sequence[Call], tools: Sequence[Tool]) -> Reason | None:
    """Return what is wrong with the first wrong call by the tools' schemas; None if nothing."""
    by_name = {tool.name: tool for tool in tools}
    for number, call in enumerate(calls, start=1):
        tool = by_name.get(call.name)
        if tool is None:
            return UnknownTool(number, call.name, tuple(by_name))
        if (problem := tool.problem(call.arguments)) is not None:
            return WrongCall(number, call.name, problem)
    return None


def is_right(
    given: Sequence[Call], gold: Sequence[Call], tools: Sequence[Tool], *, ordered: bool
) -> bool:
    """Return whether calls are the gold calls one by one, in any order.

    Args:
        given: what a model calls.
        gold: what it should call.
        tools: that it may call.
        ordered: whether the order counts.
    """
    by_name = {tool.name: tool for tool in tools}
    if len(given) != len(gold) or any(call.name not in by_name for call in given):
        return False
    fits = [[same_call(call, right, by_name[call.name]) for right in gold] for call in given]
    if ordered:
        return all(row[number] for number, row in enumerate(fits))
    return pairs_all(fits)


def same_call(given: Call, gold: Call, tool: Tool) -> bool:
    """Return whether a call does what a gold call does.

    It matches the schema of the tool as a whole, apart from a value that the gold call accepts. An
    argument that is left out, or is null where that is no value, has the default of its schema.
    """
    if given.name != gold.name:
        return False
    ours, theirs = tool.without_nulls(given.arguments), tool.without_nulls(gold.arguments)
    if any(name not in ours for name in tool.required) or not all(map(tool.has, ours)):
        return False
    for name in ours.keys() | theirs.keys():
        schema = tool.properties.get(name, True)
        default = _default(tool, schema)
        right = [*gold.accept.get(name, ()), *([theirs[name]] if name in theirs else [])]
        if name not in theirs and default is not None:
            right.append(default)
        if name in ours:
            if not any(_is_right(ours[name], value, schema, tool) for value in right):
                return False
        elif name not in gold.optional and not (
            default is not None and any(_is_right(default, value, schema, tool) for value in right)
        ):
            return False
    # Of a gold call that does not match its schema, either, each argument was checked alone.
    problem = tool.problem(_as_gold(ours, theirs, gold))
    return problem is None or tool.problem(theirs) is not None


def _as_gold(ours: Mapping[str, Any], theirs: Mapping[str, Any], gold: Call) -> dict[str, Any]:
    """Return arguments with those of the gold call in place of what it accepts as it is written."""
    accepted = {
        name for name, value in ours.items()
        if any(_is_identical(value, accept) for accept in gold.accept.get(name, ()))
    }  # fmt: skip
    return {
        name: theirs[name] if name in accepted else value
        for name, value in ours.items()
        if name not in accepted or name in theirs
    }


def _is_right(given: Any, gold: Any, schema: Any, tool: Tool) -> bool:
    """Return whether a value is right: it is the wanted one, or is equal and matches the schema."""
    if _is_identical(given, gold):
        return True
    return _same(given, gold, schema, tool) and tool.takes(schema, given)


def _is_identical(given: Any, gold: Any) -> bool:
    return json.dumps(given, sort_keys=True) == json.dumps(gold, sort_keys=True)


def _same(given: Any, gold: Any, schema: Any, tool: Tool) -> bool:
    """Return whether two values are equal by their schema."""
    schema = resolved(tool.parameters, schema)
    named: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    if isinstance(given, list) and isinstance(gold, list):
        if named.get("uniqueItems"):
            return {*map(as_key, given)} == {*map(as_key, gold)}
        inner = named.get("items", True)
        pairs = zip(given, gold, strict=False)
        return len(given) == len(gold) and all(_same(a, b, inner, tool) for a, b in pairs)
    if isinstance(given, Mapping) and isinstance(gold, Mapping):
        for name in given.keys() | gold.keys():
            inner = named.get("properties", {}).get(name, True)
            default = _default(tool, inner)
            if (name not in given or name not in gold) and default is None:
                return False
            if not _same(given.get(name, default), gold.get(name, default), inner, tool):
                return False
        return True
    if isinstance(given, str) and isinstance(gold, str):
        return same(_without_signs(given), _without_signs(gold))
    return same(given, gold)


def _without_signs(text: str) -> str:
    """Return a text without the signs behind its words, of one word with them."""
    ended = text.rstrip().rstrip(_SIGNS)
    is_sentence = len(text.split()) > 1 and ended[-1:].isalnum()
    return _PAUSE.sub("", ended if is_sentence else text)


def _default(tool: Tool, schema: Any) -> Any:
    schema = resolved(tool.parameters, schema)
    return schema.get("default") if isinstance(schema, Mapping) else None


def overlap(given: Sequence[Call], gold: Sequence[Call]) -> float:
    """Return F1 over the names of the calls and their arguments."""
    names = Counter(call.name for call in given), Counter(call.name for call in gold)
    return _f1(names[0] + _arguments(given), names[1] + _arguments(gold))


def overlap_of_arguments(given: Sequence[Call], gold: Sequence[Call]) -> float:
    """Return F1 over the arguments of calls, whatever the tools are called."""
    return _f1(_arguments(given), _arguments(gold))


def _f1(given: Counter[str], gold: Counter[str]) -> float:
    total = given.total() + gold.total()
    return 2 * (given & gold).total() / total if total else 1.0


def _arguments(calls: Sequence[Call]) -> Counter[str]:
    return Counter(
        f"{name} {as_key(value)}" for call in calls for name, value in call.arguments.items()
    )
