"""The serving engines that there are: the classes that the YAMLs of `deploy` name.

A plan, a record and the command line name an engine by its kind. The class is found where a
shipped YAML names it with `_target_`, or one of a user's own that was loaded with a config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from stratos.core.errors import StratosError, did_you_mean
from stratos.core.extensions import conf_dirs
from stratos.core.trust import find_class
from stratos.deploy.engines.base import Engine

_ENGINES = ("engine", "engines")
"""Keys of `deploy` that hold engines."""


def engines() -> dict[str, Engine]:
    """Return every engine by its kind, each with its default settings.

    Those of a user's own are among them once their class is imported.
    """
    _import_shipped()
    classes = sorted(_classes(Engine), key=lambda cls: cls.kind)
    return {cls.kind: cls() for cls in classes}


def engine_named(kind: str) -> Engine:
    """Return an engine by its kind, with its default settings.

    Raises:
        StratosError: there is none.
    """
    known = engines()
    if kind not in known:
        raise StratosError(
            f"There is no serving engine {kind}.{did_you_mean(kind, known)} Known: "
            f"{', '.join(sorted(known))}. If its YAML is in a folder of yours, name that with "
            "--config-dir <folder>."
        )
    return known[kind]


def compiled_kinds() -> list[str]:
    """Return the kinds of the engines whose host is no Python."""
    return [kind for kind, engine in engines().items() if engine.cost.is_compiled]


def import_engines(folder: Path) -> None:
    """Import the engines that the YAMLs of a config folder name (`<folder>/deploy/*.yaml`)."""
    for path in sorted((folder / "deploy").glob("*.yaml")):
        _import_of(yaml.safe_load(path.read_text(encoding="utf-8")))


def import_engines_of_run(folder: Path) -> None:
    """Import the engines that the config of a run names; none where it was not kept."""
    path = folder / ".hydra" / "config.yaml"
    if path.is_file():
        composed = yaml.safe_load(path.read_text(encoding="utf-8"))
        _import_of(composed.get("deploy") if isinstance(composed, Mapping) else None)


@cache
def _import_shipped() -> None:
    import_module("stratos.deploy.engines.predictor")  # no YAML names it: bundles choose it
    for folder in conf_dirs():
        import_engines(folder)


def _import_of(deploy: Any) -> None:
    """Import the engines of one choice of `deploy`; what may not be imported stays unknown."""
    if isinstance(deploy, Mapping):
        for key in _ENGINES:
            for target in _targets(deploy.get(key)):
                find_class(target)


def _targets(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)


def _classes(base: type[Engine]) -> Iterator[type[Engine]]:
    """Yield the classes below one that are of a kind of their own."""
    for cls in base.__subclasses__():
        if "kind" in vars(cls) and not cls.lacks():
            yield cls
        yield from _classes(cls)
