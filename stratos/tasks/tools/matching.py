"""Calls compared as a syntax tree: names, and arguments by their schema, not by their spelling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stratos.tasks.objects import as_key, same
from stratos.tasks.rows import shown
from stratos.tasks.schema.document import resolved
from stratos.tasks.tools.calls import Call
from stratos.tasks.tools.signatures import Tool

_PAUSE = re.compile(r"(?<![.,;:!?])[.,;:!?]++(?=\s|$)")
"""Signs of a sentence, which do not count in a text: they stand before a space, or at the end."""


def why_invalid(calls: Sequence[Call], tools: Sequence[Tool]) -> str | None:
    """Return what is wrong with the first wrong call by the tools' schemas; None if nothing."""
    by_name = {tool.name: tool for tool in tools}
    for number, call in enumerate(calls, start=1):
        tool = by_name.get(call.name)
        if tool is None:
            known = ", ".join(by_name) or "none"
            named = shown(call.name)
            return f"call {number} is of {named}, which is no tool of the row; it has {known}"
        if (problem := tool.problem(call.arguments)) is not None:
            return f"call {number} of {call.name}: {problem}"
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
    return _pairs_all(fits)


def _pairs_all(fits: Sequence[Sequence[bool]]) -> bool:
    """Return whether each row can have a column of its own (Kuhn's augmenting paths)."""
    row_of: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def same_call(given: Call, gold: Call, tool: Tool) -> bool:
    """Return whether a call does what a gold call does.

    An argument that is left out, or is null where that is no value, has the default of its schema.
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
            if not any(is_same(ours[name], one, schema, tool) for one in right):
                return False
        elif name not in gold.optional and not (
            default is not None and any(is_same(default, one, schema, tool) for one in right)
        ):
            return False
    return True


def is_same(given: Any, wanted: Any, schema: Any, tool: Tool) -> bool:
    """Return whether a value is right: it is the wanted one, or is equal and matches the schema."""
    if type(given) is type(wanted) and given == wanted:
        return True
    return _same(given, wanted, schema, tool) and tool.takes(schema, given)


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
        return same(_PAUSE.sub("", given), _PAUSE.sub("", wanted))
    return same(given, wanted)


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
