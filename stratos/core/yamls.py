"""Limits for the user's YAML files, checked before they are loaded."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from stratos.core.errors import ConfigError
from stratos.core.foreign import why_unreadable
from stratos.core.printable import shown
from stratos.core.reasons import Reason
from stratos.core.remote import local_path
from stratos.core.words import LargeSettings, ManyValues, NoSearchPath

_LARGEST = 2**20
"""Bytes of a file of settings."""
_MOST_NODES = 100_000
"""Nodes of one, with its aliases written out."""


def check_places(args: argparse.Namespace) -> None:
    """Check the folders of configs that a command line names.

    Raises:
        ConfigError: one is not there, or holds what must not be loaded.
    """
    problems = []
    for name, folder in (("--config-dir", args.config_dir), ("--config-path", args.config_path)):
        if folder is not None and not os.path.isdir(folder):
            problems.append(f"{name} {shown(folder)}: there is no such folder.")
        elif folder is not None:
            problems += dangerous_files(Path(folder))
    if problems:
        raise ConfigError("\n".join(problems))


def dangerous_files(folder: Path) -> Iterator[str]:
    """Yield a problem for each YAML below a folder that must not be loaded.

    A pipe or a device never ends; a few lines of aliases become billions of values (a YAML bomb).
    What is wrong with the others is said where one of them is chosen.
    """
    for path in sorted(folder.rglob("*.yaml")):
        reason = why_unreadable(path, or_folder=True)
        if reason is None and path.is_file():
            reason = _why_too_large(path)
        if reason is not None:
            yield f"{path}: {reason}."


def why_no_searchpath(url: str) -> NoSearchPath | None:
    """Return why an entry of `hydra.searchpath` leads nowhere; None if it does not."""
    scheme, found, place = url.partition("://")
    if found and scheme == "pkg":
        try:
            is_there = importlib.util.find_spec(place.replace("/", ".")) is not None
        except (ImportError, ValueError):
            is_there = False
        return None if is_there else NoSearchPath.PACKAGE
    if found and scheme not in ("file", "structured"):
        return NoSearchPath.SCHEME
    return None if os.path.isdir(local_path(url)) else NoSearchPath.FOLDER


def _why_too_large(path: Path) -> Reason | None:
    data = path.read_bytes()
    if len(data) > _LARGEST:
        return LargeSettings(_LARGEST // 2**20)
    if b"*" not in data or b"&" not in data:
        return None
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return None  # said where it is chosen
    n_nodes = _written_out(root, {}) if root is not None else 0
    return ManyValues(_MOST_NODES) if n_nodes > _MOST_NODES else None


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values of a node, each alias counted; none is written out for it."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES + 1  # until it is known: an alias within itself has no end
        below = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
            if isinstance(node, yaml.SequenceNode)
            else []
        )
        known[id(node)] = 1 + sum(_written_out(part, known) for part in below)
    return known[id(node)]
