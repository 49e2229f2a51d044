"""Runs jobs in spawned processes and outlives each of them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from hydra.core.utils import (
    JobReturn,
    configure_log,
    env_override,
    filter_overrides,
    setup_globals,
)
from hydra_plugins.stratos_launchers._one_job import (
    OneJob,
    Sweep,
    failed,
    log_path_of,
    one_job,
    say,
)
from hydra_plugins.stratos_launchers._settings import PoolConfig
from omegaconf import DictConfig

from stratos.core.formats import counted
from stratos.core.machine import n_cores
from stratos.core.process import (
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


@dataclass
class _Job:
    """One job of the sweep, and the process that runs it."""

    index: int
    overrides: list[str]
    config: DictConfig
    n_starts: int = 0
    process: SpawnProcess | None = None
    receiver: Connection | None = None
    outcome: JobReturn = field(default_factory=JobReturn)
    started_at: float = 0.0
    passed: str = ""
    """Which limit it passed, and was ended for."""
    kill_at: float = math.inf
    """When it is ended for good, if it has not ended by then."""

    @property
    def log_path(self) -> Path:
        """Return the file of all that it prints."""
        return log_path_of(self.config)


def launch(
    sweep: Sweep,
    settings: PoolConfig,
    job_overrides: Sequence[Sequence[str]],
    numbers: Sequence[int],
) -> Sequence[JobReturn]:
    """Run the jobs, at most `n_jobs` at a time; return their outcomes in the order given."""
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    jobs = [
        _Job(index, list(overrides), sweep.job_config(list(overrides), index))
        for index, overrides in zip(numbers, job_overrides, strict=True)
    ]
    n_threads = settings.threads_per_job or max(1, n_cores() // settings.n_jobs)
    log.info(
        f"Launching {counted(len(jobs), 'job')}, {settings.n_jobs} at a time with "
        f"{counted(n_threads, 'thread')} each"
    )
    waiting, running = list(jobs), list[_Job]()
    try:
        while waiting or running:
            while waiting and len(running) < settings.n_jobs:
                job = waiting.pop(0)
                _start(job, sweep, n_threads)
                running.append(job)
            for job in running:
                _check_limits(job, settings)
            for job in _ended(running, None if _has_no_limits(settings) else _LOOK_S):
                running.remove(job)
                if not _collect(job) and job.n_starts <= settings.retries:
                    log.warning(f"\t{job.outcome._return_value} It starts again.")
                    waiting.insert(0, job)
                else:
                    say(job.config, job.index, job.outcome, log)
    finally:
        _stop(running)
    return [job.outcome for job in jobs]


def _start(job: _Job, sweep: Sweep, n_threads: int) -> None:
    """Start the process of a job; it writes to the job's console.log."""
    context = multiprocessing.get_context("spawn")
    job.receiver, sender = context.Pipe(duplex=False)
    # Not a daemon: a job may start processes of its own.
    job.process = context.Process(
        target=_work, args=(sender, one_job(sweep, job.config)), name=f"stratos-job-{job.index}"
    )
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


def _has_no_limits(settings: PoolConfig) -> bool:
    return settings.timeout_minutes is None and settings.memory_gib is None


def _check_limits(job: _Job, settings: PoolConfig) -> None:
    """Tell a job to end that passes a limit, and end it where it does not."""
    if job.passed:
        if time.monotonic() > job.kill_at and job.process is not None:
            end_group(job.process.pid or 0, job.process.kill)
        return
    minutes = (time.monotonic() - job.started_at) / 60
    if settings.timeout_minutes is not None and minutes > settings.timeout_minutes:
        job.passed = f"hydra.launcher.timeout_minutes={settings.timeout_minutes:g}"
    elif settings.memory_gib is not None and _memory_gib(job) > settings.memory_gib:
        job.passed = f"hydra.launcher.memory_gib={settings.memory_gib:g}"
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
        job.outcome = failed(
            job.overrides, f"Job {job.index} passed {job.passed} and was ended; see {job.log_path}."
        )
        return True
    if died:
        code = job.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        job.outcome = failed(job.overrides, f"Job {job.index} {how}; see {job.log_path}.")
        # An exit of its own accord would come again; only a kill is worth another try.
        return code >= 0
    return True


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


def _work(sender: Connection, job: OneJob) -> None:
    """Run one job; this is the whole life of its process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that it can be ended with all that it starts
    end_as_by_ctrl_c()
    end_with_parent()
    try:
        outcome = job.outcome()
    except Terminated as told:  # what was under way is settled
        sys.exit(told.exit_code)
    sender.send(outcome)
    sender.close()


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Give a process that starts now its share of the cores, unless the user has said it."""
    wanted = {name: str(n_threads) for name in _THREAD_VARIABLES if name not in os.environ}
    with env_override(wanted):
        yield
