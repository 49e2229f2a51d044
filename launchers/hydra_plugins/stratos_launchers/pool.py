"""`hydra/launcher=pool`: the jobs of a sweep in processes of this machine, several at a time.

Hydra imports this file at every start, so it holds no more than the settings and the class;
what runs the jobs is in `_pool.py`. (No `from __future__ import annotations`: Hydra runs a plug-in
before it is in `sys.modules`, where a dataclass would look up annotations that are text.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class PoolConfig:
    """What `hydra.launcher.` may say."""

    _target_: str = "hydra_plugins.stratos_launchers.pool.PoolLauncher"
    n_jobs: int = 2
    """Jobs that run at the same time."""
    threads_per_job: int | None = None
    """CPU threads of each job; None divides this machine's cores among `n_jobs`."""
    retries: int = 1
    """How often a job is started again that was killed from outside (out of memory, kill -9)."""
    timeout_minutes: float | None = None
    """How long a job may run; it is ended then, and the others go on. None for no limit."""
    memory_gib: float | None = None
    """How much memory a job may hold with all its processes; the same. None for no limit."""


ConfigStore.instance().store(
    group="hydra/launcher", name="pool", node=PoolConfig, provider="stratos"
)


class PoolLauncher(Launcher):
    """Runs each job in a process of its own: one that is killed takes no other with it."""

    def __init__(
        self,
        n_jobs: int,
        threads_per_job: int | None,
        retries: int,
        timeout_minutes: float | None = None,
        memory_gib: float | None = None,
    ) -> None:
        """Take the settings; see `PoolConfig`."""
        if n_jobs < 1:
            raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: at least one job must run.")
        for name, limit in (("timeout_minutes", timeout_minutes), ("memory_gib", memory_gib)):
            if limit is not None and not limit > 0:
                raise ValueError(
                    f"hydra.launcher.{name}={limit:g} must be above 0, or null for no limit."
                )
        self.n_jobs = n_jobs
        self.threads_per_job = threads_per_job
        self.retries = retries
        self.timeout_minutes = timeout_minutes
        self.memory_gib = memory_gib
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands to every launcher."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return their outcomes in the order they were given."""
        from hydra_plugins.stratos_launchers import _pool

        return _pool.launch(self, job_overrides, initial_job_idx)
