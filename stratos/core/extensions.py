"""What the rooms of `stratos/contrib` add to the core, which imports none of them.

A room that adds more than classes for `_target_` has a module `extension.py` with an `EXTENSION`.
It names what it adds as "module:name", which is imported when it is used. A room whose folder is
deleted adds nothing, and nothing else changes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos import contrib


@dataclass(frozen=True)
class Command:
    """A verb of the command line."""

    summary: str
    """What it does, in a few words, for `stratos --help`."""
    module: str
    """Module that runs it."""


@dataclass(frozen=True)
class Extension:
    """What one room adds; targets are written as "module:name"."""

    commands: Mapping[str, Command] = field(default_factory=dict)
    """Verb to the command."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Value of `task.metric` to the class of a verifier that runs answers on `task.database`: it
    is a dataclass with that field (see `stratos.tasks.metrics`)."""
    variants: str = ""
    """Function of `verify` and the held-out items of a task, which returns what draws variants of
    its training rows (see `stratos.tasks.math`); "" for none."""


@functools.cache
def extensions() -> tuple[Extension, ...]:
    """Return the extensions of all rooms that are there, in the order of the rooms' names."""
    rooms = sorted(room for folder in contrib.__path__ for room in Path(folder).iterdir())
    return tuple(
        importlib.import_module(f"{contrib.__name__}.{room.name}.extension").EXTENSION
        for room in rooms
        if (room / "extension.py").is_file()  # a room without one is not imported
    )


def load(target: str) -> Any:
    """Return what "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
