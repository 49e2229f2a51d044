"""`hydra/launcher=slurm`: the jobs of a sweep as jobs of SLURM."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher
from hydra_plugins.stratos_launchers._settings import ClusterConfig


@dataclass
class SlurmConfig(ClusterConfig):
    """What `hydra.launcher.` may say with `hydra/launcher=slurm`."""

    _target_: str = "hydra_plugins.stratos_slurm.slurm.SlurmLauncher"
    partition: str | None = None
    """Partition. None takes the cluster's default."""
    qos: str | None = None
    """Quality of service. None takes the account's default."""
    account: str | None = None
    """Account that is charged. None takes the user's default."""
    gpus: int | None = None
    """GPUs of the node."""
    gres: str | None = None
    """Generic resources in SLURM's words, such as gpu:h100:2, in place of `gpus`."""
    cpus: int | None = None
    """CPUs. None takes the partition's default."""
    constraint: str | None = None
    """Features that the node must have, in SLURM's words."""
    hours: float | None = None
    """Time limit. A job that reaches it goes back into the queue and on from there. None takes the
    partition's default."""
    max_timeouts: int = 3
    """How often a job that reaches its time limit goes back into the queue."""


ConfigStore.instance().store(
    group="hydra/launcher", name="slurm", node=SlurmConfig, provider="stratos"
)


class SlurmLauncher(ClusterLauncher):
    """Submits each job to SLURM; its nodes share a file system with this machine."""

    kind = "slurm"
    executor = "stratos.contrib.slurm.executor.Slurm"
    settings_class = SlurmConfig
