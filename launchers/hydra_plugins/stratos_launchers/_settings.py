"""The settings of `hydra/launcher=pool`."""

from dataclasses import dataclass


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
