"""What the packages of `stratos/contrib` add to the core, which imports none of them.

One that adds more than classes for `_target_` has an `EXTENSION` in its `__init__.py`. It names
what it adds as "module:name", which is imported when it is used. To import an extension costs
nothing. One whose folder is deleted adds nothing, and nothing else changes.
"""

from __future__ import annotations

import functools
import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos import contrib


@dataclass(frozen=True)
class Command:
    """A verb of the command line; `stratos.cli.verbs` says what its module offers."""

    summary: str
    """What it does, in a few words, for `stratos --help`."""
    module: str
    """Module that runs it."""
    rank: int = 0
    """Where `stratos --help` shows it among the verbs of all rooms: small numbers come first."""
    failure: int = 1
    """Exit code of an error; 2 where 1 is an answer, as of `stratos gate`."""


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
    config: Mapping[str, str] = field(default_factory=dict)
    """Config group to its class, a subclass of `stratos.config.RoomConfig`."""
    stages: str = ""
    """Tuple of `stratos.run.resume.Stage` that a run makes after `deploy`, in this order."""
    front: str = ""
    """Subclass of `stratos.deploy.hosted_server.ServerFront`: what stands before a student."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Cloud of `cloud.providers` to its `stratos.catalog.cluster.Cluster`, whose nodes are the
    offers of that cloud."""
    chunk_engines: Mapping[str, str] = field(default_factory=dict)
    """Choice of `synthesize.engine` to its `stratos.core.context.Engine`."""
    service_files: Mapping[str, str] = field(default_factory=dict)
    """Cloud to what writes the service file of its servers, a
    `stratos.deploy.service.ServiceFile`."""
    decoder: str = ""
    """Function of a model and a `models.decode.decoder.Call` that returns a `FastDecoder`, or None
    for a model that it does not take."""
    slots: str = ""
    """Function of a model, a number of slots and a context that returns a
    `models.decode.decoder.SlotDecoder`, or the reason why it does not take the model."""
    tagged: str = ""
    """Function of the names of known jobs that returns the other servers of runs in the user's
    accounts, as `stratos.executors.job.TaggedServers`."""
    kinds: str = ""
    """Module with classes below `models.kinds.student_kinds.Kind`, which enter themselves."""
    predictors: Mapping[str, str] = field(default_factory=dict)
    """Format that `student.json` names to its class below `models.kinds.base.Predictor`."""
    speedups: str = ""
    """Class below `distill.speedups.Speedups`: faster ways of a training."""


_MARK = "\nEXTENSION = "


@functools.cache
def extensions() -> tuple[Extension, ...]:
    """Return the extensions of all packages that are there, in the order of their names."""
    # By their texts: to look for a name would import the packages of all rooms.
    files = (file for folder in contrib.__path__ for file in Path(folder).glob("*/__init__.py"))
    names = sorted(file.parent.name for file in files if _MARK in file.read_text("utf-8"))
    return tuple(importlib.import_module(f"{contrib.__name__}.{name}").EXTENSION for name in names)


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


_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Return the folder of the core's config groups: beside the package, or in it in a wheel."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def contrib_conf_dirs() -> dict[str, Path]:
    """Return each package of contrib that has choices of config groups, and their folder."""
    folders = sorted((_PACKAGE / "contrib").glob("*/conf"))
    return {folder.parent.name: folder for folder in folders if any(folder.rglob("*.yaml"))}


def conf_dirs() -> tuple[Path, ...]:
    """Return every folder of config groups, the core's first."""
    return conf_dir(), *contrib_conf_dirs().values()


def shipped_choices(group: str) -> dict[str, Path]:
    """Return the shipped choices of a config group and their files, in the order of their names."""
    files = [file for folder in conf_dirs() for file in (folder / group).glob("*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


# Files beside the code: tables, and texts of other programs as templates, such as scripts.


def table(module: str, name: str) -> dict[str, Any]:
    """Return what a TOML file beside a module holds.

    Args:
        module: its `__file__`.
        name: of the file.
    """
    return tomllib.loads(Path(module).with_name(name).read_text(encoding="utf-8"))


def filled(module: str, name: str, /, **values: Any) -> str:
    """Return the text of a template of Jinja beside a module, in which nothing is escaped.

    Args:
        module: its `__file__`.
        name: of the template.
        values: what it is filled with; one that is lacking is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = Path(module).with_name(name).read_text(encoding="utf-8")
    return environment.from_string(template).render(values)
