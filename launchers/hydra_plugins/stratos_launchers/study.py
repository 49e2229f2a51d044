"""`hydra/sweeper=study`: Optuna, with one objective or several, kept so that it can be resumed.

Hydra imports this file at every start, so it holds no more than the class: the settings are in
`_settings.py`, and what runs a study is in `_study.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.stratos_launchers._settings import StudyConfig
from omegaconf import DictConfig
from typing_extensions import override

ConfigStore.instance().store(
    group="hydra/sweeper", name="study", node=StudyConfig, provider="stratos"
)


class StudySweeper(Sweeper):
    """Lets Optuna choose what each job tries."""

    def __init__(
        self,
        objectives: Sequence[str],
        n_trials: int,
        n_jobs: int,
        sampler: str,
        seed: int | None,
        storage: str | None,
        study_name: str,
        params: Mapping[str, str] | None,
    ) -> None:
        self.settings = StudyConfig(
            objectives=list(objectives),
            n_trials=n_trials,
            n_jobs=n_jobs,
            sampler=sampler,
            seed=seed,
            storage=storage,
            study_name=study_name,
            params=None if params is None else dict(params),
        )
        self.launcher: Launcher | None = None
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    @override
    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @override
    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.stratos_launchers import _study

        assert self.config is not None and self.hydra_context is not None
        assert self.launcher is not None
        return _study.run(self.settings, self.launcher, self.config, self.hydra_context, arguments)
