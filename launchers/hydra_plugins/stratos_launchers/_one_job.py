"""One job of a sweep, wherever its process is: its config, its console, how it ends."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from stratos.core.output import Guarded
from stratos.report.sweep_jobs import reached_in


class JobFailedError(CompactHydraException):
    """A job raised an error or was killed; its traceback, if any, is in its console.log."""


@dataclass(frozen=True)
class Sweep:
    """What every job of a sweep has in common."""

    config: DictConfig
    """Of Hydra, before any job's overrides."""
    hydra_context: HydraContext
    task_function: TaskFunction

    def job_config(self, overrides: list[str], index: int) -> DictConfig:
        """Compose the config of one job."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(index), index
        return config


@dataclass(frozen=True)
class OneJob:
    """All that another process needs to run a job; it pickles."""

    log_path: Path
    task: tuple[str, str]
    """Module and name of the function."""
    hydra_context: HydraContext
    config: DictConfig
    version_base: str
    job_name: str

    def outcome(self) -> JobReturn:
        """Run the job in this process, which is its own, and say how it ended.

        Raises:
            Terminated: the process was told to end; what was under way is settled.
        """
        redirect(self.log_path)
        # Hydra's state of this process; its singletons as a whole hold resolvers, which do not
        # pickle.
        version.setbase(self.version_base)
        JobRuntime.instance().set("name", self.job_name)
        setup_globals()
        outcome = run_job(
            hydra_context=self.hydra_context,
            task_function=_task_named(*self.task),
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        if outcome.status == JobStatus.FAILED:
            error = outcome._return_value
            said = str(error)
            if not isinstance(error, CompactHydraException):  # one that is no message to the user
                traceback.print_exception(error)
                said = f"{type(error).__name__}: {said}"
            # As text: not every exception can be sent to another process.
            outcome.return_value = JobFailedError(
                f"Job {self.config.hydra.job.num} failed (see {self.log_path}): {said}"
            )
        return outcome


def one_job(sweep: Sweep, config: DictConfig) -> OneJob:
    """Return what another process needs to run a job."""
    return OneJob(
        log_path_of(config),
        _name_of(sweep.task_function),
        sweep.hydra_context,
        config,
        str(version.getbase()),
        JobRuntime.instance().get("name"),
    )


def log_path_of(config: DictConfig) -> Path:
    """Return the file of all that a job prints."""
    return folder_of(config) / "console.log"


def folder_of(config: DictConfig) -> Path:
    """Return the folder of a job."""
    return Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)


def failed(overrides: list[str], message: str) -> JobReturn:
    """Return the outcome of a job that left none."""
    outcome = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    outcome.return_value = JobFailedError(message)
    return outcome


def say(config: DictConfig, index: int, outcome: JobReturn, log: logging.Logger) -> None:
    """Say how a job ended: what it reached, or what an app of another kind returned."""
    if outcome.status == JobStatus.COMPLETED:
        log.info(f"\t#{index} : done → {reached_in(folder_of(config)) or outcome._return_value}")
    else:
        log.error(f"\t{outcome._return_value}")


def redirect(log_path: Path) -> None:
    """Send all that this process and its children print to a file of the job's own.

    What this process prints passes the redaction, to its end: settings may hold secrets.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout, sys.stderr = Guarded(sys.stdout), Guarded(sys.stderr)


def _name_of(task_function: TaskFunction) -> tuple[str, str]:
    """Return module and name of a task function.

    `@hydra.main` leaves its own wrapper under the function's name, so that the function itself
    cannot be pickled; the wrapper, called with a config, calls the function.
    """
    module = task_function.__module__
    if module == "__main__":
        # `python -m package` has a spec, and multiprocessing leaves its main module alone; a
        # script has none, and multiprocessing imports it again under this name.
        spec = sys.modules["__main__"].__spec__
        module = "__mp_main__" if spec is None else spec.name
    return module, task_function.__qualname__


def _task_named(module: str, name: str) -> TaskFunction:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
