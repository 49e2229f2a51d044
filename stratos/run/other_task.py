"""Refuse a run folder that holds the records of another task, before anything is written to it.

Records of another task would be made again one by one, and what they name would be lost. It is
another task if its name or its class differs, or its file: `task.path` names another one whose
content differs, too. A changed setting, a file that was moved, and a file with new rows under its
old name are the same task: their records are made again, as for any changed input.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos import records
from stratos.config import Config
from stratos.core.errors import StratosError
from stratos.run import resume
from stratos.run.stages import STAGES
from stratos.run.words import OtherTask

_FILE = "task.path"
_CONTENTS = (f"the content of {_FILE}", "the content of task")
"""Names of a file's content among the inputs of a record."""


class OtherTaskError(StratosError):
    """The run folder holds another task; it is left as it is."""


def refusal(config: Config, folder: Path, key: str) -> OtherTask | None:
    """Return why a run may not begin in a folder; None if it may.

    The first record tells: all others rest on it.

    Args:
        config: of the run.
        folder: that it would write to.
        key: that names it.
    """
    for stage in STAGES:
        if not stage.works_on_task:
            continue
        try:
            envelope = records.opened((folder / f"{stage.name}.json").read_bytes())
            made = msgspec.json.decode(bytes(envelope.record))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue  # it tells nothing; the run says what is wrong with it
        if _is_other(envelope.inputs, made, config):
            name, path = _name_and_file(folder, made)
            return OtherTask(folder, name, path, key)
        return None
    return None


def _is_other(old: Mapping[str, str], made: Any, config: Config) -> bool:
    name = made.get("task") if isinstance(made, dict) else None
    if name is not None and name != config.task.name:
        return True
    if not old:  # the record was kept without them
        return False
    new = resume.task_inputs(config)
    if any(old.get(key) != new.get(key) for key in ("task._target_", "task.name")):
        return True
    if old.get(_FILE) == new.get(_FILE):
        return False
    return not any(old.get(key) and old.get(key) == new.get(key) for key in _CONTENTS)


def _name_and_file(folder: Path, made: Any) -> tuple[str, str]:
    """Return what the other task is called, and its file as the folder's config names it."""
    name = str(made.get("task") or "") if isinstance(made, dict) else ""
    path = None
    try:
        task = yaml.safe_load((folder / ".hydra" / "config.yaml").read_bytes())["task"]
        name, path = name or str(task["name"]), task.get("path")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        pass  # was never kept, or edited by hand
    return name, str(path or "")
