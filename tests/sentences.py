"""Every reason of a room, made with sample values, as its sentence: for one snapshot."""

from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

from stratos.core.reasons import Because, Reason

SAMPLES: dict[Any, Any] = {
    int: 1234, float: 2.5, bool: True, Path: Path("/some/where"), Reason: Because("the reason"),
}  # fmt: skip


def sentences(words: ModuleType) -> dict[str, str]:
    """Return the sentences of a module of words, by class; of an enum, one for each member."""
    texts = {}
    for name, cls in sorted(vars(words).items()):
        if not (isinstance(cls, type) and issubclass(cls, Reason)):
            continue
        if cls is Reason or cls.__module__ != words.__name__:
            continue
        if issubclass(cls, Enum):
            texts |= {f"{name}.{member.name}": str(member) for member in cls}
            continue
        hints = typing.get_type_hints(cls)
        kinds = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
        values = {field: _sample(kind, field) for field, kind in kinds.items()}
        texts[name] = str(cls(**values))
        for field, kind in kinds.items():
            if isinstance(kind, UnionType):
                texts[f"{name} without {field}"] = str(cls(**{**values, field: None}))
            elif isinstance(kind, type) and issubclass(kind, Enum):
                for member in list(kind)[1:]:
                    texts[f"{name} {member.name}"] = str(cls(**{**values, field: member}))
    return texts


def _sample(kind: Any, name: str) -> Any:
    if isinstance(kind, UnionType):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is tuple:
        inner, *rest = typing.get_args(kind)
        return (_sample(inner, name), _sample(inner, f"another {name}")) if rest else ()
    if kind is str:
        return f"<{name}>"
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        kinds = typing.get_type_hints(kind)
        return kind(**{f.name: _sample(kinds[f.name], f.name) for f in dataclasses.fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    return SAMPLES[kind]
