"""Launch jobs of a sweep that keep their numbers, and with them their folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra_plugins.stratos_launchers._launcher import SweepLauncher
from omegaconf import DictConfig, OmegaConf

_NUMBERED = "${hydra.job.num}"


def launch_numbered(
    launcher: Launcher, jobs: Sequence[Sequence[str]], numbers: Sequence[int]
) -> list[JobReturn]:
    """Run jobs under these numbers; return their outcomes in the order given.

    A launcher of another package counts on from a first number, so that it gets the jobs in runs
    of successive ones.
    """
    if isinstance(launcher, SweepLauncher):
        launcher.numbers = numbers
        try:
            return list(launcher.launch(jobs, initial_job_idx=numbers[0] if numbers else 0))
        finally:
            launcher.numbers = None
    outcomes: list[JobReturn] = []
    for first, last in _runs(numbers):
        outcomes += launcher.launch(list(jobs[first:last]), initial_job_idx=numbers[first])
    return outcomes


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield first, place
            first = place


def folder_of_job(config: DictConfig, loader: Any, overrides: Sequence[str], number: int) -> Path:
    """Return the folder of a job.

    Args:
        config: of the sweep.
        loader: composes the config of a job where its folder is not named by the number.
        overrides: of the job.
        number: of the job.
    """
    sweep_dir = Path(str(config.hydra.sweep.dir))
    plain: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if plain["subdir"] == _NUMBERED:
        return sweep_dir / str(number)
    composed = loader.load_sweep_config(config, list(overrides))
    composed.hydra.job.num = number
    return sweep_dir / str(composed.hydra.sweep.subdir)
