"""`hydra/sweeper=study`: Optuna, with one objective or several, kept so that it can be resumed.

Hydra imports this file at every start, so it holds no more than the class and its settings: what
runs a study is in `_study.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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
        """Take the settings; see `StudyConfig`."""
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

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands to every sweeper."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study to its number of trials."""
        from hydra_plugins.stratos_launchers import _study

        assert self.config is not None and self.hydra_context is not None
        assert self.launcher is not None
        return _study.run(self.settings, self.launcher, self.config, self.hydra_context, arguments)
