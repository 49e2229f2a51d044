"""Runs jobs in spawned processes and outlives each of them."""

from __future__ import annotations

import importlib
import logging
import math
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    configure_log,
    env_override,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.stratos_launchers._settings import PoolConfig
from omegaconf import DictConfig, open_dict

from stratos.core.counted import counted
from stratos.core.machine import n_cores
from stratos.core.os_signals import (
    GRACE_S,
    Terminated,
    end_as_by_ctrl_c,
    end_group,
    end_with_parent,
)

log = logging.getLogger(__name__)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOOK_S = 1.0
"""Between two looks at what jobs take, where there is a limit."""


class JobFailedError(CompactHydraException):
    """A job raised an error or was killed; its traceback, if any, is in its console.log."""


@dataclass(frozen=True)
class Sweep:
    """What every job of a sweep has in common."""

    settings: PoolConfig
    config: DictConfig
    """Of Hydra, before any job's overrides."""
    hydra_context: HydraContext
    task_function: TaskFunction


@dataclass
class _Job:
    """One job of the sweep, and the process that runs it."""

    index: int
    overrides: list[str]
    config: DictConfig
    log_path: Path
    n_starts: int = 0
    process: SpawnProcess | None = None
    receiver: Connection | None = None
    outcome: JobReturn = field(default_factory=JobReturn)
    started_at: float = 0.0
    passed: str = ""
    """Which limit it passed, and was ended for."""
    kill_at: float = math.inf
    """When it is ended for good, if it has not ended by then."""


def launch(
    sweep: Sweep, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> Sequence[JobReturn]:
    """Run the jobs, at most `n_jobs` at a time; return their outcomes in the order given."""
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    jobs = [
        _prepare(sweep, list(overrides), initial_job_idx + offset)
        for offset, overrides in enumerate(job_overrides)
    ]
    n_threads = sweep.settings.threads_per_job or max(1, n_cores() // sweep.settings.n_jobs)
    log.info(
        f"Launching {counted(len(jobs), 'job')}, {sweep.settings.n_jobs} at a time with "
        f"{counted(n_threads, 'thread')} each"
    )
    waiting, running = list(jobs), list[_Job]()
    try:
        while waiting or running:
            while waiting and len(running) < sweep.settings.n_jobs:
                job = waiting.pop(0)
                _start(job, sweep, n_threads)
                running.append(job)
            for job in running:
                _check_limits(job, sweep)
            for job in _ended(running, None if _has_no_limits(sweep) else _LOOK_S):
                running.remove(job)
                if not _collect(job) and job.n_starts <= sweep.settings.retries:
                    log.warning(f"\t{job.outcome._return_value} It starts again.")
                    waiting.insert(0, job)
                else:
                    _say(job)
    finally:
        _stop(running)
    return [job.outcome for job in jobs]


def _prepare(sweep: Sweep, overrides: list[str], index: int) -> _Job:
    """Compose the config of one job."""
    config = sweep.hydra_context.config_loader.load_sweep_config(sweep.config, overrides)
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(index), index
    folder = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
    return _Job(index, overrides, config, folder / "console.log")


def _start(job: _Job, sweep: Sweep, n_threads: int) -> None:
    """Start the process of a job; it writes to the job's console.log."""
    context = multiprocessing.get_context("spawn")
    job.receiver, sender = context.Pipe(duplex=False)
    arguments = (
        sender,
        job.log_path,
        _name_of(sweep.task_function),
        sweep.hydra_context,
        job.config,
        str(version.getbase()),
        JobRuntime.instance().get("name"),
    )
    # Not a daemon: a job may start processes of its own.
    job.process = context.Process(target=_work, args=arguments, name=f"stratos-job-{job.index}")
    job.log_path.parent.mkdir(parents=True, exist_ok=True)
    job.n_starts += 1
    log.info(f"\t#{job.index} : {' '.join(filter_overrides(job.overrides))}  → {job.log_path}")
    job.started_at = time.monotonic()
    with _threads(n_threads):
        job.process.start()
    sender.close()  # so that the pipe ends when the process does


def _ended(running: list[_Job], timeout_s: float | None) -> list[_Job]:
    """Wait until a job ends or says its outcome, and return those that did."""
    by_receiver = {job.receiver: job for job in running if job.receiver is not None}
    ended = wait(list(by_receiver), timeout_s)
    return [by_receiver[receiver] for receiver in ended]  # type: ignore[index]


def _has_no_limits(sweep: Sweep) -> bool:
    return sweep.settings.timeout_minutes is None and sweep.settings.memory_gib is None


def _check_limits(job: _Job, sweep: Sweep) -> None:
    """Tell a job to end that passes a limit, and end it where it does not."""
    if job.passed:
        if time.monotonic() > job.kill_at and job.process is not None:
            end_group(job.process.pid or 0, job.process.kill)
        return
    minutes = (time.monotonic() - job.started_at) / 60
    if sweep.settings.timeout_minutes is not None and minutes > sweep.settings.timeout_minutes:
        job.passed = f"hydra.launcher.timeout_minutes={sweep.settings.timeout_minutes:g}"
    elif sweep.settings.memory_gib is not None and _memory_gib(job) > sweep.settings.memory_gib:
        job.passed = f"hydra.launcher.memory_gib={sweep.settings.memory_gib:g}"
    else:
        return
    if job.process is not None:
        log.warning(f"\t#{job.index} : passed {job.passed} and is ended")
        job.process.terminate()
        job.kill_at = time.monotonic() + GRACE_S


def _memory_gib(job: _Job) -> float:
    """Return the resident memory of a job with all processes that it started."""
    import psutil

    n_bytes = 0
    with suppress(psutil.Error):
        process = psutil.Process(job.process.pid if job.process is not None else None)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # ended by now
                n_bytes += one.memory_info().rss
    return n_bytes / 2**30


def _collect(job: _Job) -> bool:
    """Take the outcome of a job that ended; False if it died without one."""
    assert job.process is not None and job.receiver is not None
    try:
        job.outcome = job.receiver.recv()
        died = False
    except (EOFError, OSError):
        died = True
    job.receiver.close()
    job.process.join()
    if died and job.passed:
        job.outcome = JobReturn(overrides=job.overrides, status=JobStatus.FAILED)
        job.outcome.return_value = JobFailedError(
            f"Job {job.index} passed {job.passed} and was ended; see {job.log_path}."
        )
        return True
    if died:
        code = job.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        job.outcome = JobReturn(overrides=job.overrides, status=JobStatus.FAILED)
        job.outcome.return_value = JobFailedError(f"Job {job.index} {how}; see {job.log_path}.")
        # An exit of its own accord would come again; only a kill is worth another try.
        return code >= 0
    return True


def _say(job: _Job) -> None:
    value = job.outcome._return_value
    if job.outcome.status == JobStatus.COMPLETED:
        log.info(f"\t#{job.index} : done → {value}")
    else:
        log.error(f"\t{value}")


def _stop(running: list[_Job]) -> None:
    """End the jobs that still run: the sweep was interrupted."""
    for job in running:
        if job.process is not None and job.process.is_alive():
            job.process.terminate()
    last = time.monotonic() + GRACE_S
    for job in running:
        if job.process is not None:
            job.process.join(max(0.0, last - time.monotonic()))
            if job.process.is_alive():
                end_group(job.process.pid or 0, job.process.kill)


def _work(
    sender: Connection,
    log_path: Path,
    task: tuple[str, str],
    hydra_context: HydraContext,
    config: DictConfig,
    version_base: str,
    job_name: str,
) -> None:
    """Run one job; this is the whole life of its process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that it can be ended with all that it starts
    end_as_by_ctrl_c()
    end_with_parent()
    _redirect(log_path)
    # Hydra's state of this process; its singletons as a whole hold resolvers, which do not pickle.
    version.setbase(version_base)
    JobRuntime.instance().set("name", job_name)
    setup_globals()
    try:
        outcome = run_job(
            hydra_context=hydra_context,
            task_function=_task_named(*task),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except Terminated as told:  # what was under way is settled
        sys.exit(told.exit_code)
    if outcome.status == JobStatus.FAILED:
        error = outcome._return_value
        said = str(error)
        if not isinstance(error, CompactHydraException):  # one that is no message to the user
            traceback.print_exception(error)
            said = f"{type(error).__name__}: {said}"
        # As text: not every exception can be sent to another process.
        outcome.return_value = JobFailedError(
            f"Job {config.hydra.job.num} failed (see {log_path}): {said}"
        )
    sender.send(outcome)
    sender.close()


def _redirect(log_path: Path) -> None:
    """Send all that this process and its children print to a file of the job's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


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


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Give a process that starts now its share of the cores, unless the user has said it."""
    wanted = {name: str(n_threads) for name in _THREAD_VARIABLES if name not in os.environ}
    with env_override(wanted):
        yield
