"""The settings of `hydra/launcher=pool`, of every cluster's, and of `hydra/sweeper=study`.

OmegaConf takes plain types alone. What a cluster is told of a job goes to the executor of the same
name, which checks it.
"""

from dataclasses import dataclass, field


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


@dataclass
class ClusterConfig:
    """What every cluster may be told; a launcher adds what its executor takes."""

    n_jobs: int = 16
    """Jobs that are submitted at the same time, waiting ones included."""
    retries: int = 3
    """How often a job is submitted again that was killed, or whose node was lost."""
    usd_per_hour: float = 0.0
    """Dollars that the node of a job costs an hour, for `stratos servers`."""
    max_pending_hours: float | None = None
    """Longest wait of a job in the queue. None for no limit."""
    memory_gib: float | None = None
    """Memory of a job in GiB. None takes the cluster's default."""


@dataclass
class StudyConfig:
    """What `hydra.sweeper.` may say with `hydra/sweeper=study`."""

    _target_: str = "hydra_plugins.stratos_launchers.study.StudySweeper"
    objectives: list[str] = field(default_factory=lambda: ["accuracy"])
    """One or several of accuracy (on validation items; the higher, the better) and the plan's usd,
    hours and latency_ms (the lower, the better)."""
    n_trials: int = 20
    """Jobs in all, those of earlier commands included."""
    n_jobs: int = 1
    """Jobs that are chosen at the same time, before any of them is done."""
    sampler: str = "tpe"
    """tpe, nsgaii or random."""
    seed: int | None = 0
    """Of the sampler."""
    storage: str | None = None
    """URL of a database, such as sqlite:///study.db; None keeps study.log in the sweep's folder."""
    study_name: str = "stratos"
    """Name of the study in its storage."""
    params: dict[str, str] | None = None
    """What is searched, as in `trainer.lr_muon: tag(log, interval(0.002, 0.04))`."""
