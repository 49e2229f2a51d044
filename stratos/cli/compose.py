"""Composition of the config groups with Hydra, those of contrib's rooms included."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore

from stratos.core.extensions import conf_dir, room_configs

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
USER_CONF = "conf"
"""Folder of the user's own choices of config groups, where the command is typed."""

# `config.yaml` begins with these defaults; whoever composes it has imported this module.
ConfigStore.instance().store(
    "rooms", {group: dataclasses.asdict(cls()) for group, cls in room_configs().items()}
)


def user_conf() -> Path | None:
    """Return the user's own folder of tasks, which `stratos init` writes; None without any.

    In a clone of Stratos it is the shipped one, which is read anyway.
    """
    folder = Path(USER_CONF)
    is_shipped = folder.resolve() == conf_dir().resolve()
    return folder if (folder / "task").is_dir() and not is_shipped else None


@contextmanager
def hydra_for(config_dir: str | None, config_path: str | None = None) -> Iterator[Hydra]:
    """Make the Hydra that `hydra.main` would make, and leave no trace of it.

    Args:
        config_dir: the user's own folder of config groups, searched after ours.
        config_path: a folder that takes the place of ours.
    """
    # The compose API proper cannot take --config-dir, and refuses sweeps.
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    version.setbase(VERSION_BASE)
    search_path = create_config_search_path(config_path or str(conf_dir()))
    if config_dir is not None:
        search_path.prepend(
            provider="command-line",
            path=f"file://{Path(config_dir).resolve()}",
            anchor=SearchPathQuery(provider="schema"),
        )
    try:
        yield Hydra.create_main_hydra2(task_name="stratos", config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


@contextmanager
def hydra_kept() -> Iterator[None]:
    """Give back the state of Hydra and OmegaConf in this process, whatever the block makes of it.

    The caller may be a program of Hydra itself, or compose configs in a notebook.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    in_use, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    version, resolvers = VersionBase.instance().version_base, dict(BaseContainer._resolvers)
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = in_use
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = version
        BaseContainer._resolvers = resolvers
