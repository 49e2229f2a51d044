"""`hydra/launcher=ray`: the jobs of a sweep as jobs of a Ray cluster."""

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher
from hydra_plugins.stratos_launchers._settings import ClusterConfig


@dataclass
class RayConfig(ClusterConfig):
    """What `hydra.launcher.` may say with `hydra/launcher=ray`."""

    _target_: str = "hydra_plugins.stratos_ray.ray.RayLauncher"
    address: str | None = None
    """Dashboard of the cluster. None takes RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265."""
    cpus: float = 1.0
    """CPUs, and with that the threads of a job."""
    gpus: float | None = None
    """GPUs of the node."""
    resources: dict[str, float] | None = None
    """What else the node must have, by Ray's names."""
    autoscales: bool = False
    """The cluster adds nodes when jobs wait: a job may ask for what no node has now."""
    python: str | None = None
    """Python of the nodes. None takes the path of the one that runs this command."""
    env: list[str] = field(default_factory=list)
    """Variables of this environment that a job gets, such as OPENAI_API_KEY; whoever reaches the
    dashboard reads them."""


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConfig, provider="stratos")


class RayLauncher(ClusterLauncher):
    """Submits each job to Ray; its nodes share a file system with this machine."""

    kind = "ray"
    executor = "stratos.contrib.ray.executor.Ray"
    settings_class = RayConfig
