"""Convert plain values to the field types of a dataclass, with one message per mistake."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, Union, cast

import msgspec

from stratos.core import aliases
from stratos.core.errors import did_you_mean
from stratos.core.reasons import Reason
from stratos.core.targets import find_class


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Of a text: it is a key of a table, as that is when a value is read."""

    table: Mapping[str, Any]

    def __hash__(self) -> int:
        """Tell tables apart: two `Annotated` types are compared by it."""
        return id(self.table)


def read_dataclass(node: Any, cls: type, where: str, problems: list[str]) -> Any:
    """Make an instance of a dataclass, or report every key that does not fit and return None."""
    if not isinstance(node, Mapping):
        problems.append(f"{where}={show(node)}: expected a mapping of keys to values.")
        return None
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in node.items():
        if key not in fields:
            near = aliases.hint(where, str(key), show(value), fields)
            near = near or did_you_mean(str(key), fields) or f" Known: {', '.join(fields)}."
            problems.append(f"{where}.{key}: there is no such key.{near}")
        elif value is None and fields[key].default == "":
            continue  # a text that may be left out stands in a YAML as null
        else:
            values[key] = read_value(value, hints[key], f"{where}.{key}", problems)
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        said = any(problem.startswith(f"{where}.{name} ") for problem in problems)
        if required and name not in node and not said:
            problems.append(f"{where}.{name} is required: give it with {where}.{name}=…")
    if len(problems) > before or any(p.startswith(f"{where}.") for p in problems):
        return None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        # Some name the key themselves.
        text = str(error)
        problems.append(text if text.startswith(f"{where}.") else f"{where}: {text}")
        return None


def read_value(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """Convert one value to the type of its field."""
    args = typing.get_args(kind)
    bases = tuple(one for one in (kind, *args) if isinstance(one, type) and is_dataclass(one))
    if isinstance(value, Mapping) and "_target_" in value and bases:
        wanted = f"expected a class that is {' or '.join(base.__name__ for base in bases)}."
        return read_target(
            value, where, problems, lambda cls: None if issubclass(cls, bases) else wanted
        )
    if typing.get_origin(kind) is tuple and args[-1:] == (Ellipsis,):
        if isinstance(value, list | tuple):
            return tuple(
                read_value(item, args[0], f"{where}[{index}]", problems)
                for index, item in enumerate(value)
            )
        if isinstance(value, str):  # one where several may stand
            return (read_value(value, args[0], where, problems),)
    if typing.get_origin(kind) is dict and value is None:
        return {}  # a mapping that can be set whole stands in a YAML as null
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        return {
            read_value(key, args[0], f"{where} has a key", problems): read_value(
                item, args[1], f"{where}.{key}", problems
            )
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_dataclass(value, kind, where, problems)
    is_union = typing.get_origin(kind) in (Union, types.UnionType)
    if is_union and isinstance(value, Mapping) and len(bases) == 1:  # or null
        return read_dataclass(value, bases[0], where, problems)
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{where}={value}: expected {in_words(kind)}, and a finite one.")
        return None
    if typing.get_origin(kind) is typing.Annotated:
        tables = [one.table for one in kind.__metadata__ if isinstance(one, OneOf)]
        if not all(isinstance(value, str) and value in table for table in tables):
            problems.append(f"{where}={show(value)}: expected {in_words(kind)}.")
            return None
    # Hydra reads 2e7 as a float; where a whole number is wanted, it is one.
    whole = isinstance(value, float) and value.is_integer()
    for form in (value, int(value)) if whole else (value,):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(form, kind)
    problems.append(f"{where}={show(value)}: expected {in_words(kind)}.")
    return None


def read_target(
    node: Mapping[str, Any],
    where: str,
    problems: list[str],
    why_not: Callable[[type], object],
) -> Any:
    """Make an instance of the class that `_target_` names.

    Args:
        node: the name and the settings.
        where: the node is, as it is typed.
        problems: takes what is wrong.
        why_not: returns why a class may not stand here; None if it may.
    """
    target = node["_target_"]
    found = find_class(target)
    reason = found if isinstance(found, Reason) else why_not(found)
    if reason is not None:
        problems.append(f"{where}._target_={target}: {reason}")
        return None
    settings = {key: value for key, value in node.items() if key != "_target_"}
    return read_dataclass(settings, cast(type, found), where, problems)


def in_words(kind: Any) -> str:
    """Return a type in the user's words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        for one in kind.__metadata__:
            if isinstance(one, OneOf):
                return f"one of {', '.join(one.table)}"
        metas = [one for one in args[1:] if isinstance(one, msgspec.Meta)]
        named = next((meta.description for meta in metas if meta.description), None)
        return (named or in_words(args[0])) + "".join(map(_say_bounds, metas))
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(str(arg) for arg in args)
    if dataclasses.is_dataclass(kind):
        return "a mapping of keys to values"
    words = {
        float: "a number",
        int: "a whole number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        tuple: "a list",
        list: "a list",
        dict: "a mapping",
    }
    return words.get(origin or kind, getattr(kind, "__name__", str(kind)))


def _say_bounds(bound: msgspec.Meta) -> str:
    if bound.ge is not None:
        if bound.le is not None:
            return f" from {bound.ge} to {bound.le}"
        if bound.lt is not None:
            return f" from {bound.ge} to below {bound.lt}"
        return f" of at least {bound.ge}"
    ends = (("above", bound.gt), ("below", bound.lt), ("up to", bound.le))
    said = " and ".join(f"{word} {end}" for word, end in ends if end is not None)
    return f" {said}" if said else ""


def show(value: Any) -> str:
    """Return a value as the user would type it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
