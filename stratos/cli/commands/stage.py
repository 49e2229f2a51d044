"""`stratos stage <run folder> <stage>`: one stage of a run, by what lies in its folder.

The config is what the run was started with, the records are those of the stages before it; keys
come from the environment. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from stratos.config import STAGES, Config
from stratos.core.context import unsaid
from stratos.core.errors import ConfigError, StratosError
from stratos.core.output import disk_errors, guard_logs
from stratos.core.process import end_at_limit, locked
from stratos.executors import submission
from stratos.executors.job import (
    BEGAN,
    ERROR,
    LOG,
    NOTE,
    TICK,
    WARN,
    EventWriter,
    events_path,
    folder_of,
)
from stratos.run.console import Console
from stratos.tracking.tracker import Tracker

if TYPE_CHECKING:
    from stratos.run.runner import Runner


class ToldConsole(Console):
    """A console whose words about the running stage reach the process that shows the run."""

    def __init__(self, say: Callable[..., None], folder: Path) -> None:
        """Print as others do, and hand what is said on to `say`."""
        super().__init__(folder=folder)
        self._say = say
        self.is_at_work = False
        """Whether the stage runs: what is said of records before it, the other one says itself."""

    @contextmanager
    @override
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        with super().stage(name) as tick:

            def both(done: float, total: float, text: str = "") -> None:
                tick(done, total, text)
                self._say(TICK, done, total, text)

            self.is_at_work = True
            try:
                yield both
            finally:
                self.is_at_work = False

    @override
    def detail(self, text: str) -> None:
        super().detail(text)
        if self.is_at_work:
            self._say(NOTE, text)

    @override
    def warn(self, text: str) -> None:
        super().warn(text)
        if self.is_at_work:
            self._say(WARN, text)


class ToldTracker(Tracker):
    """Hands metrics of the running stage on to the process that has the W&B run."""

    def __init__(self, say: Callable[..., None], console: ToldConsole) -> None:
        """Hand metrics on to `say` while the stage of `console` runs."""
        super().__init__((), console.warn)
        self._say = say
        self._console = console

    @override
    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._console.is_at_work:
            self._say(LOG, dict(metrics), step)


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
    say: Callable[..., None] = unsaid
    if args.job:
        end_at_limit()
        say = EventWriter(events_path(folder, args.stage))
        say(BEGAN, platform.node(), os.getpid(), time.time())
    try:
        _run(folder, args.stage, args.job, say, args.cache)
    except StratosError as error:
        say(ERROR, str(error))
        raise


def _run(
    folder: Path, stage: str, is_job: bool, say: Callable[..., None], cache: str | None
) -> None:
    from stratos.pipeline import check_before, run_stages
    from stratos.run.runner import opened
    from stratos.run.stage_job import without_refused
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

    from stratos.run.stored_config import build_config, load_config

    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder. Name the folder of a run.")
    stored = load_config(folder, stage if is_job else None)
    stored.stages, executor = [stage], stored.executor
    if stage != "plan":  # which counts with the servers of the jobs, and is none
        stored.executor = HERE
    if cache is not None:
        stored.paths.cache_dir = cache
    config = build_config(stored, folder)
    # What the records of the run were made from.
    config.plain["executor"] = OmegaConf.to_container(executor, resolve=True)
    configure_log(stored.hydra.job_logging, False)
    guard_logs()
    return config


@contextmanager
def _opened_for_another(config: Config, stage: str, say: Callable[..., None]) -> Iterator[Runner]:
    """Open the stage of a run that another process holds, which shows and keeps what is said."""
    from stratos.run.run_state import RunState, Warnings
    from stratos.run.runner import Runner, prepare
    from stratos.run.stages import STAGES as ALL

    folder = config.run_dir
    job = submission.find(folder, stage)
    if job is None:
        raise StratosError(
            f"{stage} was handed to no job, or is back. Leave --job out to run it by hand."
        )
    console = ToldConsole(say, folder)
    lock = folder_of(folder) / f"{stage}.lock"
    with locked(lock, waiting=lambda: console.note(f"{stage}: an earlier job has it yet.")):
        prepare(config)
        warnings = Warnings(folder_of(folder) / f"{stage}.warnings", console.warn)
        try:
            tracker = ToldTracker(say, console)
            yield Runner(RunState(config, ALL, console, tracker, warnings, job))
        finally:
            for teacher in config.teachers:
                teacher.close()
