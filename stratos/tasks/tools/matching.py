"""Calls compared as a syntax tree: names, and arguments by their schema, not by their spelling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stratos.tasks.objects import as_key, same
from stratos.tasks.schema.document import resolved
from stratos.tasks.tools.calls import Call
from stratos.tasks.tools.signatures import Tool


def why_invalid(calls: Sequence[Call], tools: Sequence[Tool]) -> str | None:
    """Return what is wrong with the first wrong call by the tools' schemas; None if nothing."""
    by_name = {tool.name: tool for tool in tools}
    for number, call in enumerate(calls, start=1):
        tool = by_name.get(call.name)
        if tool is None:
            known = ", ".join(by_name) or "none"
            return f"call {number} is of {call.name}, which is no tool of the row; it has {known}"
        if (problem := tool.problem(call.arguments)) is not None:
            return f"call {number} of {call.name}: {problem}"
    return None


def is_right(
    given: Sequence[Call], gold: Sequence[Call], tools: Sequence[Tool], *, ordered: bool
) -> bool:
    """Return whether calls are valid, and are the gold calls one by one, in any order.

    Args:
        given: what a model calls.
        gold: what it should call.
        tools: that it may call.
        ordered: whether the order counts.
    """
    if len(given) != len(gold) or why_invalid(given, tools) is not None:
        return False
    by_name = {tool.name: tool for tool in tools}
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
    """Return whether a valid call does what a gold call does.

    An argument that is left out has the default of its schema.
    """
    if given.name != gold.name:
        return False
    for name in given.arguments.keys() | gold.arguments.keys():
        schema = resolved(tool.parameters, tool.properties.get(name, True))
        default = schema.get("default") if isinstance(schema, Mapping) else None
        right = list(gold.accept.get(name, ()))
        if name in gold.arguments:
            right.append(gold.arguments[name])
        elif default is not None:
            right.append(default)
        if name in given.arguments:
            if not any(_same(given.arguments[name], one, schema, tool) for one in right):
                return False
        elif name not in gold.optional and not (
            default is not None and any(_same(default, one, schema, tool) for one in right)
        ):
            return False
    return True


def _same(given: Any, wanted: Any, schema: Any, tool: Tool) -> bool:
    """Return whether two values are equal by their schema."""
    schema = resolved(tool.parameters, schema)
    if not isinstance(schema, Mapping):
        return same(given, wanted)
    if isinstance(given, list) and isinstance(wanted, list):
        if schema.get("uniqueItems"):
            return {*map(as_key, given)} == {*map(as_key, wanted)}
        inner = schema.get("items", True)
        pairs = zip(given, wanted, strict=False)
        return len(given) == len(wanted) and all(_same(a, b, inner, tool) for a, b in pairs)
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        properties = schema.get("properties", {})
        for name in given.keys() | wanted.keys():
            inner = resolved(tool.parameters, properties.get(name, True))
            default = inner.get("default") if isinstance(inner, Mapping) else None
            if name not in given and name not in wanted:
                continue
            a, b = given.get(name, default), wanted.get(name, default)
            if (name not in given or name not in wanted) and default is None:
                return False
            if not _same(a, b, inner, tool):
                return False
        return True
    return same(given, wanted)


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
