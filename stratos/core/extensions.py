"""What the rooms of `stratos/contrib` add to the core, which imports none of them.

A room that adds more than classes for `_target_` has a module `extension.py` with an `EXTENSION`.
It names what it adds as "module:name", which is imported when it is used. A room whose folder is
deleted adds nothing, and nothing else changes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
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
    config: Mapping[str, str] = field(default_factory=dict)
    """Config group to its class, a subclass of `stratos.config.RoomConfig`."""
    stages: str = ""
    """Tuple of `stratos.run.resume.Stage` that a run makes after `deploy`, in this order."""
    front: str = ""
    """Subclass of `stratos.deploy.fronts.ServerFront`: what stands before a hosted student."""


@functools.cache
def extensions() -> tuple[Extension, ...]:
    """Return the extensions of all rooms that are there, in the order of the rooms' names."""
    names = sorted(info.name for info in pkgutil.iter_modules(contrib.__path__) if info.ispkg)
    modules = (f"{contrib.__name__}.{name}.extension" for name in names)
    return tuple(
        importlib.import_module(module).EXTENSION
        for module in modules
        if importlib.util.find_spec(module) is not None
    )


def rooms_folder() -> Path:
    """Return the folder that holds the rooms."""
    return Path(contrib.__path__[0])


@functools.cache
def room_configs() -> Mapping[str, type[Any]]:
    """Return the class of each config group that a room adds."""
    return {group: load(target) for room in extensions() for group, target in room.config.items()}


def load(target: str) -> Any:
    """Return what "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
