"""`hydra/launcher=ray`: the jobs of a sweep as jobs of a Ray cluster."""

from hydra.core.config_store import ConfigStore
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher
from hydra_plugins.stratos_launchers._settings import RayConfig

ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConfig, provider="stratos")


class RayLauncher(ClusterLauncher):
    """Submits each job to Ray; its nodes share a file system with this machine."""

    kind = "ray"
    executor = "stratos.contrib.ray.executor.Ray"
