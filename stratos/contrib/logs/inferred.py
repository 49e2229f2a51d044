"""Tools that nobody wrote down, inferred from the calls of them.

Each argument is described by a JSON Schema: its types, whether every call has it, and the values of
an argument that has few. What an argument is for can only be added by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.contrib.logs.conversation import Turn
from stratos.core.redact import redact_shapes, shown

_MOST_VALUES = 12
"""Different texts of an argument above which they are no enumeration."""
_TIMES_A_VALUE = 10
"""Times that each text of an enumeration is there, at least."""
_LONGEST_VALUE = 60
"""Characters of a text of an enumeration."""
_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "boolean"),  # before int, which it is one of
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def infer_tools(traces: Iterable[Sequence[Turn]]) -> list[dict[str, Any]]:
    """Return the tools that conversations call, as the OpenAI API has them, sorted by name.

    Args:
        traces: turns of each conversation.
    """
    tools: dict[str, Values] = {}
    for turns in traces:
        for turn in turns:
            for call in turn.calls:
                arguments = json.loads(call.arguments)
                if isinstance(arguments, dict):  # told where the row is read
                    tools.setdefault(call.name, Values()).add(arguments)
    return [
        {"type": "function", "function": {"name": name, "parameters": values.schema()}}
        for name, values in sorted(tools.items())
    ]


def signature(tool: Mapping[str, Any]) -> str:
    """Return a tool as one line: its name, and its arguments, `?` behind those not in all calls."""
    function = tool["function"]
    schema = function["parameters"]
    required = schema.get("required", ())
    names = [
        f"{name}{'' if name in required else '?'}: {'|'.join(_words_of(argument))}"
        for name, argument in schema.get("properties", {}).items()
    ]
    return f"{function['name']}({', '.join(names)})"


def _words_of(argument: Mapping[str, Any]) -> list[str]:
    """Return the values of an enumeration, or the types of an argument."""
    words = argument.get("enum", argument.get("type", "any"))
    return [words] if isinstance(words, str) else [shown(str(word), 40) for word in words]


@dataclass
class Values:
    """What the values of one argument are, or of all arguments of a tool together."""

    types: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    """How often each text is there; of more than an enumeration has, some."""
    fields: dict[str, Values] = field(default_factory=dict)
    """Of objects."""
    items: Values | None = None
    """Of arrays."""

    def add(self, value: Any) -> None:
        """Take a value in, as JSON has it."""
        kind = next((name for types, name in _TYPES if isinstance(value, types)), "null")
        self.types[kind] += 1
        if isinstance(value, str) and len(self.texts) <= _MOST_VALUES:
            self.texts[redact_shapes(value)[0]] += 1
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                self.fields.setdefault(name, Values()).add(inner)
        elif isinstance(value, list):
            self.items = self.items or Values()
            for inner in value:
                self.items.add(inner)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema that all values match."""
        kinds = set(self.types)
        if "number" in kinds:
            kinds.discard("integer")
        schema: dict[str, Any] = {"type": sorted(kinds) if len(kinds) > 1 else next(iter(kinds))}
        if kinds == {"string"} and self._are_few:
            schema["enum"] = sorted(self.texts)
        if "object" in kinds:
            n = self.types["object"]
            schema["properties"] = {name: some.schema() for name, some in self.fields.items()}
            in_all = [name for name, some in self.fields.items() if some.types.total() == n]
            if in_all:
                schema["required"] = in_all
        if self.items is not None and self.items.types:
            schema["items"] = self.items.schema()
        return schema

    @property
    def _are_few(self) -> bool:
        """Whether the texts are an enumeration: few, short, and each there several times."""
        return (
            1 < len(self.texts) <= _MOST_VALUES
            and min(self.texts.values()) >= _TIMES_A_VALUE
            and max(map(len, self.texts)) <= _LONGEST_VALUE
        )
