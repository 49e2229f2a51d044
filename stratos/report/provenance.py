"""Provenance of a run: overrides, versions, machine."""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from stratos.core.machine import memory_bytes, n_cores

_PACKAGES = (
    "stratos-llm", "torch", "lightning", "transformers", "tokenizers", "hydra-core", "pulp",
    "highspy", "mahjong", "wandb",
)  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast; not every build has it."""
_GROUP = re.compile(r"(?m)^(?=[^\s#-])")
"""Where a key of the top level begins."""


def overrides(run_dir: Path) -> tuple[str, ...]:
    """Return the overrides that a run was started with; empty if they were not kept.

    Raises:
        ValueError: the file that keeps them is corrupt.
    """
    lines = read_yaml(run_dir / ".hydra" / "overrides.yaml")
    if lines is None:
        return ()
    if not isinstance(lines, list):
        raise ValueError(f"{run_dir / '.hydra' / 'overrides.yaml'} is not a list of overrides")
    return tuple(str(line) for line in lines)


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on; nothing is imported for it."""
    versions_of = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions_of[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions_of


def machine() -> dict[str, str]:
    """Return what this machine is."""
    facts = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(n_cores()),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{memory_bytes() / 2**30:.0f} GiB"
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def user_config_dirs(run_dir: Path) -> list[str]:
    """Return the folders that the command named by `--config-dir`."""
    composed: Any = read_yaml(run_dir / ".hydra" / "hydra.yaml")
    try:
        sources = composed["hydra"]["runtime"]["config_sources"]
        return [str(s["path"]) for s in sources if s["provider"] == "command-line"]
    except (KeyError, TypeError):
        return []


def config_of(run_dir: Path) -> dict[str, Any]:
    """Return the config that Hydra kept of a run; empty if it was not kept.

    The jobs of a sweep have most of their config in common, and YAML is slow to read: each group is
    read once, whoever has it.

    Raises:
        ValueError: the file is no YAML.
    """
    path = run_dir / ".hydra" / "config.yaml"
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    config: dict[str, Any] = {}
    try:
        for group in _GROUP.split(text):
            if group.strip():
                config |= _read_group(group)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return config


@lru_cache(4096)
def _read_group(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)


def read_yaml(path: Path) -> object:
    """Read a YAML file as plain data; None if it is not there.

    Raises:
        ValueError: the file is no YAML.
    """
    try:
        return yaml.load(path.read_text(), Loader=_LOADER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
