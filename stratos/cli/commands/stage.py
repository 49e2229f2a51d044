"""`stratos stage <run folder> <stage>`: one stage of a run, by what lies in its folder.

The config is what the run was started with, the records are those of the stages before it; keys
come from the environment. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import STAGES, Config
from stratos.core.atomic_files import sweep
from stratos.core.disk_errors import disk_errors
from stratos.core.errors import ConfigError, StratosError
from stratos.core.locks import locked
from stratos.core.os_signals import end_at_limit
from stratos.core.streams import guard_logs
from stratos.executors import events, handed

if TYPE_CHECKING:
    from stratos.run.runner import Runner

HERE = {"_target_": "stratos.executors.here.Here"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = "Run one stage of a run from the config and the records in its folder."
    parser.add_argument("folder", help="of the run, such as outputs/2026-11-26/12-00-00")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument(
        "--job", action="store_true",
        help="be the job of a command that holds the folder, and say there how far it is",
    )  # fmt: skip
    parser.add_argument(
        "--cache", metavar="FOLDER",
        help="use this folder of caches, in place of that of the config",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Run the stage.

    Raises:
        ConfigError: it cannot be run.
        StratosError: it fails.
    """
    folder = Path(args.folder).resolve()
    say: Callable[..., None] = _unsaid
    if args.job:
        end_at_limit()
        say = events.Teller(handed.events_path(folder, args.stage))
        say(events.BEGAN, platform.node(), os.getpid(), time.time())
    try:
        _run(folder, args.stage, args.job, say, args.cache)
    except StratosError as error:
        say(events.ERROR, str(error))
        raise


def _run(
    folder: Path, stage: str, is_job: bool, say: Callable[..., None], cache: str | None
) -> None:
    from stratos.pipeline import check_before, run_stages
    from stratos.run.open_run import opened
    from stratos.run.refused import without_refused
    from stratos.run.stages import STAGES as ALL

    config = without_refused(_config(folder, stage, cache, is_job))
    with disk_errors("run", folder, config.cache_dir):
        check_before(config)
        if not is_job:
            with opened(config, ALL) as run:
                run_stages(run)
            return
        with _opened_for_another(config, stage, say) as run:
            run_stages(run)


def _config(folder: Path, stage: str, cache: str | None, is_job: bool) -> Config:
    """Return the config of the run, for one stage in this process."""
    from hydra.core.utils import configure_log
    from omegaconf import OmegaConf

    from stratos.run.kept_config import built, kept_config

    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder. Name the folder of a run.")
    kept = kept_config(folder, stage if is_job else None)
    kept.stages, executor = [stage], kept.executor
    if stage != "plan":  # which counts with the servers of the jobs, and is none
        kept.executor = HERE
    if cache is not None:
        kept.paths.cache_dir = cache
    config = built(kept, folder)
    # What the records of the run were made from.
    config.plain["executor"] = OmegaConf.to_container(executor, resolve=True)
    configure_log(kept.hydra.job_logging, False)
    guard_logs()
    return config


@contextmanager
def _opened_for_another(config: Config, stage: str, say: Callable[..., None]) -> Iterator[Runner]:
    """Open the stage of a run that another process holds, which shows and keeps what is said."""
    from stratos.run.kept_warnings import Warnings
    from stratos.run.run_state import RunState
    from stratos.run.runner import Runner
    from stratos.run.stages import STAGES as ALL
    from stratos.run.told import ToldConsole, ToldTracker

    folder = config.run_dir
    job = handed.find(folder, stage)
    if job is None:
        raise StratosError(
            f"{stage} was handed to no job, or is back. Leave --job out to run it by hand."
        )
    console = ToldConsole(say, folder)
    lock = handed.lock_path(folder, stage)
    with locked(lock, waiting=lambda: console.note(f"{stage}: an earlier job has it yet.")):
        sweep(folder)
        config.cache_dir.mkdir(parents=True, exist_ok=True)
        if config.cloud.gpu_file is not None:
            from stratos.catalog.gpus import use_gpu_file

            use_gpu_file(config.cloud.gpu_file)
        warnings = Warnings(handed.folder_of(folder) / f"{stage}.warnings", console.warn)
        try:
            tracker = ToldTracker(say, console)
            yield Runner(RunState(config, ALL, console, tracker, warnings, job))
        finally:
            for teacher in config.teachers:
                teacher.close()


def _unsaid(kind: str, *values: Any) -> None:
    return
