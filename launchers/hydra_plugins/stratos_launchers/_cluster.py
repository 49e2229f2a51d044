"""Runs the jobs of a sweep as jobs of a cluster, each a process of its own on some node.

They are submitted, watched and ended by the executors that run stages (`stratos.executors`). What a
job is, and how it ended, lies in files of its folder, which the nodes share with this machine.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import msgspec
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra_plugins.stratos_launchers._one_job import (
    JobFailedError,
    Sweep,
    failed,
    folder_of,
    log_path_of,
    one_job,
)
from omegaconf import DictConfig, OmegaConf

from stratos.core.atomic_files import write_atomically
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import duration
from stratos.core.os_signals import end_as_by_ctrl_c
from stratos.executors import started
from stratos.executors.job import Executor, Job, JobSpec, State, Status
from stratos.executors.job_of_stage import job_name

log = logging.getLogger(__name__)

MODULE = "hydra_plugins.stratos_launchers._on_node"
_FOLDER = "jobs"
_LOOK_S = 1.0
"""Between two rounds of questions; so long again for every ten jobs, which are asked for singly."""
_OVER = frozenset((State.DONE, State.FAILED, State.CANCELLED, State.LOST))


@dataclass(frozen=True)
class Cluster:
    """Where jobs are submitted, and how many."""

    kind: str
    """Choice of the launcher."""
    executor: Executor
    n_jobs: int
    retries: int

    def in_our_words(self, message: str) -> str:
        """Say what an executor says of its settings as one of a launcher."""
        for theirs, ours in (
            ("executor=here", "hydra/launcher=pool"),
            (f"executor={self.kind}", f"hydra/launcher={self.kind}"),
            ("executor.", "hydra.launcher."),
        ):
            message = message.replace(theirs, ours)
        return message


@dataclass
class _Job:
    """One job of the sweep."""

    index: int
    overrides: list[str]
    config: DictConfig
    spec: JobSpec
    n_starts: int = 0
    handle: Job | None = None
    outcome: JobReturn = field(default_factory=JobReturn)
    waits_since: float = 0.0

    @property
    def log_path(self) -> Path:
        return log_path_of(self.config)

    @property
    def file(self) -> Path:
        """What it is."""
        return _file(self.spec.folder)

    @property
    def mark(self) -> str:
        """Digest of what it is made from: its config without Hydra's own part."""
        own = [str(key) for key in self.config if key != "hydra"]
        text = OmegaConf.to_yaml(OmegaConf.masked_copy(self.config, own), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def outcome_file(self) -> Path:
        """How it ended."""
        return outcome_file(self.file)


def executor_of(kind: str, target: str, settings: Mapping[str, Any]) -> Executor:
    """Return the executor of a launcher.

    Raises:
        JobFailedError: a setting is none.
    """
    module, _, name = target.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    try:
        made: Executor = msgspec.convert(dict(settings), cls)
    except msgspec.ValidationError as error:
        raise JobFailedError(f"hydra/launcher={kind}: {error}") from error
    return made


def outcome_file(file: Path) -> Path:
    """Return where a job says how it ended, by the file that says what it is."""
    return file.with_name("sweep_outcome.pickle")


def launch(
    sweep: Sweep, cluster: Cluster, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> Sequence[JobReturn]:
    """Run the jobs, at most `n_jobs` at a time; return their outcomes in the order given.

    Raises:
        JobFailedError: nothing can be submitted from here.
    """
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    end_as_by_ctrl_c()  # jobs do not end with this process
    if (why := cluster.executor.unusable()) is not None:
        raise JobFailedError(cluster.in_our_words(why))
    jobs = [
        _prepare(sweep, cluster, list(overrides), index)
        for index, overrides in enumerate(job_overrides, initial_job_idx)
    ]
    log.info(
        f"Launching {counted(len(jobs), 'job')} on {cluster.kind}, at most {cluster.n_jobs} at a "
        "time"
    )
    waiting, running = list(jobs), list[_Job]()
    try:
        while waiting or running:
            while waiting and len(running) < cluster.n_jobs:
                job = waiting.pop(0)
                running.append(job)  # first: what is submitted and not known has to be ended
                if not _submit(job, sweep, cluster):
                    running.remove(job)
            for job in list(running):
                if not _is_over(job, cluster):
                    continue
                running.remove(job)
                _forget(job)
                if job.outcome.status == JobStatus.UNKNOWN:
                    waiting.insert(0, job)
                else:
                    _say(job)
            if running:
                time.sleep(_LOOK_S * (1 + len(running) // 10))
    finally:
        _end(running, cluster)
    return [job.outcome for job in jobs]


def _prepare(sweep: Sweep, cluster: Cluster, overrides: list[str], index: int) -> _Job:
    config = sweep.job_config(overrides, index)
    folder = folder_of(config).resolve()
    spec = JobSpec(
        name=job_name(folder, "sweep"),
        stage=f"job {index}",
        folder=folder,
        role="sweep",
        nodes=1,
        offer=None,
        hours=cluster.executor.hours,
        planned_hours=0.0,
        usd_per_hour=cluster.executor.usd_per_hour or 0.0,
        command=(sys.executable, "-m", MODULE, str(_file(folder))),
        env={},
    )
    return _Job(index, overrides, config, spec)


def _file(folder: Path) -> Path:
    """Return the file that says what the job of a folder is."""
    return folder / _FOLDER / "sweep_job.pickle"


def _submit(job: _Job, sweep: Sweep, cluster: Cluster) -> bool:
    """Submit a job, or find the one of an earlier command; False where it is refused."""
    job.file.parent.mkdir(parents=True, exist_ok=True)
    job.log_path.touch()
    mark = job.file.with_name("sweep_mark")
    try:
        if mark.exists() and mark.read_text() != job.mark:
            cluster.executor.cancel(job.spec)  # of an earlier command, with other settings
        mark.write_text(job.mark)
        write_atomically(job.file, _to_send(sweep, job))
        job.outcome_file.unlink(missing_ok=True)
        started.keep(cluster.executor, job.spec)
        job.handle = cluster.executor.submit(job.spec)
        started.keep(cluster.executor, job.spec, job.handle.id, job.handle.place)
    except StratosError as error:
        _forget(job)
        job.outcome = _failed(job, cluster, f"{error}")
        _say(job)
        return False
    job.n_starts += 1
    job.waits_since = time.monotonic()
    what = " ".join(filter_overrides(job.overrides))
    log.info(f"\t#{job.index} : {what}  → {job.handle.place}, {job.log_path}")
    return True


def _to_send(sweep: Sweep, job: _Job) -> bytes:
    """Return what the process of a job needs: where modules are found, then the job."""
    how: dict[str, Any] = spawn.get_preparation_data(f"stratos-job-{job.index}")
    how.pop("authkey", None)
    return pickle.dumps((how, pickle.dumps(one_job(sweep, job.config))))


def _is_over(job: _Job, cluster: Cluster) -> bool:
    """Return whether a job has ended; it has an outcome then, unless it is to start again."""
    assert job.handle is not None
    try:
        status = cluster.executor.status(job.handle)
    except StratosError as error:
        _cancel(job, cluster)
        job.outcome = _failed(job, cluster, str(error))
        return True
    if status.state is State.STUCK or _waits_too_long(job, cluster, status):
        _cancel(job, cluster)
        job.outcome = _failed(job, cluster, f"Job {job.index}: {status.text} It is cancelled.")
        return True
    if status.state not in _OVER:
        return False
    cluster.executor.release(job.handle)
    try:
        job.outcome = pickle.loads(job.outcome_file.read_bytes())
        return True
    except (OSError, EOFError, pickle.UnpicklingError):
        pass  # it was killed, or ended just when this command came for it
    if status.state in (State.LOST, State.DONE) and job.n_starts <= cluster.retries:
        log.warning(f"\t#{job.index} : {status.text}; it is submitted again")
        job.outcome = JobReturn(overrides=job.overrides)
        return True
    job.outcome = _failed(
        job, cluster, f"Job {job.index} ended without a word: {status.text}. {status.cure} See "
        f"{job.log_path} and {job.handle.log}.".replace(".  See", ". See"),
    )  # fmt: skip
    return True


def _waits_too_long(job: _Job, cluster: Cluster, status: Status) -> bool:
    if status.state is not State.PENDING:
        job.waits_since = time.monotonic()
        return False
    most, waited = cluster.executor.max_pending_hours, time.monotonic() - job.waits_since
    if most is None or waited <= most * 3600:
        return False
    log.warning(
        f"\t#{job.index} : has waited {duration(waited)}, and may wait {most:g} h "
        "(hydra.launcher.max_pending_hours)"
    )
    return True


def _failed(job: _Job, cluster: Cluster, message: str) -> JobReturn:
    return failed(job.overrides, cluster.in_our_words(message))


def _say(job: _Job) -> None:
    value = job.outcome._return_value
    if job.outcome.status == JobStatus.COMPLETED:
        log.info(f"\t#{job.index} : done → {value}")
    else:
        log.error(f"\t{value}")


def _forget(job: _Job) -> None:
    started.forget(job.spec.name)


def _cancel(job: _Job, cluster: Cluster) -> None:
    try:
        cluster.executor.cancel(job.spec)
        _forget(job)
    except StratosError as error:
        log.error(f"\t{cluster.in_our_words(str(error))}")


def _end(running: list[_Job], cluster: Cluster) -> None:
    """End the jobs that still wait or run: the sweep was interrupted."""
    if running:
        log.warning(f"{counted(len(running), 'job')} of {cluster.kind} told to end …")
    for job in running:
        _cancel(job, cluster)
