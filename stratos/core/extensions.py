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
    decoder: str = ""
    """Function of a model and a `models.decode.decoder.Call` that returns a `FastDecoder`, or None
    for a model that it does not take."""
    speedups: str = ""
    """Class below `distill.speedups.Speedups`: faster ways of a training."""


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


def load(target: str) -> Any:
    """Return what "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
