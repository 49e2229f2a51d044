"""`hydra/launcher=slurm`: the jobs of a sweep as jobs of SLURM."""

from hydra.core.config_store import ConfigStore
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher
from hydra_plugins.stratos_launchers._settings import SlurmConfig

ConfigStore.instance().store(
    group="hydra/launcher", name="slurm", node=SlurmConfig, provider="stratos"
)


class SlurmLauncher(ClusterLauncher):
    """Submits each job to SLURM; its nodes share a file system with this machine."""

    kind = "slurm"
    executor = "stratos.contrib.slurm.executor.Slurm"
