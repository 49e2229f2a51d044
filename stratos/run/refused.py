"""Servers that could not be had: the plan is solved again without them.

They are kept in the run folder, so that the same command, and the jobs of the run, plan with the
same offers. Whoever wants them tried again deletes the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import CapacityError

NAME = "refused.json"
MOST = 5
"""Times that one command plans again."""


def without_refused(config: Config) -> Config:
    """Return the config with a quota of none for each server that its run could not have."""
    found = _refused(config.run_dir)
    if not found:
        return config
    none = dict.fromkeys(found, 0)
    cloud = dataclasses.replace(config.cloud, quotas={**config.cloud.quotas, **none})
    plain = dict(config.plain.get("cloud") or {})
    plain["quotas"] = {**(plain.get("quotas") or {}), **none}
    return dataclasses.replace(config, cloud=cloud, plain={**config.plain, "cloud": plain})


def refuse(folder: Path, error: CapacityError) -> None:
    """Keep which server could not be had, and why."""
    found = {**_refused(folder), error.server: str(error)}
    write_atomically(folder / NAME, msgspec.json.format(msgspec.json.encode(found), indent=1))


def _refused(folder: Path) -> Mapping[str, str]:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / NAME).read_bytes(), type=dict[str, str])
    return {}
