"""What the launchers of clusters share, for Hydra: their settings, and what Hydra hands them.

Hydra imports this at every start, so that what submits jobs is in `_cluster.py`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra_plugins.stratos_launchers._launcher import SweepLauncher
from hydra_plugins.stratos_launchers._settings import ClusterConfig
from omegaconf import OmegaConf
from typing_extensions import override


class ClusterLauncher(SweepLauncher):
    """Submits each job of a sweep to the manager of a cluster."""

    kind: ClassVar[str]
    """Choice of the group."""
    executor: ClassVar[str]
    """Class that submits the jobs."""
    settings_class: ClassVar[type[ClusterConfig]]
    """What `hydra.launcher.` may say."""

    def __init__(self, n_jobs: int, retries: int, **settings: Any) -> None:
        if n_jobs < 1:
            raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: at least one job must run.")
        if retries < 0:
            raise ValueError(f"hydra.launcher.retries={retries} must be at least 0.")
        self.n_jobs, self.retries = n_jobs, retries
        self.settings = {
            key: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    @override
    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from hydra_plugins.stratos_launchers import _cluster

        cluster = _cluster.Cluster(
            self.kind, _cluster.executor_of(self.kind, self.executor, self.settings),
            self.n_jobs, self.retries,
        )  # fmt: skip
        numbers = self.numbered(len(job_overrides), initial_job_idx)
        return _cluster.launch(self.sweep(), cluster, job_overrides, numbers)
