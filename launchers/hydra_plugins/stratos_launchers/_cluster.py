"""Runs the jobs of a sweep as jobs of a cluster, each a process of its own on some node.

They are submitted, watched and ended by the executors that run stages (`stratos.executors`). What a
job is, and how it ended, lies in files below the folder of the sweep, which the nodes share with
this machine and other users cannot read. A job is known by a token that is drawn for it, and says
it with its outcome: so that nothing that another sweep left in the folder is taken for its own.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import pickle
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import msgspec
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra_plugins.stratos_launchers import _known
from hydra_plugins.stratos_launchers._ending import end_all, end_one, end_others
from hydra_plugins.stratos_launchers._known import Left
from hydra_plugins.stratos_launchers._one_job import (
    JobFailedError,
    Sweep,
    failed,
    folder_of,
    log_path_of,
    one_job,
    say,
)
from hydra_plugins.stratos_launchers._outcome import Outcome, read_outcome
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stratos.core.atomic_files import write_privately
from stratos.core.errors import StratosError
from stratos.core.formats import counted, duration
from stratos.core.process import end_as_by_ctrl_c, locked
from stratos.executors import submission
from stratos.executors.job import (
    OVER,
    Executor,
    Job,
    JobSpec,
    State,
    Status,
    UnknownSubmissionError,
    job_name,
)
from stratos.executors.submission import Submission

log = logging.getLogger(__name__)

MODULE = "hydra_plugins.stratos_launchers._on_node"
_LOOK_S = 1.0
"""Between two rounds of questions; so long again for every ten jobs, which are asked for singly."""
_TRIES = 5
"""Times that a job of an earlier command is looked for where the cluster does not answer."""
_TRY_S = 3.0


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
    folder: Path
    """Of its own files."""
    spec: JobSpec
    token: str = ""
    n_starts: int = 0
    handle: Job | None = None
    outcome: JobReturn = field(default_factory=JobReturn)
    waits_since: float = 0.0
    ran: bool = False
    """Whether it was at work when it was last seen."""
    waits_again: bool = False
    was_there: bool = False
    """Whether an earlier command may have submitted it."""

    @property
    def log_path(self) -> Path:
        return log_path_of(self.config)

    @property
    def outcome_file(self) -> Path:
        """How it ended."""
        return self.folder / _known.OUTCOME


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


def launch(
    sweep: Sweep, cluster: Cluster, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
) -> Sequence[JobReturn]:
    """Run the jobs, at most `n_jobs` at a time; return their outcomes in the order given.

    Raises:
        JobFailedError: nothing can be submitted from here.
    """
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    end_as_by_ctrl_c()  # jobs do not end with this process
    if (reason := cluster.executor.unusable()) is not None:
        raise JobFailedError(cluster.in_our_words(str(reason)))
    place = Path(str(sweep.config.hydra.sweep.dir)).resolve()
    try:
        with locked(place / _known.FOLDER / ".lock"):
            os.chmod(place / _known.FOLDER, 0o700)
            return _launch(sweep, cluster, job_overrides, numbers)
    except BlockingIOError:
        raise JobFailedError(
            f"Another sweep works in {place}. Wait for it, or give this one a folder of its own: "
            "hydra.sweep.dir=<folder>."
        ) from None


def _launch(
    sweep: Sweep, cluster: Cluster, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]
) -> Sequence[JobReturn]:
    jobs = [
        _prepare(sweep, cluster, list(overrides), index)
        for index, overrides in zip(numbers, job_overrides, strict=True)
    ]
    log.info(
        f"Launching {counted(len(jobs), 'job')} on {cluster.kind}, at most {cluster.n_jobs} at a "
        "time"
    )
    place, names = Path(str(sweep.config.hydra.sweep.dir)), {job.folder.name for job in jobs}
    waiting, running = list(jobs), list[_Job]()
    try:
        end_others(place.resolve(), names, cluster.executor, cluster.in_our_words)
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
                if job.outcome.status == JobStatus.UNKNOWN:
                    waiting.insert(0, job)
                else:
                    say(job.config, job.index, job.outcome, log)
            if running:
                time.sleep(_LOOK_S * (1 + len(running) // 10))
    finally:
        _end(running, waiting, cluster)
    return [job.outcome for job in jobs]


def _prepare(sweep: Sweep, cluster: Cluster, overrides: list[str], index: int) -> _Job:
    """Return a job, by its token if an earlier command has drawn one.

    Raises:
        JobFailedError: each of its stages would wait for a node that such jobs hold.
    """
    config = sweep.job_config(overrides, index)
    _check_executor(config, cluster)
    run = folder_of(config).resolve()
    name = job_name(run, "sweep")
    folder = Path(str(config.hydra.sweep.dir)).resolve() / _known.FOLDER / name
    spec = JobSpec(
        name=name,
        stage=f"job {index}",
        folder=run,
        role="sweep",
        nodes=1,
        offer=None,
        hours=cluster.executor.hours,
        planned_hours=0.0,
        usd_per_hour=cluster.executor.usd_per_hour or 0.0,
        command=(),
        env={},
        withheld=cluster.executor.withheld(),
    )
    return _Job(index, overrides, config, folder, spec)


def _check_executor(config: DictConfig, cluster: Cluster) -> None:
    target = OmegaConf.select(config, "executor._target_", throw_on_resolution_failure=False)
    cls = type(cluster.executor)
    if target == f"{cls.__module__}.{cls.__qualname__}":
        raise JobFailedError(
            f"hydra/launcher={cluster.kind} with executor={cluster.kind}: every job of the sweep "
            "would hold a node while its stages wait for others. Type hydra/launcher=pool, "
            "so that the stages are submitted from this machine, or executor=here."
        )


def _submit(job: _Job, sweep: Sweep, cluster: Cluster) -> bool:
    """Submit a job, or find the one of an earlier command; False where it is refused."""
    job.folder.mkdir(parents=True, exist_ok=True)
    job.log_path.parent.mkdir(parents=True, exist_ok=True)
    job.log_path.touch()
    try:
        if not job.token:
            _draw(job, cluster)
        _hand_over(job, sweep)
        executor = cluster.executor
        where = executor.where()
        submission.add_to_list(Submission.of(executor, job.spec, cluster=where))
        job.handle = _submitted(job, cluster)
        if job.handle.is_new and job.was_there:  # one before it has ended just now
            job.outcome_file.unlink(missing_ok=True)
        handle = job.handle
        where = where or executor.where()
        submission.add_to_list(
            Submission.of(executor, job.spec, id=handle.id, label=handle.label, cluster=where)
        )
    except StratosError as error:
        if not job.was_there:  # nothing was submitted
            submission.take_off_list(job.spec.name)
        job.outcome = _failed(job, cluster, f"{error}")
        say(job.config, job.index, job.outcome, log)
        return False
    job.n_starts += 1
    job.waits_since = time.monotonic()
    what = " ".join(filter_overrides(job.overrides))
    log.info(f"\t#{job.index} : {what}  → {job.handle.label}, {job.log_path}")
    return True


def _draw(job: _Job, cluster: Cluster) -> None:
    """Give a job its token: that of an earlier command, if it is the same job.

    Raises:
        StratosError: a job of an earlier command, with other settings, does not end.
    """
    mark, base = _mark(job.config), job.spec
    if (known := _known.find(job.folder)) is not None:
        before = _known.left(job.folder, known, cluster.executor)
        outcome = read_outcome(job.outcome_file, known.token)
        if outcome is not None:
            how = "is done" if outcome.is_done else "has failed"
            log.info(
                f"\t#{job.index} : {how} since the sweep was killed; it runs again, and goes on"
            )
        elif known.mark == mark and type(before.executor) is type(cluster.executor):
            _take_token(job, base, known.token)
            job.was_there = True
            return
        before.executor.cancel(before.spec)
        submission.take_off_list(before.spec.name)
    token = secrets.token_hex(4)
    _take_token(job, base, token)
    _known.keep(job.folder, _known.Known(token, mark, str(base.folder)))


def _take_token(job: _Job, base: JobSpec, token: str) -> None:
    # In the name, too: two folders may have one, and a folder may be deleted while its job runs.
    job.token, job.spec = token, replace(base, name=f"{base.name}-{token}")


def _hand_over(job: _Job, sweep: Sweep) -> None:
    """Write down what a job is; its command tells the digest, so that nothing else is loaded."""
    how: dict[str, Any] = spawn.get_preparation_data(f"stratos-job-{job.index}")
    how.pop("authkey", None)
    file = job.folder / _known.PICKLE
    if job.was_there and file.exists():  # the job may have yet to read it
        data = file.read_bytes()
    else:
        data = pickle.dumps((how, pickle.dumps(one_job(sweep, job.config))))
        write_privately(file, data)
        job.outcome_file.unlink(missing_ok=True)
    digest = hashlib.sha256(data).hexdigest()
    words = (sys.executable, "-m", MODULE, str(job.folder), job.token, digest)
    job.spec = replace(job.spec, command=words)


def _submitted(job: _Job, cluster: Cluster) -> Job:
    """Submit a job; where it may have been submitted before, insist on an answer."""
    n_tries = 0
    while True:
        n_tries += 1
        try:
            return cluster.executor.submit(job.spec)
        except StratosError as error:
            job.was_there |= isinstance(error, UnknownSubmissionError)
            if not job.was_there or n_tries >= _TRIES:
                raise
            time.sleep(_TRY_S)


def _mark(config: DictConfig) -> str:
    """Return the digest of what a job is made from: its config, without Hydra's own part."""
    own = {str(key): _resolved(config, str(key)) for key in config if key != "hydra"}
    return hashlib.sha256(OmegaConf.to_yaml(own, sort_keys=True).encode()).hexdigest()


def _resolved(config: DictConfig, key: str) -> Any:
    """Return a value with what it takes from elsewhere, such as variables of the environment."""
    try:
        value = config[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, ValueError):  # what the job alone can answer
        return OmegaConf.to_container(config)[key]  # type: ignore[index,call-overload]


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
        gone = " It is cancelled." if _cancel(job, cluster) else ""
        job.outcome = _failed(job, cluster, f"Job {job.index}: {status.text}{gone}")
        return True
    _say_change(job, status)
    if status.state not in OVER:
        return False
    cluster.executor.release(job.handle)
    submission.take_off_list(job.spec.name)
    if (found := read_outcome(job.outcome_file, job.token)) is not None:
        job.outcome = _returned(job, found)
        _known.clear(job.folder)
        return True
    # Without a word it was killed, or another command took its files away just now.
    if status.state in (State.LOST, State.DONE) and job.n_starts <= cluster.retries:
        log.warning(f"\t#{job.index} : {status.text}; it is submitted again")
        job.outcome = JobReturn(overrides=job.overrides)
        job.was_there = False
        return True
    _known.clear(job.folder)
    cure = f" {status.cure}" if status.cure else ""
    job.outcome = _failed(
        job, cluster, f"Job {job.index} ended without a word: {status.text}.{cure} See "
        f"{job.log_path} and {job.handle.log}.",
    )  # fmt: skip
    return True


def _say_change(job: _Job, status: Status) -> None:
    """Say that a job has to wait again, such as for another user's, and that it goes on."""
    if job.ran and status.state is State.PENDING:
        log.warning(f"\t#{job.index} : {status.text}; it goes on from its last checkpoint")
        job.ran, job.waits_again = False, True
    elif status.state is State.RUNNING:
        if job.waits_again:
            log.info(f"\t#{job.index} : {status.text}")
        job.ran, job.waits_again = True, False


def _returned(job: _Job, found: Outcome) -> JobReturn:
    if not found.is_done:
        return failed(job.overrides, found.message)
    outcome = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    outcome.return_value = found.value
    return outcome


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


def _cancel(job: _Job, cluster: Cluster) -> bool:
    """End a job; return whether it is gone. One that is not stays on the list of what runs."""
    return end_one(_left(job, cluster), cluster.in_our_words)


def _end(running: list[_Job], waiting: list[_Job], cluster: Cluster) -> None:
    """End the jobs that still wait or run, all at once: the sweep was interrupted.

    Of those that it had yet to submit an earlier command may have left some.
    """
    left = [(job, _left(job, cluster)) for job in running if job.token]
    for job in waiting:
        if (known := _known.find(job.folder)) is not None:
            left.append((job, _known.left(job.folder, known, cluster.executor)))
    if left:
        log.warning(
            f"{counted(len(left), 'job')} of {cluster.kind} told to end; waiting until they are"
        )
        end_all([(f"#{job.index}", one) for job, one in left], cluster.in_our_words)


def _left(job: _Job, cluster: Cluster) -> Left:
    return Left(job.folder, cluster.executor, job.spec)
