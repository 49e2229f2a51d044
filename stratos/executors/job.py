"""Jobs: what is submitted for a stage by the plan and the settings, how it stands, and who runs it.

The job is the same everywhere: `stratos stage <run folder> <stage>`, which goes on from
what lies in the folder. So whatever ends it, the cure is to start it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stratos.core.errors import StratosError
from stratos.core.machine import Share
from stratos.core.process import JOB
from stratos.core.reasons import Because, Reason
from stratos.core.redact import redact
from stratos.ledger.reserves import LEAST_HOURS

if TYPE_CHECKING:
    from stratos.records import Offer, Plan, RoleChoice

# What lies in a run folder of its jobs, and what a job says there for whoever follows it.

FOLDER = "jobs"
"""Of a run: what its jobs leave."""


def folder_of(run: Path) -> Path:
    """Return where a run keeps what its jobs leave."""
    return run / FOLDER


def events_path(run: Path, stage: str) -> Path:
    """Return the file in which a job says how far it is."""
    return folder_of(run) / f"{stage}.events.jsonl"


def config_path(run: Path, stage: str) -> Path:
    """Return the folder with the config that a job was submitted with, as Hydra keeps it."""
    return folder_of(run) / f"{stage}.hydra"


TICK, WARN, NOTE, LOG, ERROR, BEGAN = "tick", "warn", "note", "log", "error", "began"
"""Kinds: how far it is, what to read, what comes next, metrics, what it died of, a start of it."""
_TICK_S = 0.5
"""Seconds between two lines of how far it is."""


class EventWriter:
    """Called with a kind and its values: adds them to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticked_at = 0.0

    def __call__(self, kind: str, *values: Any) -> None:
        """Say something; how far the job is at most twice a second."""
        if kind == TICK:
            if time.monotonic() < self._ticked_at + _TICK_S:
                return
            self._ticked_at = time.monotonic()
        line = json.dumps({kind: redact(list(values))}, default=str)
        # Opened each time: others see it then on a network disk. A line is worth less than the
        # work.
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(f"{line}\n")


def read_events(run: Path, stage: str, start: int) -> tuple[list[tuple[str, list[Any]]], int]:
    """Return what a stage's job has said from a byte on, and the byte behind it."""
    try:
        with events_path(run, stage).open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole, end, _ = data.rpartition(b"\n")
    events = []
    for line in whole.splitlines():
        # One may be cut short where its node died.
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            [(kind, values)] = json.loads(line).items()
            events.append((kind, values))
    return events, start + len(whole) + len(end)


Amount = Annotated[float, Meta(ge=0)]
StageName = Literal["probe", "synthesize", "distill", "evaluate", "deploy"]

_KILLS = frozenset((4, 6, 7, 8, 9, 11))
"""Signals that end a process at once: ILL, ABRT, BUS, FPE, KILL, SEGV."""
MORE_MEMORY = "Where its memory was at its end, type executor.memory_gib=<more GiB>."
"""Cure of a job that is killed again and again on a node."""


@dataclass(frozen=True)
class Returns:
    """What a job sends to this machine where they share no files, in GB (10^9 bytes), at most."""

    usd_per_gb: float = 0.0
    """What its cloud bills for that."""
    end_gb: float = 0.0
    """At its end."""
    copy_gb: float = 0.0
    """Each time that what it has done so far is brought back."""


@dataclass(frozen=True)
class JobSpec:
    """What is submitted; the same plan and settings give the same one at every start."""

    name: str
    """By which a job is found again, whoever submitted it."""
    stage: str
    folder: Path
    """Of the run, which the job reaches under the same path."""
    role: str
    """teacher, train or serve."""
    nodes: int
    usd_per_hour: float
    """Of all its servers together."""
    offer: Offer | None = None
    """The server that the plan chose; None where the role needs none."""
    hours: float | None = None
    """Its time limit; None leaves the engine's own."""
    planned_hours: float = 0.0
    """How long its servers are expected to be held, at the high end."""
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    """Variables that the job has beside those of the command that submits it."""
    withheld: tuple[str, ...] = ()
    """Variables of that command which the job does not get: keys of teachers."""
    spot: bool = False
    """Whether the server is rented on spot."""
    files: tuple[Path, ...] = ()
    """Of this machine, outside of the run folder, which the stage reads."""
    cache: Mapping[str, bytes] = field(default_factory=dict)
    """What the stage finds in the folder of the caches where that is not shared, by its name."""
    returns: Returns = Returns()
    paid_hours: float | None = None
    """For how many hours of its servers there is money; None for any number."""

    @property
    def gpus(self) -> int:
        """GPUs of each node that the plan counts with."""
        return 0 if self.offer is None else self.offer.accelerator_count


class UnknownSubmissionError(StratosError):
    """A job may have been submitted, and its engine does not say: it must not be forgotten."""


class State(Enum):
    """How a job stands."""

    PENDING = "pending"
    STUCK = "stuck"
    """It waits for what never comes, such as longer hours than its queue has."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It ended with an error of its own, which would come again."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """It ended by no fault of its own, was killed, or nobody knows any more how: it may be started
    again."""
    UNKNOWN = "unknown"
    """The engine does not answer; the job may well go on."""


OVER = frozenset((State.DONE, State.FAILED, State.CANCELLED, State.LOST))
"""States of a job that holds no server."""


@dataclass(frozen=True)
class Status:
    """How a job stands now."""

    state: State
    text: str
    """For the progress display and for messages."""
    since: float | None = None
    """When its servers were handed to it, in seconds since the epoch; None where that is not
    known."""
    cure: str = ""
    """What to type where it ends in this way again and again."""


@dataclass
class Job:
    """A job that was submitted, now or by an earlier command."""

    spec: JobSpec
    id: str
    """As the engine knows it."""
    label: str
    """For messages, such as "SLURM job 12"."""
    log: Path
    """What it prints."""
    is_new: bool = True
    """Whether it was submitted now."""
    expected: str = ""
    """When it would start, as the engine expects; "" where it does not say."""
    submitted_at: float = field(default_factory=time.time, repr=False)
    """Seconds since the epoch."""
    may_copy: bool = field(default=True, repr=False)
    """Whether there is money for one more copy of what it has done so far."""
    n_heard: int = field(default=0, repr=False)
    """Bytes of its events that were read."""


@dataclass(frozen=True)
class TaggedServer:
    """A server in an account of the user's that has the tags of a run."""

    name: str
    """As its cloud knows it."""
    run: str
    role: str
    server: str
    """Cloud, region and instance type."""
    since: float
    """When it was launched, in seconds since the epoch."""
    end: str
    """The command that ends it."""


@dataclass(frozen=True)
class TaggedServers:
    """Servers with the tags of runs, as far as the clouds answer."""

    servers: tuple[TaggedServer, ...]
    left_out: Mapping[str, str]
    """Cloud and region that does not answer, such as aws/eu-west-1, to what it says instead."""


@dataclass(frozen=True)
class Executor(ABC):
    """Whatever runs jobs, and what every one of them may be told."""

    kind: ClassVar[str]
    """Choice of the group: the name of its YAML."""
    runs_here: ClassVar[bool] = False
    """Whether its jobs are processes of this machine."""
    takes_nodes: ClassVar[bool] = False
    """Whether a job may have several nodes."""
    shares_files: ClassVar[bool] = True
    """Whether a job reaches the run folder and the folder of the caches of this machine."""
    is_cluster: ClassVar[bool] = False
    """Whether its nodes are up, and are the offers of the cloud that is called as it is."""
    ends_s: ClassVar[float] = 10.0
    """Seconds that the end of a job takes, at least, for which money is kept back."""
    serve_command: ClassVar[str] = "sh outputs/<run>/deploy/serve.sh (on the node that is to serve)"
    """What is typed to serve the student of a run on its servers."""
    stages: tuple[StageName, ...] = ()
    """Stages that run as jobs, of probe, synthesize, distill, evaluate and deploy; one that asks a
    hosted teacher, or needs no server, stays in this process."""
    hours: Annotated[float, Meta(gt=0)] | None = None
    """Time limit of a job, in hours; null takes the plan's hours, times hours_factor."""
    hours_factor: Annotated[float, Meta(ge=1)] = 2.0
    """By how much a job may take longer than the high end of what is planned."""
    usd_per_hour: Amount | None = None
    """Dollars that a node costs an hour, for the ledger; null takes the price of the plan's server,
    0 is for nodes of your own."""
    max_pending_hours: Amount | None = None
    """Longest wait in a queue; null waits as long as limits.deadline_hours, or without end."""

    @abstractmethod
    def unusable(self) -> Reason | None:
        """Return why no job can be submitted from here, with what to type; None if it can."""

    @abstractmethod
    def submit(self, spec: JobSpec) -> Job:
        """Submit a job, or return the one of its name that still waits or runs.

        `submission.known_id` has the id of that one, also for `cancel`. What the job prints goes
        to `Job.log`, in `folder_of(spec.folder)`.

        Raises:
            StratosError: the engine refuses it.
            UnknownSubmissionError: it may have been submitted, and the engine does not say.
            CapacityError: its server cannot be had; the plan is solved again without it.
        """

    @abstractmethod
    def status(self, job: Job) -> Status:
        """Return how a job stands; it is asked every other second.

        Raises:
            CapacityError: its server cannot be had; the plan is solved again without it.
        """

    @abstractmethod
    def cancel(self, spec: JobSpec) -> float | None:
        """End every job of this name, and return when none is left.

        Returns:
            When its servers were handed to it, in seconds since the epoch, where the engine learns
            that only now; None where it had none, or `status` says it.

        Raises:
            StratosError: one is still there; the message has the command that ends it.
        """

    @abstractmethod
    def release(self, job: Job) -> None:
        """Give back what the engine holds for a job that has ended."""

    def no_node_takes(self) -> Reason | None:
        """Return why none of its nodes can take a job of these settings; None if not known."""
        return None

    def withheld(self) -> tuple[str, ...]:
        """Return the variables of this environment that no job may get: others can read its own."""
        return ()

    def rents_spot(self, planned: bool) -> bool:
        """Return whether the planned server is rented on spot.

        Args:
            planned: whether the plan does so.
        """
        return planned

    def usd_per_gb_of(self, offer: Offer | None, listed: Callable[[str], float]) -> float:
        """Return dollars for a GB that a job sends to this machine.

        Args:
            offer: the server that the plan chose.
            listed: gives the list price of a cloud, by its name.
        """
        return 0.0

    def egress_gb(self, spec: JobSpec) -> float:
        """Return how many GB a job sends to this machine that are billed, at most."""
        return 0.0

    def where(self) -> str:
        """Return the name of the cluster that has the jobs; "" where there is none."""
        return ""

    def spans(self, job: Job) -> list[tuple[float, float]] | None:
        """Return when a job that has ended held its servers, by its engine.

        Returns:
            Begin and end of each time, in seconds since the epoch, none where it never did; None
            where the engine does not know.
        """
        return None

    def events(self, job: Job) -> Iterator[tuple[str, list[Any], bool]]:
        """Yield what a job has said since the last call: kind, values, and whether it is old.

        What was said before an earlier command submitted the job is old.
        """
        is_old = not job.is_new and job.n_heard == 0
        events, job.n_heard = read_events(job.spec.folder, job.spec.stage, job.n_heard)
        for kind, values in events:
            yield kind, values, is_old


def why_no_executor(cls: type) -> Reason | None:
    """Return that a class runs no jobs; None if it does."""
    return None if issubclass(cls, Executor) else Because("is no executor.")


def killed_by(code: int | None) -> int | None:
    """Return the signal that killed a process; None where it ended by itself, or was told to end.

    Args:
        code: its exit code: -9 after a SIGKILL, or 128 + 9 where a shell ran it.
    """
    if code is None:
        return None
    number = -code if code < 0 else code - 128
    return number if number in _KILLS else None


ROLE_OF: dict[str, str] = {
    "probe": "teacher",
    "synthesize": "teacher",
    "distill": "train",
    "evaluate": "serve",
    "deploy": "serve",
}
"""Stage to the role of the plan whose server does its work."""
PLANNED = frozenset(("synthesize", "distill"))
"""Stages whose hours a plan tells. There is none before the probe, and the hours of a server that
serves are those of the service, not of the stages that try it."""


def has_server(stage: str, plan: Plan | None) -> bool:
    """Return whether the plan has a server for a stage; before there is a plan, any will do."""
    return stage == "probe" or _choice(plan, stage) is not None


def offer_of(plan: Plan | None, stage: str) -> Offer | None:
    """Return the server that the plan chose for a stage; None where there is none."""
    choice = _choice(plan, stage)
    return None if choice is None else choice.offer


def job_spec(
    plan: Plan | None,
    stage: str,
    folder: Path,
    settings: Executor,
    *,
    deadline_hours: float | None = None,
    nodes: int = 1,
    **more: Any,
) -> JobSpec:
    """Return the job of a stage.

    Args:
        plan: of the run; the probe has none.
        stage: its name.
        folder: of the run.
        settings: of the executor.
        deadline_hours: of the run; no job takes longer.
        nodes: that it runs on.
        more: fields of the job that neither the plan nor the settings tell.
    """
    folder = folder.resolve()
    name = job_name(folder, stage)
    choice = _choice(plan, stage)
    offer = None if choice is None else choice.offer
    planned = 0.0
    if choice is not None and stage in PLANNED:
        planned = max(choice.hours, *(choice.hours_range or (0.0,)))
        planned *= max(1.0, choice.count / nodes)  # a plan that was made for more servers
    hours = settings.hours
    if hours is None:
        limits = [] if deadline_hours is None else [deadline_hours]
        if planned:
            limits.append(max(LEAST_HOURS, planned * settings.hours_factor))
        hours = min(limits, default=None)
    is_spot, price = _price(choice, settings)
    if settings.usd_per_hour is not None:
        price = settings.usd_per_hour
    return JobSpec(
        name=name,
        stage=stage,
        folder=folder,
        role=ROLE_OF[stage],
        nodes=nodes,
        offer=offer,
        hours=hours,
        planned_hours=planned or min(LEAST_HOURS, hours or LEAST_HOURS),
        usd_per_hour=price * nodes,
        command=(sys.executable, "-m", "stratos", "stage", str(folder), stage, "--job"),
        env={JOB: name},
        spot=is_spot,
        **more,
    )


def job_name(folder: Path, stage: str) -> str:
    """Return the name of a stage's job: one for each run folder."""
    mark = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    shown = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name)[:60]
    return f"stratos-{shown}-{mark}-{stage}"


def _choice(plan: Plan | None, stage: str) -> RoleChoice | None:
    if plan is None or stage == "probe":
        return None
    choices = plan.roles_of(ROLE_OF[stage])
    return next((choice for choice in choices if choice.offer is not None), None)


def _price(choice: RoleChoice | None, settings: Executor) -> tuple[bool, float]:
    """Return whether a server is rented on spot, and its dollars an hour.

    A spot server whose price is not known is counted at the on-demand price: it costs no more.
    """
    if choice is None or choice.offer is None:
        return False, 0.0
    spot = choice.offer.usd_per_hour_spot
    is_spot = settings.rents_spot(choice.spot and spot is not None)
    return is_spot, spot if is_spot and spot is not None else choice.offer.usd_per_hour


def chosen_share(
    spec: JobSpec, cloud: str, shares: Callable[[], list[Share]], manager: str
) -> Share | None:
    """Return what the plan chose of a cluster; None where it chose another cloud's server.

    Args:
        spec: of the job.
        cloud: of the offers that are nodes of the cluster.
        shares: asks the cluster, nodes that run no jobs now included.
        manager: of the cluster, for messages.

    Raises:
        StratosError: there is no such node any more.
    """
    offer = spec.offer
    if offer is None or offer.cloud != cloud:
        return None
    for share in shares():
        if (share.partition, share.name) == (offer.region, offer.instance_type):
            return share
    raise StratosError(
        f"{spec.stage}: {manager} has no node any more that is {offer.name}, which the plan chose. "
        "Delete plan.json in the folder of the run, and give the same command again with plan "
        "among its stages."
    )
