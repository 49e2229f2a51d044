"""Open a run: its folder and the copy of it, the console, the tracker, and the teachers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import sweep, write_atomically
from stratos.core.errors import BusyError, CapacityError, StratosError
from stratos.core.formats import counted
from stratos.core.output import disk_errors
from stratos.core.process import locked
from stratos.run.console import Console
from stratos.run.held_folder import LOCK, HeldFolder
from stratos.run.mirror import mirrored
from stratos.run.resume import Stage
from stratos.run.run_state import RunState, Warnings
from stratos.run.runner import Runner
from stratos.teachers.cache import restored
from stratos.tracking.tracker import tracked

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


@contextlib.contextmanager
def opened(config: Config, stages: Sequence[Stage[Any]]) -> Iterator[Runner]:
    """Open the run folder, the tracker and the console for the stages of one run.

    Args:
        config: the run's config.
        stages: all that there are, in order.

    Raises:
        StratosError: the folder cannot be written.
        BusyError: another process works in it.
    """
    folder = config.run_dir
    console = Console(explain=config.plan.explain, folder=folder)
    with contextlib.ExitStack() as stack:
        with disk_errors("start", folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder / LOCK))
            except BlockingIOError:
                raise BusyError(
                    f"{folder}: another process is working in this folder. Wait for it to end, "
                    "or leave hydra.run.dir out for a new folder."
                ) from None
        prepare(config)
        held = HeldFolder(folder)
        mirror = stack.enter_context(mirrored(config, held, console.warn, console.note))
        if mirror is not None and (n := restored(folder, config.cache_dir, console.warn)):
            console.note(f"{counted(n, 'answer', spec=',')} of teachers came with the copy.")
        warnings = Warnings(folder / "warnings.json", console.warn, held)
        tracker = stack.enter_context(tracked(config, warnings.add))
        for teacher in config.teachers:
            stack.callback(teacher.close)
        with console.closing(), held.watched():
            yield Runner(RunState(config, stages, console, tracker, warnings), mirror, held)


def prepare(config: Config) -> None:
    """Make the cache folder, take away what killed processes left, and read the user's GPUs.

    Raises:
        StratosError: the folder cannot be made, or the file of GPUs not be read.
    """
    sweep(config.run_dir)
    try:
        config.cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StratosError(
            f"The cache folder {config.cache_dir} cannot be made ({error.strerror}). Type "
            "paths.cache_dir=<folder>, or set STRATOS_CACHE=<folder> in the environment."
        ) from error
    sweep(config.cache_dir, levels=2)
    if config.cloud.gpu_file is not None:
        from stratos.catalog.gpus import use_gpu_file  # not before it is needed

        use_gpu_file(config.cloud.gpu_file)
