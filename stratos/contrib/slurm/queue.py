"""What SLURM says of the jobs of this user: which there are, and how one stands.

A question that SLURM does not answer is never taken for the answer that there is no job.

`sbatch --test-only` submits nothing, and says when the job would start, with what runs and waits
now.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.nodes import constraint_of, gres_of, last_line, run, time_of, user
from stratos.core.errors import StratosError
from stratos.core.shares import Share
from stratos.executors.job import Job, killed_by

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
