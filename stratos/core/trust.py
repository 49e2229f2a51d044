"""What of a user's config may be loaded: only trusted classes, and YAML files within limits.

Config is code. Whatever makes an object of a node makes objects of the nodes below it too, and
Hydra and Python's logging make some of their own. So every name of a class, at any depth of the
whole config, is checked before anything else happens.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stratos.core.errors import ConfigError
from stratos.core.foreign import why_unreadable
from stratos.core.formats import shown
from stratos.core.reasons import Because, Reason
from stratos.core.remote import local_path

ALLOW_TARGETS = "STRATOS_ALLOW_TARGETS"
"""Environment variable: further prefixes of `_target_`, separated by commas."""

OURS = ("stratos.",)
LIGHTNING = ("lightning.pytorch.strategies.",)
"""What `trainer.strategy` may name; Lightning is not imported to check it."""
HYDRA = ("hydra.", "hydra_plugins.", "optuna.", "logging.", "colorlog.", *OURS)
"""What Hydra's own part of the config may name: callbacks, launchers, log handlers."""

_CLASS_KEYS = ("_target_",)
_LOGGING_KEYS = ("_target_", "()", "class")
"""Keys of `hydra.job_logging` whose values Python's logging imports and calls."""
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\.?")
_LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def find_class(target: Any) -> type | Reason:
    """Return the dataclass of a `_target_`, or why it may not be used."""
    cls = find(target, OURS)
    if isinstance(cls, Reason) or (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return cls
    return Because("is not a dataclass.")


def find(target: Any, prefixes: Sequence[str]) -> Any:
    """Return what a `_target_` names, or the `Reason` why it may not be used."""
    reason = not_allowed(target, prefixes)
    if reason is not None:
        return reason
    module_name, _, name = str(target).rpartition(".")
    try:
        named = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        return Because(f"cannot be imported ({error}).")
    home, allowed = getattr(named, "__module__", None), _allowed(prefixes)
    if isinstance(named, type) and not f"{home}.".startswith(allowed):
        return Because(f"is defined in {home}, which is not under {', '.join(allowed)}")
    return named


def untrusted_class(node: Any) -> Reason | None:
    """Return why a class of a Lightning strategy may not be made; None if all of them may."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            strategy = find(node["_target_"], LIGHTNING)
            if not isinstance(strategy, type):
                why = strategy if isinstance(strategy, Reason) else "is no class."
                return Because(f"_target_={node['_target_']}: {why}")
        return next(filter(None, map(untrusted_class, node.values())), None)
    if isinstance(node, list | tuple):
        return next(filter(None, map(untrusted_class, node)), None)
    return None


def not_allowed(target: Any, prefixes: Sequence[str]) -> Reason | None:
    """Return why a `_target_` may not be used, by its name alone; None if it may."""
    allowed = _allowed(prefixes)
    if not (isinstance(target, str) and _DOTTED.fullmatch(target)):
        return Because("is not a dotted class name.")
    if f"{target}.".startswith(allowed):
        return None
    return Because(
        f"only classes under {', '.join(allowed)} may be created from a config. If you trust this "
        f"one, set {ALLOW_TARGETS}={target.partition('.')[0]}."
    )


def untrusted(plain: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Yield a problem for every class that a config names and that may not be made.

    Args:
        plain: the composed config, Hydra's own part included, as plain dicts and lists.
        where: its own place in the config.
    """
    class_keys = _LOGGING_KEYS if where.startswith(_LOGGING) else _CLASS_KEYS
    for key, value in plain.items():
        inner = f"{where}.{key}" if where else str(key)
        if key in class_keys and not isinstance(value, Mapping):
            reason = _untrusted(value, inner)
            if reason is not None:
                yield f"{inner}={value}: {reason}"
        yield from _below(value, inner)


def _below(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from untrusted(value, where)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _below(item, f"{where}[{index}]")
    elif where.startswith(_LOGGING) and str(value).startswith("ext://") and value not in _STREAMS:
        yield f"{where}={value}: only {' and '.join(_STREAMS)} may be named here."


def _untrusted(target: Any, where: str) -> Reason | None:
    """Return why the class of one place may not be made; None if it may."""
    if where.startswith("hydra."):
        # Such a name may lead out of its package: hydra.utils.os.system.
        made = find(target, HYDRA)
        if isinstance(made, Reason):
            return made
        return None if isinstance(made, type) else Because("is no class.")
    if where.startswith("trainer."):
        reason = not_allowed(target, LIGHTNING)
        name = str(target).removeprefix(LIGHTNING[0])
        if reason is None and str(target).startswith(LIGHTNING[0]) and not name.isidentifier():
            return Because(f"{LIGHTNING[0]} has no class {name}.")
        return reason
    return not_allowed(target, OURS)


def _allowed(prefixes: Sequence[str]) -> tuple[str, ...]:
    extra = (prefix.strip() for prefix in os.environ.get(ALLOW_TARGETS, "").split(","))
    return (*prefixes, *(f"{prefix.rstrip('.')}." for prefix in extra if prefix))


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


def why_no_searchpath(url: str) -> Reason | None:
    """Return why an entry of `hydra.searchpath` leads nowhere; None if it does not."""
    scheme, separator, path = url.partition("://")
    if separator and scheme == "pkg":
        try:
            is_there = importlib.util.find_spec(path.replace("/", ".")) is not None
        except (ImportError, ValueError):
            is_there = False
        return None if is_there else Because("there is no such package")
    if separator and scheme not in ("file", "structured"):
        return Because("only file:// and pkg:// are supported")
    return None if os.path.isdir(local_path(url)) else Because("there is no such folder")


def _why_too_large(path: Path) -> Reason | None:
    data = path.read_bytes()
    if len(data) > _LARGEST:
        return Because(f"a settings file has at most {_LARGEST // 2**20} MiB")
    if b"*" not in data or b"&" not in data:
        return None
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return None  # said where it is chosen
    n_nodes = _written_out(root, {}) if root is not None else 0
    if n_nodes <= _MOST_NODES:
        return None
    return Because(f"with its aliases expanded it has more than {_MOST_NODES:,} values")


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
