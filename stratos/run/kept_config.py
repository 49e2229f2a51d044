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

from stratos.core.errors import StratosError
from stratos.core.redact import HIDDEN

if TYPE_CHECKING:
    from stratos.config import Config


def kept_config(folder: Path) -> DictConfig:
    """Return the config of a run, with Hydra's own part; nothing in it is resolved yet.

    Raises:
        StratosError: there is none, or it lacks a secret that was typed.
    """
    config, hydra = (_load(folder / ".hydra" / f"{name}.yaml") for name in ("config", "hydra"))
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


def use_kept(config: DictConfig, folder: Path) -> None:
    """Let a config that was kept be resolved as it was when the run was started.

    Args:
        config: as `kept_config` returns it.
        folder: of the run, where it lies now.
    """
    from hydra.core.utils import setup_globals

    setup_globals()
    config.hydra.runtime.output_dir = str(folder)
    OmegaConf.register_new_resolver(
        "hydra", lambda key: OmegaConf.select(config, f"hydra.{key}"), replace=True
    )


def config_of(folder: Path) -> Config:
    """Return the config of a run, in the folder in which its command was typed.

    Raises:
        StratosError: there is none, or it cannot be used here.
    """
    from stratos.cli.build import build

    folder = folder.absolute()
    kept = kept_config(folder)
    use_kept(kept, folder)
    with suppress(OSError):  # relative paths are those of where the command was typed
        os.chdir(str(kept.hydra.runtime.cwd))
    return build(kept)


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
