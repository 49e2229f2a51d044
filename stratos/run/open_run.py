"""Open a run: its folder and the copy of it, the console, the tracker, and the teachers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.core.atomic_files import sweep
from stratos.core.counted import counted
from stratos.core.disk_errors import disk_errors
from stratos.core.errors import BusyError, StratosError
from stratos.core.locks import locked
from stratos.run.console import Console
from stratos.run.held_folder import LOCK, HeldFolder
from stratos.run.kept_warnings import Warnings
from stratos.run.mirror import mirrored
from stratos.run.resume import Stage
from stratos.run.run_state import RunState
from stratos.run.runner import Runner
from stratos.teachers.cache import restored
from stratos.tracking.tracker import tracked


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
        sweep(folder)
        _make_cache_folder(config.cache_dir)
        held = HeldFolder(folder)
        mirror = stack.enter_context(mirrored(config, held, console.warn, console.note))
        if mirror is not None and (n := restored(folder, config.cache_dir, console.warn)):
            console.note(f"{counted(n, 'answer', spec=',')} of teachers came with the copy.")
        warnings = Warnings(folder / "warnings.json", console.warn, held)
        tracker = stack.enter_context(tracked(config, warnings.add))
        for teacher in config.teachers:
            stack.callback(teacher.close)
        if config.cloud.gpu_file is not None:
            from stratos.catalog.gpus import use_gpu_file  # not before it is needed

            use_gpu_file(config.cloud.gpu_file)
        with console.closing(), held.watched():
            yield Runner(RunState(config, stages, console, tracker, warnings), mirror, held)


def _make_cache_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StratosError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Type "
            "paths.cache_dir=<folder>, or set STRATOS_CACHE=<folder> in the environment."
        ) from error
    sweep(folder, levels=2)
