"""What all launchers of Stratos share, for Hydra: what it hands them.

Hydra imports this at every start, so that what runs jobs is in other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from typing_extensions import override

if TYPE_CHECKING:
    from hydra_plugins.stratos_launchers._one_job import Sweep


class SweepLauncher(Launcher):
    """A launcher that runs each job in a process of its own."""

    config: DictConfig | None = None
    hydra_context: HydraContext | None = None
    task_function: TaskFunction | None = None
    numbers: Sequence[int] | None = None
    """Numbers of the jobs of the next launch; None counts on from its first."""

    @override
    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self) -> Sweep:
        """Return what the jobs have in common."""
        from hydra_plugins.stratos_launchers._one_job import Sweep

        assert self.config is not None and self.hydra_context is not None
        assert self.task_function is not None
        return Sweep(self.config, self.hydra_context, self.task_function)

    def numbered(self, n_jobs: int, first: int) -> Sequence[int]:
        """Return the numbers of the jobs of a launch."""
        return range(first, first + n_jobs) if self.numbers is None else self.numbers
