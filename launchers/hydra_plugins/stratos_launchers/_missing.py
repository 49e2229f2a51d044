"""Run the jobs of a grid that have not finished, each in its own folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra_plugins.stratos_launchers._numbered import folder_of_job, launch_numbered
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher

from stratos.core.formats import counted
from stratos.report.sweep_jobs import is_run, overrides_of, read_job

log = logging.getLogger(__name__)


def run(sweeper: BasicSweeper, arguments: Sequence[str]) -> list[Any]:
    """Launch what is missing.

    Raises:
        CompactHydraException: a folder holds another job.
    """
    config, context, launcher = sweeper.config, sweeper.hydra_context, sweeper.launcher
    assert config is not None and context is not None and launcher is not None
    parser = OverridesParser.create(config_loader=context.config_loader)
    parsed = parser.parse_overrides([*sweeper._parse_config(), *arguments])
    (jobs,) = sweeper.split_arguments(parsed, None)
    missing = []
    for number, job in enumerate(jobs):
        folder = folder_of_job(config, context.config_loader, job, number)
        if not _is_done(Path(str(config.hydra.sweep.dir)), folder, job, launcher):
            missing.append(number)
    log.info(f"{counted(len(missing), 'job')} of {len(jobs)} not finished")
    size = sweeper.max_batch_size or max(1, len(missing))
    outcomes = []
    for first in range(0, len(missing), size):
        numbers = missing[first : first + size]
        batch = [jobs[number] for number in numbers]
        sweeper.validate_batch_is_legal(batch)
        outcomes.append(launch_numbered(launcher, batch, numbers))
        for outcome in outcomes[-1]:
            _ = outcome.return_value  # raises what a job died of
    return outcomes


def _is_done(sweep_dir: Path, folder: Path, overrides: Sequence[str], launcher: Launcher) -> bool:
    if not is_run(folder):
        return False
    _check_same(folder, overrides)
    status = read_job(sweep_dir, folder).status
    if status == "running":
        # Jobs of a cluster may outlive the command that submitted them: its launcher follows
        # them again. Here somebody else works in the folder.
        return not isinstance(launcher, ClusterLauncher)
    return status == "finished"


def _check_same(folder: Path, overrides: Sequence[str]) -> None:
    known = overrides_of(folder)
    wanted = {line for line in overrides if not line.startswith("hydra")}
    if known and wanted != {line for line in known if not line.startswith("hydra")}:
        raise CompactHydraException(
            f"{folder} holds the job {' '.join(known)}, and not {' '.join(overrides)}: another "
            "sweep was run in this folder. Run the one that is missing in a folder of its own."
        )
