"""Stages as jobs of SLURM, on a file system that its nodes share with this machine.

submitit writes the batch script and has SLURM requeue a job that is preempted or reaches its time
limit. How a job stands is asked of SLURM itself: accounting, which submitit asks, need not be
there, and calls a job failed whose node died and that runs again.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.limits import (
    NoNodeTakes,
    NoPartition,
    NoSbatch,
    NoSubmitit,
    Silent,
    TooFewHours,
    TooManyHours,
    allowance_of_user,
    usual_account,
    usual_qos,
)
from stratos.contrib.slurm.nodes import (
    CLOUD,
    cluster,
    constraint_of,
    gres_of,
    last_line,
    limits,
    longest,
    partitions,
    run,
    shares_of_cluster,
    time_of,
    user,
    usual,
)
from stratos.contrib.slurm.queue import expected_start, reason, signal_of, silent
from stratos.core.errors import StratosError
from stratos.core.extensions import table
from stratos.core.formats import duration
from stratos.core.machine import Share
from stratos.core.reasons import Reason
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
)

_UNUSABLE = re.compile(r"[\n\r\\]|%[jtAa]")
"""Ends a line of the batch script, or ends or begins what SLURM and submitit replace in a path."""


def slurm_folder(spec: JobSpec) -> Path:
    """Return the folder of batch scripts and logs.

    Raises:
        StratosError: no batch script can name it.
    """
    folder = folder_of(spec.folder) / "slurm"
    if (match := _UNUSABLE.search(str(folder))) is not None:
        raise StratosError(
            f"{spec.stage}: the folder of the run has {match[0]!r} in its path "
            f"({str(spec.folder)!r}), which a batch script of SLURM cannot name. Type "
            "hydra.run.dir=<folder without it>, or executor=here."
        )
    return folder


def pattern(spec: JobSpec, task: str) -> str:
    """Return the same as SLURM is told it, which replaces what stands behind a % in a path.

    Args:
        spec: of the job.
        task: number of a process of the job, or what SLURM puts in its place.
    """
    folder = str(slurm_folder(spec)).replace("%", "%%")
    return f"{folder}/%j_{task}_log.out"


_MIB_A_GIB = 1024
_GPUS = re.compile(r"gpu(?::(?P<type>[^:]*[^:\d][^:]*))?(?::(?P<n>\d+))?")


@dataclass(frozen=True)
class Server:
    """What a job asks of a node; None asks for nothing."""

    gpus: int | None
    gres: str | None
    """In SLURM's words, in place of `gpus`."""
    cpus: int | None
    memory_gib: float | None

    def options(self) -> dict[str, tuple[str | float, str]]:
        """Return each setting that asks for something: its value, and the option of sbatch."""
        options = (
            ("gpus", None if self.gres else self.gpus, f"--gpus-per-node={self.gpus}"),
            ("gres", self.gres, f"--gres={self.gres}"),
            ("cpus", self.cpus, f"--cpus-per-task={self.cpus}"),
            ("memory_gib", self.memory_gib, f"--mem={(self.memory_gib or 0) * _MIB_A_GIB:.0f}M"),
        )
        return {key: (value, option) for key, value, option in options if value}


def no_node_takes(request: Server, places: Mapping[str, str | None]) -> NoNodeTakes | None:
    """Return why no node can take a job of the settings; None where one can, or may later.

    `sbatch --test-only` judges by the nodes that are up. A node that is drained has to be waited
    for, so that one that has enough, up or not, is no reason to refuse.

    Args:
        request: what the job asks of a node.
        places: options of sbatch that tell where it may run, such as "partition".
    """
    options = request.options()
    if not options:
        return None
    where = [f"--{key}={value}" for key, value in places.items() if value]
    refusal = _refusal(*where, *(option for _, option in options.values()))
    if refusal is None or _refusal(*where) is not None:
        return None
    if _has_enough(request, places.get("partition")):
        return None
    return NoNodeTakes({key: value for key, (value, _) in options.items()}, refusal)


def _refusal(*options: str) -> str | None:
    """Return why SLURM refuses a job; None where it takes it."""
    answer = slurm_nodes.run("sbatch", "--test-only", *options, "--wrap=true")
    return last_line(answer.stderr + answer.stdout) if answer.returncode else None


def _has_enough(request: Server, partition: str | None) -> bool:
    """Return whether some node has as much, be it up or not."""
    match = _GPUS.fullmatch(request.gres or "")
    if request.gres and match is None:
        return False
    card = "" if match is None else match["type"] or ""
    gpus = (request.gpus or 0) if match is None else int(match["n"] or 1)
    partitions = partition.split(",") if partition else None
    try:
        shares = shares_of_cluster(is_any=True)
    except StratosError:
        return True  # nobody knows
    return any(
        (partitions is None or share.partition in partitions)
        and share.n_gpus >= gpus
        and (not card or share.gpu == card)
        and share.cpus >= (request.cpus or 0)
        and share.memory_mib >= (request.memory_gib or 0.0) * _MIB_A_GIB
        for share in shares
    )


Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]

_ENDS_S = 300.0
"""How long a cancelled job may take to be gone: its nodes clean up behind it."""
_LOOK_S = 0.5
_SAVES_S = 90
"""Seconds before its time limit at which a job is told to save and go back into the queue."""
_LEAST_MINUTES = 3
"""Of a time limit: SLURM counts whole minutes, and a start takes part of them."""
_TAIL_BYTES = 20_000
_NO_LIMIT_MINUTES = 365 * 24 * 60
"""Of a job without a limit, in a partition without one."""

_STATES = {
    name: State[state] for state, names in table(__file__, "states.toml").items() for name in names
}
"""As `scontrol` names them; all others hold nodes."""
_NEVER = re.compile(
    r"PartitionTimeLimit|(QOS|Assoc)Max\w*PerJob\w*|Invalid(Account|QOS)|(Account|QOS)NotAllowed"
)
"""Reasons to wait that time does not change."""
_OPTIONS = (
    "nodes", "ntasks_per_node", "partition", "qos", "account", "constraint", "gres",
    "gpus_per_node", "cpus_per_task", "mem", "time",
)  # fmt: skip
"""What submitit is told of a job that sbatch calls the same, but for its dashes."""
_SOON_S = 120.0
_GOES_ON = frozenset((State.PENDING, State.STUCK, State.RUNNING, State.UNKNOWN))
_CHANGE = (
    "Change executor.partition, executor.qos, executor.gpus, executor.cpus, executor.memory_gib or "
    "executor.hours"
)
_MORE_TIME = (
    "What it has done is kept: the same command goes on. Type executor.hours=<more hours>, or "
    "executor.max_timeouts=<more>."
)
_CURES = {
    "OUT_OF_MEMORY": "More memory is asked for with executor.memory_gib=<GiB>.",
    "TIMEOUT": "What it has done is kept; it goes on for longer with executor.hours=<hours>.",
    "DEADLINE": "What it has done is kept; it goes on for longer with executor.hours=<hours>.",
}


@dataclass(frozen=True)
class Slurm(Executor):
    """Submit stages to SLURM."""

    kind: ClassVar[str] = "slurm"
    takes_nodes: ClassVar[bool] = True
    is_cluster: ClassVar[bool] = True
    stages: tuple[StageName, ...] = ("distill",)
    """Stages that run as jobs, of probe, synthesize, distill, evaluate and deploy; one that asks a
    hosted teacher, or needs no server, stays in this process."""
    partition: str | None = None
    """Partition; null takes the cluster's default."""
    qos: str | None = None
    """Quality of service; null takes SBATCH_QOS, else the account's default."""
    account: str | None = None
    """Account that is charged; null takes SBATCH_ACCOUNT, else the user's default."""
    gpus: CountOrZero | None = None
    """GPUs of the node; null takes those of the plan's server."""
    gres: str | None = None
    """Generic resources in SLURM's words, such as gpu:h100:2, in place of gpus."""
    cpus: Count | None = None
    """CPUs; null takes the partition's default."""
    memory_gib: Annotated[float, Meta(gt=0)] | None = None
    """Memory in GiB; null takes the partition's default."""
    constraint: str | None = None
    """Features that the node must have, in SLURM's words."""
    max_timeouts: CountOrZero = 3
    """How often a job that reaches its time limit goes back into the queue and on from there."""

    def unusable(self) -> Reason | None:
        """Return why nothing can be submitted; asks SLURM for its partitions."""
        if shutil.which("sbatch") is None:
            return NoSbatch()
        if importlib.util.find_spec("submitit") is None:
            return NoSubmitit()
        answer = partitions()
        if answer.returncode:
            return Silent(reason(answer))
        by_name = limits(answer.stdout)
        known = sorted(by_name)
        if self.partition is not None:
            unknown = [name for name in self.partition.split(",") if name not in known]
            if unknown:
                return NoPartition(self.partition, unknown[0], tuple(known))
        most = longest(answer.stdout, self.partition)
        if self.hours is not None and round(self.hours * 60, 6) < _LEAST_MINUTES:
            return TooFewHours(self.hours, _LEAST_MINUTES / 60, _SAVES_S)
        if self.hours is not None and most is not None and self.hours * 60 > most:
            return TooManyHours(self.hours, most / 60)
        return None

    def no_node_takes(self) -> Reason | None:
        """Return why no node can take a job of these settings; None where one can, or may later."""
        places = {
            "partition": self.partition,
            "qos": self.qos,
            "account": self.account,
            "constraint": self.constraint,
        }
        return no_node_takes(Server(self.gpus, self.gres, self.cpus, self.memory_gib), places)

    def submit(self, spec: JobSpec) -> Job:
        """Submit a job, or return the one of its name that waits or runs."""
        if (refusal := self.unusable()) is not None:
            raise StratosError(str(refusal))
        folder = slurm_folder(spec)
        if (active := self._active(spec)) is not None:
            return _job(spec, active, is_new=False)
        share = _share(spec)
        starts, minutes, limited = self._starts(spec, share)
        parameters = self._parameters(spec, minutes, share)
        expected = "; ".join(filter(None, (_expected(parameters), limited)))
        try:
            id = slurm_queue.submit(spec, folder, parameters, starts - 1)
        except slurm_queue.RefusedError as error:
            if not error.is_heard:
                raise StratosError(
                    f"{spec.stage}: sbatch failed ({error}), and SLURM has no job {spec.name}: "
                    "nothing is submitted. Give the same command again, or type executor=here."
                ) from error
            raise StratosError(
                f"{spec.stage}: SLURM refused the job: {error}. It was asked for "
                f"{self._asked(spec, minutes, share)}. {_CHANGE}, or type executor=here."
            ) from error
        return _job(spec, id, is_new=True, expected=expected)

    def status(self, job: Job) -> Status:
        """Return how a job stands."""
        facts = slurm_queue.job_facts(job.id, job.spec.name)
        if facts is None:
            return Status(State.UNKNOWN, "SLURM does not answer")
        if not facts:
            return Status(State.LOST, f"{job.label} is forgotten by SLURM")
        name = facts.get("JobState", "")
        state = _STATES.get(name, State.RUNNING)
        if state is State.LOST and facts.get("Requeue") == "1" and not slurm_queue.is_over(facts):
            return Status(State.UNKNOWN, f"{job.label} has lost its node ({name})")
        if state is State.PENDING:
            if _NEVER.fullmatch(why := facts.get("Reason", "")):
                return Status(State.STUCK, f"{job.label} would wait forever ({why}). {_CHANGE}.")
            return Status(state, slurm_queue.waiting(job, facts))
        if state is State.RUNNING:
            where = facts.get("NodeList", "")
            return Status(state, f"{job.label} on {where}", time_of(facts.get("StartTime", "")))
        cure = _CURES.get(name, "")
        if state is State.FAILED and _says(job.log, b"timed-out too many times"):
            limits = "time limit as often as executor.max_timeouts lets it"
            text = f"{job.label} has reached its {limits}"
            return Status(state, text, time_of(facts.get("StartTime", "")), _MORE_TIME)
        if state is State.FAILED and _says(job.log, b"could not find submitted jobs in path"):
            return Status(State.LOST, f"{job.label} did not find what it was to run")
        if state is State.FAILED and (number := signal_of(facts.get("ExitCode", ""))) is not None:
            text = (
                f"{job.label} was killed by signal {number} on {facts.get('NodeList', 'its node')}"
            )
            return Status(State.LOST, text, time_of(facts.get("StartTime", "")), MORE_MEMORY)
        text = f"{name}, exit code {facts.get('ExitCode', '?')}. {cure}".rstrip(". ")
        return Status(state, text, time_of(facts.get("StartTime", "")))

    def cancel(self, spec: JobSpec) -> None:
        """Have SLURM end every job of this name, and wait until it is gone."""
        command = ("scancel", f"--name={spec.name}", f"--user={user()}")
        until = time.monotonic() + _ENDS_S
        run(*command)
        while (ids := slurm_queue.listed(spec.name)) or ids is None:
            if time.monotonic() > until:
                raise StratosError(
                    f"{spec.stage}: the job {spec.name} is not gone after {_ENDS_S:.0f} s. Type "
                    f"{' '.join(command)}, and see squeue --name={spec.name}."
                )
            time.sleep(_LOOK_S)

    def release(self, job: Job) -> None:
        """Give nothing back: the nodes of a job that has ended are SLURM's again."""

    def where(self) -> str:
        """Return the cluster that answers here: a login node may reach several."""
        return cluster()

    def spans(self, job: Job) -> list[tuple[float, float]] | None:
        """Return when a job held its nodes, as accounting knows it, else the controller."""
        return slurm_queue.running_spans(job.spec.name, job.id)

    def _active(self, spec: JobSpec) -> str | None:
        """Return the job of a name that waits or runs; None if none does.

        Raises:
            StratosError: SLURM does not say.
        """
        queued = slurm_queue.listed(spec.name)
        if queued is None:
            raise silent(spec.name)
        for id, state in reversed(queued):
            if state != "COMPLETING":
                return id
        # One whose node has died is in no queue until SLURM has put it there again.
        id = submission.known_id(self, spec)
        if not id or any(id == queued_id for queued_id, _ in queued):
            return None
        facts = slurm_queue.job_facts(id, spec.name)
        if facts is None:
            raise silent(spec.name)
        if not facts or facts.get("JobState") == "COMPLETING":
            return None
        stands = self.status(_job(spec, id, is_new=False))
        return id if stands.state in _GOES_ON else None

    def _starts(self, spec: JobSpec, share: Share | None) -> tuple[int, int, str]:
        """Return how often a job may reach its time limit, that in minutes, and what limits it.

        Whoever follows the job ends it where its money does. SLURM's own limit, at every start,
        does so where nobody follows it.
        """
        parts, minutes = self._parts(spec, share)
        starts = parts * (self.max_timeouts + 1)
        if spec.paid_hours is None:
            return starts, minutes, ""
        paid = max(_LEAST_MINUTES, math.floor(spec.paid_hours * 60))
        least = min(minutes, paid)
        fewer = min(starts, paid // least)
        if (fewer, least) == (starts, minutes):
            return starts, minutes, ""
        limit = f"there is money for {duration(spec.paid_hours * 3600)}"
        if spec.paid_hours * 60 < least:
            return fewer, least, f"{limit}, then this command ends it, and SLURM after {least} min"
        return fewer, least, f"{limit}, then SLURM ends it"

    def _parts(self, spec: JobSpec, share: Share | None = None) -> tuple[int, int]:
        """Return in how many jobs after each other the hours are spent, and the minutes of each.

        More hours than partition, account or QOS give a job are no error: it goes back into the
        queue. Without hours it is the partition's usual time: submitit would ask for five minutes.
        """
        partition = self.partition or (share.partition if share is not None else None)
        listing = partitions().stdout
        most = longest(listing, partition)
        if spec.hours is None:
            minutes = usual(listing, partition) or _NO_LIMIT_MINUTES
        else:
            minutes = math.ceil(spec.hours * 60)
        allowance, _ = allowance_of_user(self.account, self.qos, partition)
        if allowance is not None and allowance.minutes is not None:
            most = min(allowance.minutes, most or allowance.minutes)
        if most == 0:
            raise StratosError(
                f"{spec.stage}: the limits of {allowance} give a job no time. Type "
                "executor.qos=<another of yours>, or executor.account=<another>; see sacctmgr show "
                "assoc, and sacctmgr show qos."
            )
        if most is None or minutes <= most:
            return 1, minutes
        if spec.hours is None:
            return 1, most
        return math.ceil(minutes / most), most

    def _parameters(
        self, spec: JobSpec, minutes: int, share: Share | None = None
    ) -> dict[str, Any]:
        """Return what submitit is told of a job: settings first, then what the plan chose."""
        gpus = spec.gpus if self.gpus is None else self.gpus
        partition, gres, constraint = self.partition, self.gres, self.constraint
        cpus, mib = self.cpus, None if self.memory_gib is None else self.memory_gib * _MIB_A_GIB
        if share is not None:
            partition, constraint = partition or share.partition, constraint or constraint_of(share)
            cpus, mib = cpus or share.cpus, mib or share.memory_mib
            if self.gpus is None:
                gres, gpus = gres or gres_of(share), 0
        options = {
            "job_name": spec.name,
            "nodes": spec.nodes,
            "ntasks_per_node": 1,
            "partition": partition,
            "qos": self.qos or usual_qos(),
            "account": self.account or usual_account(),
            "constraint": constraint,
            "gres": gres,
            "gpus_per_node": gpus if gpus and gres is None else None,
            "cpus_per_task": cpus,
            "mem": None if mib is None else f"{mib:.0f}M",
            "time": minutes,
            "signal_delay_s": _SAVES_S,
            "stderr_to_stdout": True,
            # A node that dies, or a job of more weight, sends it back into the queue.
            "additional_parameters": {"requeue": True, "output": pattern(spec, "0")},
            "srun_args": _srun(spec, cpus),
        }
        return {
            **{key: value for key, value in options.items() if value is not None},
            "wckey": None,
        }

    def _asked(self, spec: JobSpec, minutes: int, share: Share | None) -> str:
        """Say what a job was asked for."""
        options = self._parameters(spec, minutes, share)
        shown = ("partition", "qos", "account", "gres", "gpus_per_node", "cpus_per_task", "mem")
        parts = [f"{key}={options[key]}" for key in shown if key in options]
        return ", ".join([f"nodes={spec.nodes}", *parts, f"time={minutes} min"])


def _srun(spec: JobSpec, cpus: int | None) -> list[str]:
    """Return what srun is told, which starts a process on each node."""
    options = [f"--output={pattern(spec, '%t')}"]  # the last one of two holds
    if cpus is not None:
        options.append(f"--cpus-per-task={cpus}")
    # The first node says how the job ends, and may have to save when another one has ended.
    return [*options, *(["--kill-on-bad-exit=0"] if spec.nodes > 1 else [])]


def _says(log: Path, phrase: bytes) -> bool:
    """Return whether submitit ended a job with this phrase."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return phrase in file.read()
    except OSError:
        return False


def _job(spec: JobSpec, id: str, is_new: bool, expected: str = "") -> Job:
    log = slurm_folder(spec) / f"{id}_0_log.out"
    return Job(spec, id, f"SLURM job {id}", log, is_new, expected)


def _expected(parameters: dict[str, Any]) -> str:
    """Say when SLURM expects to start a job that is about to be submitted; "" where at once."""
    seconds = expected_start([
        f"--{key.replace('_', '-')}={parameters[key]}" for key in _OPTIONS if key in parameters
    ])  # fmt: skip
    if seconds is None or seconds < _SOON_S:
        return ""
    where = f" for partition {parameters['partition']}" if "partition" in parameters else ""
    return f"it waits about {duration(seconds)}{where}, as SLURM expects"


def _share(spec: JobSpec) -> Share | None:
    """Return what the plan chose of the cluster; where its nodes are busy or drained, it waits."""
    return chosen_share(spec, CLOUD, lambda: shares_of_cluster(is_any=True), "SLURM")
