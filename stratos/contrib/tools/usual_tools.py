"""The tools of traces in which many calls may be wrong: what is usual alone is taken in.

A name that is called in any step alike is of another service or a slip, unless what it is called
with was said; a rare name whose calls are like those of a frequent one is another name of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stratos.contrib.logs.conversation import Turn
from stratos.contrib.logs.inferred import Values, infer_tools
from stratos.contrib.tools.signatures import tools_of
from stratos.contrib.tools.trace_checks import TraceChecks, name_likeness
from stratos.contrib.tools.trace_steps import arguments_of

_FEWEST = 5
"""Calls of a tool, or of an argument."""
_LEAST_LIFT, _LEAST_PEAK = 0.75, 0.2
"""How much likelier a tool is where it is called than anywhere (0.5 is as likely), or how likely
it is where it is likeliest: one of both is enough."""
_ALIKE, _APART, _SHARED_VALUES = 0.5, 0.9, 0.15
"""From when on a name is another one of a tool: likeness, how seldom one trace has both, and how
probably the values of each usual argument are of the tool, too."""
_SAID = 0.8
"""Share of the values of a rare tool that are said before."""
_OF_BEST, _RARE = 0.2, 0.02
"""Share of the calls with an argument, of that in the tool that has it most, and of all."""
_REQUIRED, _OF_ONE_TYPE = 0.8, 0.8


def usual_tools(conversations: Sequence[Sequence[Turn]]) -> list[dict[str, Any]]:
    """Return the tools that conversations usually call, in the form of the OpenAI API.

    Args:
        conversations: turns of each; up to half of their calls may be wrong.
    """
    return checked_usual(conversations)[0]


def checked_usual(
    conversations: Sequence[Sequence[Turn]],
) -> tuple[list[dict[str, Any]], TraceChecks]:
    """Return the tools as `usual_tools` does, and the checks of the conversations by them."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for trace in conversations:
        for turn in trace:
            for call in turn.calls:
                calls.setdefault(call.name, []).append(arguments_of(call.arguments))
    counts = {name: Counter(key for some in calls[name] for key in some) for name in calls}
    frequent = sorted((name for name in calls if len(calls[name]) >= _FEWEST),
                      key=lambda name: -len(calls[name]))  # fmt: skip
    checks = TraceChecks(conversations, tools_of([
        _tool(name, {key: {} for key in counts[name]}, ()) for name in calls
    ]))  # fmt: skip
    usual: list[str] = []
    for name in frequent:
        if not _is_regular(checks, name) and name not in checks.speech:
            continue
        if not any(_is_other_name(checks, name, candidate) for candidate in usual):
            usual.append(name)
    shares = {
        name: {key: n / len(calls[name]) for key, n in counts[name].items()} for name in usual
    }
    most = {key: max(of.get(key, 0.0) for of in shares.values())
            for key in {key for of in shares.values() for key in of}}  # fmt: skip
    tools = []
    for name in usual:
        some = calls[name]
        keys = [key for key, share in shares[name].items()
                if share >= max(_RARE, _OF_BEST * most[key])
                and counts[name][key] >= min(_FEWEST, len(some))
                and not _has_other_name(checks, name, key, counts[name], some)]  # fmt: skip
        properties = {key: _schema([given[key] for given in some if key in given]) for key in keys}
        required = [key for key in keys if shares[name][key] >= _REQUIRED]
        tools.append(_tool(name, properties, required))
    tools.sort(key=_name)
    checks = TraceChecks(conversations, tools_of(tools), checks)
    rare = _rare_tools(conversations, checks)
    if rare:
        tools = sorted([*tools, *rare], key=_name)
        checks = TraceChecks(conversations, tools_of(tools), checks)
    return tools, checks


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool["function"]["name"])


def _is_regular(checks: TraceChecks, name: str) -> bool:
    """Return whether a tool, or the one that is mostly called before it in a turn, has its steps.

    A step's action is its first call: a tool that is always called beside another has no action.
    """
    firsts = Counter(checks.steps[k].action for k, _ in checks.calls[name])
    [(action, _)] = firsts.most_common(1)
    numbers = [k for k, _ in checks.calls[name] if checks.steps[k].action == action]
    return (
        checks.actions.lift(numbers, action) >= _LEAST_LIFT
        or checks.actions.peak(numbers, action) >= _LEAST_PEAK
    )


def _rare_tools(
    conversations: Sequence[Sequence[Turn]], checks: TraceChecks
) -> list[dict[str, Any]]:
    """Return the tools of names that are neither usual nor, by the checks, other names of these.

    The values of their calls are said before them, unlike those of a call that strayed in.
    """
    is_said: dict[str, list[bool]] = {}
    for argument in checks.arguments:
        if argument.tool not in checks.tools:
            is_said.setdefault(argument.tool, []).append(bool(argument.source))
    some = {
        name
        for name, marks in is_said.items()
        if len({checks.steps[k].conversation for k, _ in checks.calls[name]}) > 1
        and sum(marks) >= _SAID * len(marks)
    }
    return infer_tools(
        [replace(turn, calls=tuple(call for call in turn.calls if call.name in some))
         for turn in trace]
        for trace in conversations
    )  # fmt: skip


def _is_other_name(checks: TraceChecks, name: str, candidate: str) -> bool:
    """Return whether a name is another one of a tool that is called more often."""
    if (name in checks.speech) != (candidate in checks.speech):
        return False
    if checks.apart(name, candidate) < _APART:
        return False
    if name in checks.speech:
        return True
    if checks.likeness(name, candidate) < _ALIKE:
        return False
    steps = [k for k, _ in checks.calls[name]]
    if name_likeness(name, candidate) < _ALIKE and checks.actions.lift(steps, candidate) <= 0.5:
        return False  # two tools whose arguments are alike, in other steps
    # Arguments of swapped calls are rare, and no reason to take two tools for one.
    usual, known = (
        [key for key in checks.tools[tool].properties
         if sum(key in given for _, given in checks.calls[tool]) >= share * len(checks.calls[tool])]
        for tool, share in ((name, 0.5), (candidate, 0.1))
    )  # fmt: skip
    return all(
        max((checks.values.share(name, key, argument) for argument in known), default=0.0)
        >= _SHARED_VALUES
        for key in usual
    )


def _has_other_name(
    checks: TraceChecks, tool: str, key: str, counts: Mapping[str, int],
    calls: Sequence[Mapping[str, Any]],
) -> bool:  # fmt: skip
    """Return whether an argument has the values of one that is there more often, in its stead."""
    if tool in checks.speech:
        return counts[key] < max(counts.values())
    return any(
        counts[candidate] > 2 * counts[key]
        and checks.values.share(tool, key, candidate) >= _SHARED_VALUES
        and sum(key in given and candidate in given for given in calls) <= _RARE * counts[key]
        for candidate in counts
    )


def _tool(name: str, properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {**properties}, "required": [*required]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _schema(values: Sequence[Any]) -> dict[str, Any]:
    """Return what all values are, or the type of nearly all; none where there is no such type."""
    some = Values()
    for value in values:
        some.add(value)
    [(kind, n)] = some.types.most_common(1)
    if n == len(values):
        return some.schema()
    return {"type": kind} if n >= _OF_ONE_TYPE * len(values) else {}
