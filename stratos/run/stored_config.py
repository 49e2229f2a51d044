"""The config of a run as it lies in its folder: what Hydra kept of it, interpolations as typed.

So a value that comes from the environment is taken from there again, wherever the config is read;
secrets that somebody typed were taken out when it was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from stratos.core.atomic_files import write_privately
from stratos.core.errors import StratosError
from stratos.core.output import guard_files
from stratos.core.redact import HIDDEN
from stratos.executors.job import config_path

if TYPE_CHECKING:
    from stratos.config import Config


HYDRA = ".hydra"
_FILES = ("config.yaml", "hydra.yaml")
_typed: dict[Path, dict[str, bytes]] = {}
"""Folder of a run to what Hydra wrote there of the command of this process."""


def remember(folder: Path) -> None:
    """Keep what Hydra has written of this command: another one that is refused writes its own."""
    with suppress(OSError):
        _typed[folder.absolute()] = {name: (folder / HYDRA / name).read_bytes() for name in _FILES}


def hand_over(folder: Path, stage: str) -> None:
    """Write down the config of this command for the job of a stage.

    Raises:
        StratosError: there is none, or it lacks a secret that was typed.
    """
    load_config(folder)  # where there is none, it is said
    there = config_path(folder, stage)
    there.mkdir(parents=True, exist_ok=True)
    typed = _typed.get(folder.absolute()) or {
        name: (folder / HYDRA / name).read_bytes() for name in _FILES
    }
    for name, content in typed.items():
        write_privately(there / name, content)
    guard_files(there)
    load_config(folder, stage)


def load_config(folder: Path, job: str | None = None) -> DictConfig:
    """Return the config of a run, with Hydra's own part; nothing in it is resolved yet.

    Args:
        folder: of the run.
        job: stage whose job it is for, which may have been handed one.

    Raises:
        StratosError: there is none, or it lacks a secret that was typed.
    """
    source = folder / HYDRA
    if job is not None and config_path(folder, job).is_dir():
        source = config_path(folder, job)
    config, hydra = (_load(source / name) for name in _FILES)
    hidden = next((key for key, value in _leaves(OmegaConf.to_container(config))
                   if isinstance(value, str) and HIDDEN in value), None)  # fmt: skip
    if hidden is not None:
        raise StratosError(
            f"{hidden} holds a secret, which is kept in no file: a stage that runs by itself does "
            f"not know it. Put it into a variable of the environment, and type "
            f"'{hidden}=${{oc.env:<variable>}}'."
        )
    config.hydra = hydra.hydra
    return config


def config_of(folder: Path) -> Config:
    """Return the config of a run, in the folder in which its command was typed.

    Raises:
        StratosError: there is none, or it cannot be used here.
    """
    folder = folder.absolute()
    return build_config(load_config(folder), folder)


def build_config(config: DictConfig, folder: Path) -> Config:
    """Build a stored config, in the folder in which its command was typed.

    Args:
        config: as `load_config` returns it, whatever was changed in it since.
        folder: of the run, where it lies now.

    Raises:
        StratosError: it cannot be used here.
    """
    from stratos.cli.build import build

    _let_resolve(config, folder)
    with suppress(OSError):  # relative paths are those of where the command was typed
        os.chdir(str(config.hydra.runtime.cwd))
    return build(config)


def _let_resolve(config: DictConfig, folder: Path) -> None:
    """Let a stored config be resolved as it was when its run was started."""
    from hydra.core.utils import setup_globals

    setup_globals()
    config.hydra.runtime.output_dir = str(folder)
    OmegaConf.register_new_resolver(
        "hydra", lambda key: OmegaConf.select(config, f"hydra.{key}"), replace=True
    )


def _load(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise StratosError(
            f"{path} is not there: it is written when a run begins, unless hydra.output_subdir is "
            "set. A stage that runs by itself takes the config of its run from it."
        ) from None
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise StratosError(f"{path} cannot be read ({' '.join(str(error).split())}).") from error
    if not isinstance(loaded, DictConfig):
        raise StratosError(f"{path} is no mapping of keys to values.")
    return loaded


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, node
