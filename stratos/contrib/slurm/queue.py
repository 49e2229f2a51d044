"""Jobs of this user at SLURM: which there are, how one stands, and how one is submitted.

A question that SLURM does not answer is never taken for the answer that there is no job.

`sbatch --test-only` submits nothing, and says when the job would start, with what runs and waits
now.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.nodes import (
    constraint_of,
    gres_of,
    last_line,
    overrides,
    run,
    time_of,
    user,
)
from stratos.core.errors import StratosError
from stratos.core.machine import Share
from stratos.core.process import without
from stratos.distill import meeting
from stratos.executors.job import Job, JobSpec, UnknownSubmissionError, killed_by

_REQUEUES_S = 120.0
"""How long a job whose node died may take to be in the queue again."""
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_JOB = re.compile(r"(\d+) ([A-Z_]+)")


def ids(name: str) -> frozenset[str] | None:
    """Return the ids of all jobs of a name that SLURM knows, ended ones too; None if unknown."""
    jobs = listed(name, "-t", "all")
    return None if jobs is None else frozenset(id for id, _ in jobs)


def listed(name: str, *options: str) -> list[tuple[str, str]] | None:
    """Return (id, state) of the jobs of a name that SLURM has not done with; None if unknown.

    Args:
        name: of the jobs.
        options: of squeue, which lists others with them.
    """
    answer = run("squeue", "-h", *options, f"--name={name}", f"--user={user()}", "-o", "%i %T")
    if answer.returncode:
        return None
    lines = (_JOB.fullmatch(line.strip()) for line in answer.stdout.splitlines())
    return [(job[1], job[2]) for job in lines if job is not None]


def job_facts(id: str, name: str) -> dict[str, str] | None:
    """Return what SLURM knows of a job, by its own names of the fields; {} where it knows none.

    Args:
        id: of the job.
        name: that it was submitted by; SLURM may count its ids from the start again.

    Returns:
        None where SLURM does not answer.
    """
    answer = run("scontrol", "show", "job", "-o", id)
    if answer.returncode:
        return {} if "Invalid job id" in answer.stderr + answer.stdout else None
    facts = fields(answer.stdout)
    return facts if facts.get("JobName") == name else {}


def fields(line: str) -> dict[str, str]:
    """Read a line of `scontrol show job -o`.

    Command and what is behind it hold paths, in which anything may stand: they are left out, and
    the first of two fields of one name counts.
    """
    facts: dict[str, str] = {}
    for key, value in _FIELD.findall(line):
        if key == "Command":
            break
        facts.setdefault(key, value)
    return facts


def silent(name: str) -> StratosError:
    """Return the error of a question whose answer decides whether a job is submitted."""
    return StratosError(
        f"SLURM does not answer, so that nobody can tell whether a job {name} waits or runs "
        "already. Nothing is submitted. Give the same command again when squeue answers."
    )


def waiting(job: Job, facts: Mapping[str, str]) -> str:
    """Say how a job waits: where, why, behind how many, and until when."""
    partition = facts.get("Partition", "")
    answer = run("squeue", "-h", "-t", "PD", "-p", partition, "--sort=-p,i", "-o", "%i")
    ids = answer.stdout.split()
    rank = f", {ids.index(job.id) + 1} of {len(ids)}" if job.id in ids else ""
    when = time_of(facts.get("StartTime", ""))
    start = "" if when is None else f", expected to start {datetime.fromtimestamp(when):%H:%M}"
    reason = facts.get("Reason", "None")
    why = "" if reason == "None" else f" ({reason})"
    return f"{job.label} waits in the queue of {partition}{why}{rank}{start}"


def signal_of(code: str) -> int | None:
    """Return the signal that killed a job's process, by "exit code:signal"; None if none did."""
    match = re.fullmatch(r"(\d+):(\d+)", code)
    return None if match is None else killed_by(-int(match[2]) or int(match[1]))


def is_over(facts: Mapping[str, str]) -> bool:
    """Return whether a job has ended so long ago that SLURM does not queue it again."""
    ended = time_of(facts.get("EndTime", ""))
    return ended is not None and time.time() > ended + _REQUEUES_S


def running_spans(name: str, id: str) -> list[tuple[float, float]] | None:
    """Return when a job held its nodes: begin and end of each time, in seconds since the epoch.

    Args:
        name: of the job.
        id: that is known of it; "" where its submission was cut short.

    Returns:
        None where SLURM does not know it, any more.
    """
    last = id if id.isdecimal() else max(ids(name) or (), key=int, default="")
    if not last:
        return None
    spans = _held_by_accounting(last, name)
    return _held_by_controller(last, name) if spans is None else spans


def _held_by_accounting(id: str, name: str) -> list[tuple[float, float]] | None:
    """Return each time that a job ran: one that was queued again has several."""
    columns = "JobName,Start,End"
    answer = run("sacct", "-n", "-P", "-D", "-X", "-j", id, "-o", columns)
    if answer.returncode:
        return None
    rows = [line.split("|") for line in answer.stdout.splitlines() if line.startswith(f"{name}|")]
    spans = [_span(*row[1:]) for row in rows if len(row) == columns.count(",") + 1]
    return [span for span in spans if span is not None] if spans else None


def _held_by_controller(id: str, name: str) -> list[tuple[float, float]] | None:
    """Return the last time that a job ran, which is all that the controller keeps."""
    known = job_facts(id, name)
    if not known:
        return None
    span = _span(known.get("StartTime", ""), known.get("EndTime", ""))
    if span is None and known.get("JobState") != "PENDING" and _is_ahead(known):
        return None  # by a clock that is ahead of the one here
    return [] if span is None else [span]


def _is_ahead(facts: Mapping[str, str]) -> bool:
    begun = time_of(facts.get("StartTime", ""))
    return begun is not None and begun >= time.time()


def _span(begin: str, end: str) -> tuple[float, float] | None:
    """Return a time that has begun; one that has not ended, or is expected to later, ends now."""
    first, now = time_of(begin), time.time()
    if first is None or first >= now:
        return None
    last = min(now, time_of(end) or now)
    return (first, last) if last > first else None


def reason(answer: subprocess.CompletedProcess[str]) -> str:
    """Return why SLURM did not do what it was told."""
    return last_line(answer.stderr or answer.stdout)


_MOST_ASKED = 64
"""Shares that the scheduler is asked about: the wait of others is not known."""
_AT_ONCE = 4
_ASKED_S = 10.0
"""Seconds after which a busy controller is asked no more."""
_STEP_HOURS = 0.05
"""Waits are told in steps: a scheduler knows them no better."""
_STARTS = re.compile(r"to start at (\S+)")


def expected_start(arguments: Sequence[str], timeout_s: float = _ASKED_S) -> float | None:
    """Return in how many seconds SLURM expects to start a job; None where it does not say.

    Args:
        arguments: of sbatch, without a script.
        timeout_s: seconds that it may take to answer.
    """
    answer = slurm_nodes.run(
        "sbatch", "--test-only", *arguments, "--wrap=true", timeout_s=timeout_s
    )
    match = _STARTS.search(answer.stderr + answer.stdout)
    when = None if answer.returncode or match is None else time_of(match[1])
    return None if when is None else max(0.0, when - time.time())


def expected_waits(shares: Sequence[Share]) -> tuple[dict[tuple[str, str], float], str]:
    """Return the hours until a job of each share starts, and why some are not known.

    Args:
        shares: of nodes.

    Returns:
        Partition and name of a share to hours, in steps of three minutes; and a reason, "" where
        all are known.
    """
    until = time.monotonic() + _ASKED_S

    def wait_of(share: Share) -> float | None:
        remaining_s = until - time.monotonic()
        return expected_start(_arguments(share), remaining_s) if remaining_s > 0 else None

    few = list(shares)[:_MOST_ASKED]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seconds = dict(zip(((share.partition, share.name) for share in few), pool.map(wait_of, few),
                           strict=True))  # fmt: skip
    hours = {key: wait_s / 3600 for key, wait_s in seconds.items() if wait_s is not None}
    waits = {key: round(wait / _STEP_HOURS) * _STEP_HOURS for key, wait in hours.items()}
    return waits, "" if len(waits) == len(shares) else "sbatch --test-only does not tell it"


def _arguments(share: Share) -> list[str]:
    """Return what sbatch is told to ask for a share; its time is the partition's default."""
    arguments = ["-p", share.partition, "-c", str(share.cpus), f"--mem={share.memory_mib}M"]
    if (gres := gres_of(share)) is not None:
        arguments.append(f"--gres={gres}")
    if (constraint := constraint_of(share)) is not None:
        arguments.append(f"--constraint={constraint}")
    return arguments


# Hands a job to SLURM through submitit, so that no job is there that nobody knows of.
#
# submitit puts what a job is to run where the job looks for it after SLURM has answered. A command
# may be killed before that, and the answer may be lost. So it lies ready before SLURM is asked, and
# the job takes it from there; and what looks like a refusal is one only if SLURM has no such job.

_GRACE_S = 120.0
"""Longest grace of a job that is preempted; one that is still here then was not."""
_LOOK_S = 1.0
_TOLD = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a stage that was told to end: it has saved what it has done."""


class Work:
    """A command that is resumable: started again, it goes on."""

    def __init__(
        self, command: tuple[str, ...], env: dict[str, str], folder: Path | None = None
    ) -> None:
        """Run `command` with `env` beside the job's own environment.

        Args:
            command: of the stage.
            env: of the stage.
            folder: in which the nodes of a job meet; None for a job of one node.
        """
        self.command = command
        self.env = env
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run until it is done; end as it ends. The stage runs on the first node of a job."""
        if self._meeting is not None and (node := int(os.environ["SLURM_NODEID"])):
            self._help(self._meeting, node)
            return
        while True:
            code = self._run()
            if code not in _TOLD:
                break
            # SLURM requeues a preempted job that it had to end, and not one that left of itself.
            self._wait_for_the_end()
        if self._meeting is not None:
            meeting.end(self._meeting)
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> Any:
        """Save, because SLURM is about to end the job; submitit has it requeued then."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.returncode is None:
            # This is a signal's handler, and what it interrupts holds the lock of `Popen.wait`.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Work(self.command, self.env, self.folder))

    @property
    def _meeting(self) -> Path | None:
        """File by which the nodes of this start of the job meet."""
        if self.folder is None:
            return None
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
        return self.folder / f"{os.environ['SLURM_JOB_ID']}.{start}.meeting"

    def _run(self) -> int:
        env = {**os.environ, **self.env}
        if self._meeting is not None:
            env[meeting.VARIABLE] = str(self._meeting)
        self._process = subprocess.Popen(self.command, env=env, preexec_fn=_heed_submitit)
        return self._process.wait()

    def _help(self, file: Path, node: int) -> None:
        """Train with the first node, which says how the job ends: do not leave before it."""
        command = (self.command[0], "-m", "stratos.distill.meeting", str(file), str(node))
        if subprocess.run(command, check=False, preexec_fn=_heed_submitit).returncode == 0:
            return
        while not (meeting.has_ended(file) or _is_ending()):
            time.sleep(_LOOK_S)

    def _wait_for_the_end(self) -> None:
        """Wait for SLURM to end this job, which has told the stage to end."""
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until:
            if _is_ending():
                sys.exit(128 + signal.SIGTERM)
            time.sleep(_LOOK_S)


def _is_ending() -> bool:
    """Return whether SLURM is about to end this job."""
    ours = ("squeue", "-h", "-j", os.environ["SLURM_JOB_ID"], "-o", "%T")
    state = slurm_nodes.run(*ours).stdout.strip()
    return state not in ("RUNNING", "")


def _heed_submitit() -> None:
    """Leave the signal that goes before a time limit to submitit, which asks for `checkpoint`."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


_UNHEARD = re.compile(r"timed out|timeout|unable to contact|zero bytes|communication|connect", re.I)
"""An error of `sbatch` after which the job may be in the queue, or get there yet."""
_APPEARS_S = 15.0
"""How long such a job is looked for."""


class RefusedError(Exception):
    """SLURM did not take a job, and has none of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.is_heard = _UNHEARD.search(why) is None
        """Whether SLURM has judged it; else it could not be reached."""


def submit(spec: JobSpec, folder: Path, parameters: dict[str, Any], max_timeouts: int) -> str:
    """Submit a job and return its id.

    Args:
        spec: of the job.
        folder: of batch scripts and logs.
        parameters: what submitit is told of the job.
        max_timeouts: how often it goes back into the queue when it reaches its time limit.

    Raises:
        RefusedError: nothing is submitted.
        UnknownSubmissionError: the job may have been submitted, and SLURM does not say.
        StratosError: SLURM does not say which jobs there are; nothing is submitted.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if (before := slurm_queue.ids(spec.name)) is None:
        raise silent(spec.name)
    work = Work(spec.command, spec.env, folder if spec.nodes > 1 else None)
    ready = _ready(work, folder, parameters["time"], max_timeouts)
    executor = submitit.SlurmExecutor(
        folder, max_num_timeout=max_timeouts, python=shlex.quote(spec.command[0])
    )
    executor.update_parameters(**parameters, setup=[_take(ready)])
    try:
        # sbatch hands on all that it has.
        with without((*spec.withheld, *overrides())):
            id = str(executor.submit(work).job_id)
    except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError, OSError) as error:
        refused = RefusedError(last_line(str(error)))
        if (job := _looked_for(spec, before, refused)) is None:
            ready.unlink(missing_ok=True)
            raise refused from error
        return job
    ready.unlink(missing_ok=True)  # submitit has put its own in place
    return id


def _ready(work: Work, folder: Path, minutes: int, max_timeouts: int) -> Path:
    """Write down what a job is to run, in the way of submitit; return the file."""
    from submitit.helpers import DelayedSubmission

    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / f"{uuid.uuid4().hex}_ready.pkl"
    delayed = DelayedSubmission(work)
    delayed.set_timeout(minutes, max_timeouts)
    delayed.dump(ready)
    return ready


def _take(ready: Path) -> str:
    """Return the line of a batch script that takes what lies ready, where nothing is in place.

    A job that was queued again has what it wrote down when it was ended; and the command may put
    the same in place meanwhile.
    """
    folder = shlex.quote(str(ready.parent))
    path = f'{folder}/"${{SLURM_JOB_ID}}"_submitted.pkl'
    return f"[ -e {path} ] || mv {shlex.quote(str(ready))} {path} 2>/dev/null"


def _looked_for(spec: JobSpec, before: frozenset[str], refused: RefusedError) -> str | None:
    """Return the id of a job that is there although `sbatch` failed; None where there is none.

    Raises:
        UnknownSubmissionError: SLURM does not say.
    """
    until = time.monotonic() + (0.0 if refused.is_heard else _APPEARS_S)
    while True:
        now = slurm_queue.ids(spec.name)
        if now is not None and (new := now - before):
            return max(new, key=int)
        if time.monotonic() >= until:
            break
        time.sleep(_LOOK_S)
    if now is not None:
        return None
    raise UnknownSubmissionError(
        f"{spec.stage}: sbatch failed ({refused}), and squeue does not answer, so that nobody can "
        f"tell whether the job {spec.name} was submitted: it may wait or run. Give the same "
        "command again when squeue answers: it follows the job if there is one. Or end it: "
        f"stratos servers down {spec.name}"
    )
