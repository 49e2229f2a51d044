"""Runs a study of Optuna whose trials are the jobs of a sweep.

Trial k is job k, in the folder of that number. A trial is told its values when its job has
finished; until then it stays open in the storage. So a study goes on exactly where it was stopped:
open trials, also those whose job failed, are run again in their folders, and then new ones follow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from hydra_plugins.stratos_launchers._numbered import folder_of_job, launch_numbered
from hydra_plugins.stratos_launchers._settings import StudyConfig
from omegaconf import DictConfig, OmegaConf

from stratos.core import extras
from stratos.core.formats import counted
from stratos.report.frontier import BETTER, objectives_of

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

RESULTS = "optimization_results.yaml"
_LOG = "study.log"
_OVERRIDES = "overrides"
_LEAST = (4, 0)
"""Version of Optuna."""


def run(
    settings: StudyConfig,
    launcher: Launcher,
    config: DictConfig,
    hydra_context: HydraContext,
    arguments: Sequence[str],
) -> list[Any]:
    """Run trials until there are as many as wanted; return the best ones, as Optuna has them.

    Raises:
        CompactHydraException: the study cannot be run, or not one of its jobs has finished.
    """
    check(settings)
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    loader = hydra_context.config_loader
    space, fixed = _space([*(f"{k}={v}" for k, v in (settings.params or {}).items()), *arguments])
    study = _opened(settings, folder)
    OmegaConf.save(config, folder / "multirun.yaml")
    done = 0
    for numbers in _batches(study, settings, space, fixed):
        jobs = [_overrides(study.trials[number], fixed) for number in numbers]
        outcomes = launch_numbered(launcher, jobs, numbers)
        for number, overrides, outcome in zip(numbers, jobs, outcomes, strict=True):
            if outcome.status != JobStatus.COMPLETED:
                continue
            found = objectives_of(folder_of_job(config, loader, overrides, number))
            lacking = [name for name in settings.objectives if name not in found]
            if lacking:
                raise CompactHydraException(
                    f"Job {number} has no {' and no '.join(lacking)}: accuracy needs the stage "
                    "distill, the others need plan. Add the stage to stages=[…]."
                )
            study.tell(number, [found[name] for name in settings.objectives])
            done += 1
    n_open = sum(not trial.state.is_finished() for trial in study.trials)
    _say(study, settings, folder, n_open)
    if n_open and not done:
        raise CompactHydraException(
            f"{counted(n_open, 'job')} of the study did not finish: see their console.log. To run "
            f"them again, type: stratos sweep resume {folder}"
        )
    return list(study.best_trials)


def check(settings: StudyConfig) -> None:
    """Refuse settings that cannot be, and a Python without Optuna.

    Raises:
        CompactHydraException: it is so.
    """
    wanted = settings.objectives
    if not wanted or len({*wanted}) < len(wanted) or any(name not in BETTER for name in wanted):
        raise CompactHydraException(
            f"hydra.sweeper.objectives=[{','.join(wanted)}]: expected one or several of "
            f"{', '.join(BETTER)}, each once."
        )
    if settings.sampler not in ("tpe", "nsgaii", "random"):
        raise CompactHydraException(
            f"hydra.sweeper.sampler={settings.sampler}: expected tpe, nsgaii or random."
        )
    for key in ("n_trials", "n_jobs"):
        if (n := getattr(settings, key)) < 1:
            raise CompactHydraException(f"hydra.sweeper.{key}={n} must be at least 1.")
    try:
        import optuna
    except ImportError as error:
        raise CompactHydraException(
            f"hydra/sweeper=study needs Optuna. Type: {extras.install('sweep')}"
        ) from error
    if tuple(map(int, optuna.__version__.split(".")[:2])) < _LEAST:
        raise CompactHydraException(
            f"hydra/sweeper=study needs Optuna 4 or newer; {optuna.__version__} is installed. "
            f"Type: {extras.install('sweep')}"
        )


def _batches(
    study: optuna.Study, settings: StudyConfig, space: dict[str, Any], fixed: list[str]
) -> Any:
    """Yield the numbers of the trials to run together: first those that are open, then new ones."""
    _drop_incomplete(study, space)
    left_open = [trial.number for trial in study.trials if not trial.state.is_finished()]
    if left_open:
        log.info(f"The study goes on: {counted(len(left_open), 'job')} not finished")
    for first in range(0, len(left_open), settings.n_jobs):
        yield left_open[first : first + settings.n_jobs]
    while (n_left := settings.n_trials - _n_complete(study)) > 0:
        asked = [study.ask(space) for _ in range(min(n_left, settings.n_jobs))]
        for trial in asked:
            trial.set_user_attr(_OVERRIDES, _overrides(trial, fixed))
        yield [trial.number for trial in asked]


def _overrides(trial: optuna.Trial | optuna.trial.FrozenTrial, fixed: list[str]) -> list[str]:
    """Return the overrides of a trial's job: those that are kept, else from what it has drawn.

    A study that is killed between both has the values alone.
    """
    drawn = [f"{name}={value}" for name, value in trial.params.items()]
    return list(trial.user_attrs.get(_OVERRIDES) or [*drawn, *fixed])


def _drop_incomplete(study: optuna.Study, space: dict[str, Any]) -> None:
    """Give up trials that were left while their values were drawn; others take their place."""
    import optuna

    for trial in study.trials:
        is_whole = _OVERRIDES in trial.user_attrs or trial.params.keys() == space.keys()
        if not trial.state.is_finished() and not is_whole:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _n_complete(study: optuna.Study) -> int:
    import optuna

    return sum(trial.state != optuna.trial.TrialState.FAIL for trial in study.trials)


def _opened(settings: StudyConfig, folder: Path) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: Any = settings.storage
    if storage is None:
        storage = JournalStorage(JournalFileBackend(str(folder / _LOG)))
    known = optuna.get_all_study_names(storage)
    n_known = 0
    if settings.study_name in known:
        n_known = len(optuna.load_study(study_name=settings.study_name, storage=storage).trials)
    # A sampler that begins again with the same seed would draw again what is there already.
    seed = None if settings.seed is None else settings.seed + n_known
    samplers: dict[str, Any] = {
        # Of several jobs that are chosen together each is told what the others try.
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=settings.n_jobs > 1),
        "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    directions: Any = [BETTER[name] for name in settings.objectives]
    study = optuna.create_study(
        study_name=settings.study_name,
        storage=storage,
        sampler=samplers[settings.sampler](),
        directions=directions,
        load_if_exists=True,
    )
    names = study.user_attrs.get("objectives")
    if names is not None and names != settings.objectives:
        raise CompactHydraException(
            f"{folder} holds a study with other objectives ({', '.join(names)}, now "
            f"{', '.join(settings.objectives)}). Take another folder: hydra.sweep.dir=<folder>."
        )
    study.set_user_attr("objectives", settings.objectives)
    return study


def _space(lines: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what is searched, and the overrides that all jobs have in common.

    Raises:
        CompactHydraException: a sweep is of a kind that cannot be searched.
    """
    space: dict[str, Any] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(list(lines)):
        key = override.get_key_element()
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = _distribution(override)
        else:
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
    return space, list(fixed.values())


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low, high, is_log = value.start, value.end, "log" in value.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=is_log)
        return FloatDistribution(float(low or 0), float(high or 0), log=is_log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        start, stop, step = value.start or 0, value.stop, value.step
        assert stop is not None
        if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
            return IntDistribution(start, max(start, stop - 1), step=step)
        return FloatDistribution(float(start), float(stop), step=float(step))
    choices: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    return CategoricalDistribution(choices)


def _say(study: optuna.Study, settings: StudyConfig, folder: Path, n_open: int) -> None:
    """Write down and say which trials are best."""
    best = [
        {
            "job": trial.number,
            "params": trial.params,
            "values": dict(zip(settings.objectives, trial.values, strict=True)),
        }
        for trial in (study.best_trials if _has_finished(study) else [])
    ]
    OmegaConf.save(OmegaConf.create({"name": "optuna", "best": best}), folder / RESULTS)
    for one in best:
        values: Any = one["values"]
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info(f"\tbest: #{one['job']} {shown} {one['params']}")
    if n_open:
        log.warning(f"\t{counted(n_open, 'job')} not finished")


def _has_finished(study: optuna.Study) -> bool:
    return any(trial.values is not None for trial in study.trials)
