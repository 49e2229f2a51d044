"""Stages as jobs of Ray, on a file system that its nodes share with this machine.

Ray runs the command of a job on a node that has what it asks for, tells how it ended, and never
starts it again. So a job that is lost is submitted again, under the next number.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from msgspec import Meta

from stratos.contrib.ray.nodes import (
    CLOUD,
    DEFAULT,
    GPU_TYPE,
    VARIABLE,
    Dashboard,
    Unreachable,
    connect,
    shares_of_cluster,
)
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import duration
from stratos.core.process import JOB_SECONDS
from stratos.core.reasons import Reason
from stratos.core.redact import is_secret_variable
from stratos.executors import submission
from stratos.executors.job import (
    MORE_MEMORY,
    Executor,
    Job,
    JobSpec,
    StageName,
    State,
    Status,
    chosen_share,
    folder_of,
    killed_by,
)

NO_FOLDER, NO_PYTHON = 78, 79
"""How the script ends where the node cannot run the command."""
_MIB = 2**20
_MIB_A_GIB = 1024
_MARK = "mark"


@dataclass(frozen=True)
class Ask:
    """What a job asks of a node."""

    cpus: float
    gpus: float
    memory_mib: float
    more: Mapping[str, float] = field(default_factory=dict)
    """Other resources, by their names."""
    is_any_cpu: bool = False
    """Whether nobody chose the number of CPUs: it may use what the node has."""

    @property
    def memory_bytes(self) -> int:
        """As Ray counts it."""
        return round(self.memory_mib * _MIB)

    @property
    def resources(self) -> dict[str, float]:
        """All of it by Ray's names."""
        own = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_bytes}
        return {**{name: amount for name, amount in own.items() if amount}, **self.more}

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        if self.gpus:
            parts.append(f"{self.gpus:g} GPU")
        if self.memory_mib:
            parts.append(f"{self.memory_mib / _MIB_A_GIB:.3g} GiB of memory")
        for name, amount in self.more.items():
            parts.append(name if name.startswith(GPU_TYPE) else f"{amount:g} {name}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Attempt:
    """One of the jobs that were submitted for a stage, one after another."""

    folder: Path
    """In which its files lie."""
    id: str
    """As Ray knows it."""

    @property
    def log(self) -> Path:
        """What it prints; it is there from when the job is submitted."""
        return self.folder / f"{self.id}.log"

    @property
    def marker(self) -> Path:
        """A file that is there for as long as the job is to run."""
        return self.folder / f"{self.id}.wanted"

    @property
    def _began(self) -> Path:
        return self.folder / f"{self.id}.began"

    @property
    def is_wanted(self) -> bool:
        """Return whether the job is to run."""
        return self.marker.exists()

    @property
    def began_at(self) -> float | None:
        """When its node was handed to it, in seconds since the epoch; None if it was not."""
        try:
            return float(self._began.read_text())
        except (OSError, ValueError):
            return None

    def want(self) -> None:
        """Write down that the job is to run."""
        self.log.touch()
        self.marker.touch()

    def revoke(self) -> None:
        """Take back that it is: where it waits, it ends when it starts."""
        self.marker.unlink(missing_ok=True)

    def script(self, command: tuple[str, ...], ask: Ask) -> str:
        """Return what Ray runs: the command, where the node can, and it still is to."""
        log, variables, began = (
            shlex.quote(str(path)) for path in (self.log, self.marker, self._began)
        )
        # Ray sets it to the CPUs that were asked for, which were nobody's choice.
        threads = ["unset OMP_NUM_THREADS"] if ask.is_any_cpu else []
        return "\n".join((
            f"test -e {log} || exit {NO_FOLDER}",
            f"test -e {variables} || exit 0",
            f"command -v {shlex.quote(command[0])} >/dev/null || exit {NO_PYTHON}",
            f"date +%s >{began}",
            f"echo Its output is in {log}",
            *threads,
            f"exec {shlex.join(command)} >>{log} 2>&1",
        ))  # fmt: skip


def attempts(spec: JobSpec) -> list[Attempt]:
    """Return the jobs that were submitted for a stage, the first one first."""
    folder = _folder(spec)
    try:
        prefix = _prefix(spec)
    except FileNotFoundError:
        n, prefix = 0, ""
    else:
        n = sum(1 for _ in folder.glob(f"{prefix}*.log"))
    # The folder of the run may be gone, and then one job is known.
    known = submission.id_of(spec.name)
    ids = [f"{prefix}{i}" for i in range(1, n + 1)] or ([known] if known else [])
    return [Attempt(folder, id) for id in ids]


def attempt(job: Job) -> Attempt:
    """Return a job."""
    return Attempt(_folder(job.spec), job.id)


def next_attempt(spec: JobSpec) -> Attempt:
    """Return the job that is submitted next.

    A cluster has many users and Ray knows none of them: two that have a run folder of one path, on
    disks of their own, are told apart by what is drawn here.
    """
    folder = _folder(spec)
    if not (folder / _MARK).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _MARK, secrets.token_hex(3).encode())
    prefix = _prefix(spec)
    n = sum(1 for _ in folder.glob(f"{prefix}*.log"))
    return Attempt(folder, f"{prefix}{n + 1}")


def _prefix(spec: JobSpec) -> str:
    """Return how the ids of a stage's jobs begin."""
    return f"{spec.name}-{(_folder(spec) / _MARK).read_text()}-"


def _folder(spec: JobSpec) -> Path:
    return folder_of(spec.folder) / "ray"


_ENDS_S = 300.0
"""How long a cancelled job may take to be gone."""
_SILENT_S = 60.0
"""How long a cluster may be silent that is to end a job."""
_SAVES_S = 120
"""Seconds that a job gets to save and end before Ray kills it; 3 by Ray's own choice."""
_STARTS_S = 60.0
"""How long a cluster that has just been started may take until it takes jobs."""
_AFTER_US_S = 60.0
"""By how much later a job ends itself than the command that follows it would end it."""
_LOOK_S = 0.5
_MS_A_S = 1000
_OF_A_TYPE = 0.001
"""Asked of the resource that tells the type of a node's GPUs: any amount asks for such a node."""
_HANDED_ON = ("OMP_NUM_THREADS", "PYTHONPATH", "HF_HOME", "HF_HUB_OFFLINE")
"""Variables that a job gets from this process, beside those of Stratos and of `executor.env`."""
_TOLD = (-15, 128 + 15)
"""Exit codes of a command that was told to end, by whoever takes the node away."""
_LOST = frozenset((
    None, "JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
))  # fmt: skip
"""Errors of jobs whose command did not end by itself: their node, or the head, was lost."""
_TOO_LATE = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
"""Error of a job that Ray let wait for 15 minutes, and then gave up."""
_CHANGE = (
    "Change executor.gpus, executor.cpus, executor.memory_gib or executor.resources, see ray "
    "status, or type executor=here."
)

_out_of_time: set[str] = set()
"""Jobs that this process told to end because of their time limit."""


@dataclass(frozen=True)
class Ray(Executor):
    """Submit stages to a Ray cluster."""

    kind: ClassVar[str] = "ray"
    is_cluster: ClassVar[bool] = True
    stages: tuple[StageName, ...] = ("distill",)
    """Stages that run as jobs, of probe, synthesize, distill, evaluate and deploy; one that asks a
    hosted teacher, or needs no server, stays in this process."""
    address: str | None = None
    """Dashboard of the cluster, such as http://10.0.0.1:8265; null takes RAY_API_SERVER_ADDRESS,
    else http://127.0.0.1:8265."""
    cpus: Annotated[float, Meta(gt=0)] | None = None
    """CPUs; null takes those that the plan chose with cloud=ray, else 1 is asked for."""
    gpus: Annotated[float, Meta(ge=0)] | None = None
    """GPUs of the node; null takes those of the plan's server."""
    memory_gib: Annotated[float, Meta(gt=0)] | None = None
    """Memory in GiB; null takes what the plan chose with cloud=ray, else none is asked for."""
    resources: dict[str, Annotated[float, Meta(gt=0)]] | None = None
    """What else the node must have, by Ray's names, such as {my_disk: 1}."""
    autoscales: bool = False
    """The cluster adds nodes when jobs wait: a job may ask for what no node has now."""
    python: str | None = None
    """Python of the nodes; null takes the path of the one that runs this command."""
    env: tuple[str, ...] = ()
    """Variables of this environment that a job gets; whoever reaches the dashboard reads them."""

    def unusable(self) -> Reason | None:
        """Return why nothing can be submitted; asks the cluster for its version."""
        try:
            self._connect()
        except StratosError as error:
            return Unreachable(str(error))
        return None

    def withheld(self) -> tuple[str, ...]:
        """Return the keys and passwords of this environment, but for those of `env`."""
        return tuple(
            name for name in os.environ if is_secret_variable(name) and name not in self.env
        )

    def submit(self, spec: JobSpec) -> Job:
        """Submit a job, or return the one of its name that waits or runs."""
        if (reason := self.unusable()) is not None:
            raise StratosError(str(reason))
        cluster = self._connect()
        for known in reversed(attempts(spec)):
            if not _is_active(cluster, spec, known):
                continue
            if known.is_wanted:
                return _job(spec, known, is_new=False)
            self.cancel(spec)  # left by a run folder of this path that was deleted
        return _job(spec, self._send(cluster, spec), is_new=True)

    def status(self, job: Job) -> Status:
        """Return how a job stands.

        Raises:
            StratosError: its node cannot run it.
        """
        try:
            cluster = self._connect()
            facts = cluster.get(f"/api/jobs/{job.id}")
        except (OSError, StratosError) as error:
            return Status(State.UNKNOWN, f"Ray does not answer ({error})")
        if facts is None:
            return Status(State.LOST, f"{job.label} is forgotten by Ray")
        node = urlsplit(str(facts.get("driver_agent_http_address"))).hostname or "a node"
        name, since = facts["status"], attempt(job).began_at
        if name == "PENDING":
            return Status(State.PENDING, f"{job.label} {self._waits(cluster, job.spec)}")
        if name == "RUNNING":
            self._limit(cluster, job, since)
            return Status(State.RUNNING, f"{job.label} on {node}", since)
        if name == "SUCCEEDED":
            return Status(State.DONE, "it ended", since)
        if name == "STOPPED" and job.id in _out_of_time:
            limit = duration((job.spec.hours or 0) * 3600)
            return Status(State.LOST, f"{job.label} has reached its limit of {limit}", since)
        if name == "STOPPED":
            return Status(State.CANCELLED, "it was stopped", since)
        if facts.get("error_type") == _TOO_LATE:
            again = self._send(cluster, job.spec)
            job.id, job.label, job.log = again.id, f"Ray job {again.id}", again.log
            return Status(State.PENDING, f"{job.label} {self._waits(cluster, job.spec)}")
        return self._failed(job, facts, node, since)

    def cancel(self, spec: JobSpec) -> None:
        """Have Ray end every job of this name, and wait until it is gone.

        Ray cannot take back a job that waits. It stays listed as pending, and ends as soon as it
        starts, because it is not wanted any more.
        """
        running = attempts(spec)
        for known in running:
            known.revoke()
        began = heard = time.monotonic()
        while running:
            try:
                cluster = self._connect()
                running = [known for known in running if _is_ending(cluster, known)]
                heard = time.monotonic()
            except (OSError, StratosError):
                pass  # for a while
            now = time.monotonic()
            if running and (now > began + _ENDS_S or now > heard + _SILENT_S):
                where = f" --address={self.address}" if self.address else ""
                raise StratosError(
                    f"{spec.stage}: the job {running[-1].id} is not gone after {now - began:.0f} s."
                    f" Type ray job stop{where} {running[-1].id}, and see ray job list{where}."
                )
            if running:
                time.sleep(_LOOK_S)

    def release(self, job: Job) -> None:
        """Take notice that a job is not wanted any more."""
        attempt(job).revoke()

    def where(self) -> str:
        """Return the address of the dashboard."""
        return (self.address or os.environ.get(VARIABLE) or DEFAULT).rstrip("/")

    def spans(self, job: Job) -> list[tuple[float, float]] | None:
        """Return when the last job of a stage held its node: by its files, and as Ray knows it."""
        last = (attempts(job.spec) or [attempt(job)])[-1]
        began = last.began_at
        if began is None:
            return [] if last.log.exists() else None
        try:
            facts = self._connect().get(f"/api/jobs/{last.id}") or {}
        except (OSError, StratosError):
            facts = {}
        if facts.get("status") == "RUNNING":
            return [(began, time.time())]
        ms = facts.get("end_time")
        ended = ms / _MS_A_S if ms else last.log.stat().st_mtime
        return [(began, max(began, ended))]

    def _connect(self) -> Dashboard:
        return connect(self.address, "executor.address")

    def _failed(self, job: Job, facts: dict[str, Any], node: str, since: float | None) -> Status:
        error, code = facts.get("error_type"), facts.get("driver_exit_code")
        if code == NO_FOLDER:
            folder = attempt(job).folder
            raise StratosError(
                f"{job.spec.stage}: {node} of the Ray cluster does not see {folder}. The run has "
                "to lie on a file system that this machine and all nodes share under one "
                "path: type hydra.run.dir=<folder>. Or run it on this machine: executor=here."
            )
        if code == NO_PYTHON:
            raise StratosError(
                f"{job.spec.stage}: {node} of the Ray cluster has no "
                f"{self.python or job.spec.command[0]}. Install Stratos on the nodes, and type "
                "executor.python=<its Python there>. Or run it on this machine: executor=here."
            )
        if code in _TOLD:
            return Status(State.LOST, f"{job.label} was told to end on {node}", since)
        if code is None and error in _LOST:
            return Status(State.LOST, f"{job.label} has lost its node", since)
        if code is None:
            lines = str(facts.get("message")).strip().splitlines()
            return Status(State.FAILED, f"{error}: {lines[-1] if lines else ''}", since)
        if (number := killed_by(code)) is not None:
            text = f"{job.label} was killed by signal {number} on {node}"
            return Status(State.LOST, text, since, MORE_MEMORY)
        return Status(State.FAILED, f"exit code {code}", since)

    def _limit(self, cluster: Dashboard, job: Job, since: float | None) -> None:
        """Tell a job to end that has reached its time limit; Ray has none."""
        hours = job.spec.hours
        if hours is None or since is None or time.time() < since + hours * 3600:
            return
        _out_of_time.add(job.id)
        with contextlib.suppress(OSError):  # it is told again
            _stop(cluster, job.id)

    def _waits(self, cluster: Dashboard, spec: JobSpec) -> str:
        """Say what a job waits for, and how much of that is in use."""
        try:
            ask = self._ask(spec)
        except StratosError:  # what the plan chose is gone, and may come back
            return "waits"
        used = cluster.in_use()
        busy = [f"{used[name][0]:g} of {used[name][1]:g} {name}" for name in ("CPU", "GPU")
                if name in ask.resources and name in used]  # fmt: skip
        return f"waits for {ask}" + (f" ({', '.join(busy)} in use)" if busy else "")

    def _send(self, cluster: Dashboard, spec: JobSpec) -> Attempt:
        """Submit a job under the next number.

        Raises:
            StratosError: no node has what it asks for, or Ray refuses it.
        """
        ask, new = self._ask(spec), next_attempt(spec)
        try:
            # A node that is lost comes back; one that was never there does not.
            may_appear = bool(attempts(spec)) or self.autoscales
            if not (may_appear or any(node.has(ask.resources) for node in cluster.nodes())):
                raise StratosError(
                    f"{spec.stage}: no node of the Ray cluster has what the job asks for ({ask}). "
                    f"{_CHANGE} Or, where the cluster adds nodes when jobs wait, type "
                    "executor.autoscales=true."
                )
            new.want()
            self._post(cluster, spec, new, ask)
        except (OSError, RuntimeError, ValueError) as error:
            if not _is_active(cluster, spec, new):  # it was heard, and its answer was not
                new.revoke()
                why = (str(error).strip() or repr(error)).splitlines()[-1][:300].rstrip(".")
                raise StratosError(
                    f"{spec.stage}: Ray refused the job: {why}. It was asked for {ask}. {_CHANGE}"
                ) from error
        return new

    def _post(self, cluster: Dashboard, spec: JobSpec, new: Attempt, ask: Ask) -> None:
        command = (self.python or spec.command[0], *spec.command[1:])
        until = time.monotonic() + _STARTS_S
        while True:
            try:
                cluster.client.submit_job(
                    entrypoint=new.script(command, ask),
                    submission_id=new.id,
                    runtime_env={"env_vars": self._variables(spec)},
                    metadata={"stage": spec.stage, "folder": str(spec.folder)},
                    entrypoint_num_cpus=ask.cpus,
                    entrypoint_num_gpus=ask.gpus or None,
                    entrypoint_memory=ask.memory_bytes or None,
                    entrypoint_resources=dict(ask.more) or None,
                )
                return
            except RuntimeError as error:
                if "try again later" not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(_LOOK_S)

    def _ask(self, spec: JobSpec) -> Ask:
        """Return what a job asks for: settings first, then what the plan chose."""
        share = chosen_share(spec, CLOUD, lambda: shares_of_cluster(self.address), "Ray")
        more = dict(self.resources or {})
        gpus = float(spec.gpus) if self.gpus is None else self.gpus
        memory = 0.0 if self.memory_gib is None else self.memory_gib * _MIB_A_GIB
        if share is None:
            return Ask(self.cpus or 1.0, gpus, memory, more, is_any_cpu=self.cpus is None)
        if share.gpu and gpus:
            more.setdefault(f"{GPU_TYPE}{share.gpu}", _OF_A_TYPE)
        return Ask(self.cpus or float(share.cpus), gpus, memory or share.memory_mib, more)

    def _variables(self, spec: JobSpec) -> dict[str, str]:
        """Return the variables of a job: few, because the dashboard shows them."""
        names = [name for name in os.environ if name.startswith("STRATOS_")]
        passed_on = {*names, *_HANDED_ON, *self.env} - {*spec.withheld}
        ours = {name: os.environ[name] for name in sorted(passed_on) if name in os.environ}
        hours = [name for name in (spec.hours, spec.paid_hours) if name is not None]
        if hours:
            ours[JOB_SECONDS] = f"{min(hours) * 3600 + _AFTER_US_S:.0f}"
        return {**ours, **spec.env, "RAY_JOB_STOP_WAIT_TIME_S": str(_SAVES_S)}


def _job(spec: JobSpec, attempt: Attempt, is_new: bool) -> Job:
    return Job(spec, attempt.id, f"Ray job {attempt.id}", attempt.log, is_new)


def _is_active(cluster: Dashboard, spec: JobSpec, known: Attempt) -> bool:
    """Return whether a job waits or runs.

    Raises:
        StratosError: Ray does not say.
    """
    try:
        facts = cluster.get(f"/api/jobs/{known.id}")
    except OSError as error:
        raise StratosError(
            f"{spec.stage}: Ray does not say how the job {known.id} stands ({error}). Give the "
            "same command again when the cluster answers."
        ) from error
    return facts is not None and facts["status"] in ("PENDING", "RUNNING")


def _is_ending(cluster: Dashboard, known: Attempt) -> bool:
    """Tell a job to end, and return whether it has yet to.

    Ray calls a job running before it starts its script: one that is pending now, behind its being
    revoked, runs nothing any more.

    Raises:
        OSError: the cluster does not answer.
    """
    facts = cluster.get(f"/api/jobs/{known.id}")
    if facts is None or facts["status"] != "RUNNING":
        return False
    _stop(cluster, known.id)
    return True


def _stop(cluster: Dashboard, id: str) -> None:
    try:
        cluster.client.stop_job(id)
    except RuntimeError as error:  # it has ended by now, or the agent of the head is busy
        raise OSError(str(error)) from error
