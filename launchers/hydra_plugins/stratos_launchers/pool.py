"""`hydra/launcher=pool`: the jobs of a sweep in processes of this machine, several at a time.

Hydra imports this file at every start, so it holds no more than the class: the settings are in
`_settings.py`, and what runs the jobs is in `_pool.py`.
"""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.stratos_launchers._launcher import SweepLauncher
from hydra_plugins.stratos_launchers._settings import PoolConfig
from typing_extensions import override

ConfigStore.instance().store(
    group="hydra/launcher", name="pool", node=PoolConfig, provider="stratos"
)


class PoolLauncher(SweepLauncher):
    """Runs each job in a process of its own: one that is killed takes no other with it."""

    def __init__(
        self,
        n_jobs: int,
        threads_per_job: int | None,
        retries: int,
        timeout_minutes: float | None = None,
        memory_gib: float | None = None,
    ) -> None:
        if n_jobs < 1:
            raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: at least one job must run.")
        for name, limit in (("timeout_minutes", timeout_minutes), ("memory_gib", memory_gib)):
            if limit is not None and not limit > 0:
                raise ValueError(
                    f"hydra.launcher.{name}={limit:g} must be above 0, or null for no limit."
                )
        self.settings = PoolConfig(
            n_jobs=n_jobs,
            threads_per_job=threads_per_job,
            retries=retries,
            timeout_minutes=timeout_minutes,
            memory_gib=memory_gib,
        )

    @override
    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from hydra_plugins.stratos_launchers import _pool

        numbers = self.numbered(len(job_overrides), initial_job_idx)
        return _pool.launch(self.sweep(), self.settings, job_overrides, numbers)
