"""Calls compared as a syntax tree: names, and arguments by their schema, not by their spelling."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.words import UnknownTool, WrongCall
from stratos.core.reasons import Reason
from stratos.tasks.objects import as_key, pairs_all, same
from stratos.tasks.schema.document import resolved

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
    fits = [[same_call(one, other, by_name[one.name]) for other in gold] for one in given]
    if ordered:
        return all(row[place] for place, row in enumerate(fits))
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
            if not any(_is_right(ours[name], one, schema, tool) for one in right):
                return False
        elif name not in gold.optional and not (
            default is not None and any(_is_right(default, one, schema, tool) for one in right)
        ):
            return False
    # Of a gold call that does not match its schema, either, each argument was checked alone.
    problem = tool.problem(_as_gold(ours, theirs, gold))
    return problem is None or tool.problem(theirs) is not None


def _as_gold(ours: Mapping[str, Any], theirs: Mapping[str, Any], gold: Call) -> dict[str, Any]:
    """Return arguments with those of the gold call in place of what it accepts as it is written."""
    accepted = {
        name for name, value in ours.items()
        if any(_is_identical(value, one) for one in gold.accept.get(name, ()))
    }  # fmt: skip
    return {
        name: theirs[name] if name in accepted else value
        for name, value in ours.items()
        if name not in accepted or name in theirs
    }


def _is_right(given: Any, wanted: Any, schema: Any, tool: Tool) -> bool:
    """Return whether a value is right: it is the wanted one, or is equal and matches the schema."""
    if _is_identical(given, wanted):
        return True
    return _same(given, wanted, schema, tool) and tool.takes(schema, given)


def _is_identical(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _same(given: Any, wanted: Any, schema: Any, tool: Tool) -> bool:
    """Return whether two values are equal by their schema."""
    schema = resolved(tool.parameters, schema)
    named: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    if isinstance(given, list) and isinstance(wanted, list):
        if named.get("uniqueItems"):
            return {*map(as_key, given)} == {*map(as_key, wanted)}
        inner = named.get("items", True)
        pairs = zip(given, wanted, strict=False)
        return len(given) == len(wanted) and all(_same(a, b, inner, tool) for a, b in pairs)
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        for name in given.keys() | wanted.keys():
            inner = named.get("properties", {}).get(name, True)
            default = _default(tool, inner)
            if (name not in given or name not in wanted) and default is None:
                return False
            if not _same(given.get(name, default), wanted.get(name, default), inner, tool):
                return False
        return True
    if isinstance(given, str) and isinstance(wanted, str):
        return same(_without_signs(given), _without_signs(wanted))
    return same(given, wanted)


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


def _f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _arguments(calls: Sequence[Call]) -> Counter[str]:
    return Counter(
        f"{name} {as_key(value)}" for call in calls for name, value in call.arguments.items()
    )
