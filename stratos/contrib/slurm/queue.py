"""What SLURM says of the jobs of this user: which there are, and how one stands.

A question that SLURM does not answer is never taken for the answer that there is no job.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime

from stratos.contrib.slurm.nodes import last_line, run, time_of, user
from stratos.core.errors import StratosError
from stratos.executors.job import Job, killed_by

_REQUEUES_S = 120.0
"""How long a job whose node died may take to be in the queue again."""
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_JOB = re.compile(r"(\d+) ([A-Z_]+)")


def listed(name: str) -> list[tuple[str, str]] | None:
    """Return (id, state) of the jobs of a name that SLURM has not done with; None if unknown."""
    asked = run("squeue", "-h", f"--name={name}", f"--user={user()}", "-o", "%i %T")
    return None if asked.returncode else _jobs(asked.stdout)


def ids(name: str) -> frozenset[str] | None:
    """Return the ids of all jobs of a name that SLURM knows, ended ones too; None if unknown."""
    asked = run("squeue", "-h", "-t", "all", f"--name={name}", f"--user={user()}", "-o", "%i %T")
    return None if asked.returncode else frozenset(id for id, _ in _jobs(asked.stdout))


def _jobs(text: str) -> list[tuple[str, str]]:
    found = (_JOB.fullmatch(line.strip()) for line in text.splitlines())
    return [(one[1], one[2]) for one in found if one is not None]


def told(id: str, name: str) -> dict[str, str] | None:
    """Return what SLURM knows of a job, by its own names of the fields; {} where it knows none.

    Args:
        id: of the job.
        name: that it was submitted by; SLURM may count its ids from the start again.

    Returns:
        None where SLURM does not answer.
    """
    asked = run("scontrol", "show", "job", "-o", id)
    if asked.returncode:
        return {} if "Invalid job id" in asked.stderr + asked.stdout else None
    found = fields(asked.stdout)
    return found if found.get("JobName") == name else {}


def fields(line: str) -> dict[str, str]:
    """Read a line of `scontrol show job -o`.

    Command and what is behind it hold paths, in which anything may stand: they are left out, and
    the first of two fields of one name counts.
    """
    found: dict[str, str] = {}
    for key, value in _FIELD.findall(line):
        if key == "Command":
            break
        found.setdefault(key, value)
    return found


def silent(name: str) -> StratosError:
    """Return the error of a question whose answer decides whether a job is submitted."""
    return StratosError(
        f"SLURM does not answer, so that nobody can tell whether a job {name} waits or runs "
        "already. Nothing is submitted. Give the same command again when squeue answers."
    )


def waiting(job: Job, told: Mapping[str, str]) -> str:
    """Say how a job waits: where, why, behind how many, and until when."""
    partition = told.get("Partition", "")
    asked = run("squeue", "-h", "-t", "PD", "-p", partition, "--sort=-p,i", "-o", "%i")
    ids = asked.stdout.split()
    place = f", {ids.index(job.id) + 1} of {len(ids)}" if job.id in ids else ""
    when = time_of(told.get("StartTime", ""))
    start = "" if when is None else f", expected to start {datetime.fromtimestamp(when):%H:%M}"
    reason = told.get("Reason", "None")
    why = "" if reason == "None" else f" ({reason})"
    return f"{job.place} waits in the queue of {partition}{why}{place}{start}"


def signal_of(code: str) -> int | None:
    """Return the signal that killed a job's process, by "exit code:signal"; None if none did."""
    found = re.fullmatch(r"(\d+):(\d+)", code)
    return None if found is None else killed_by(-int(found[2]) or int(found[1]))


def is_over(told: Mapping[str, str]) -> bool:
    """Return whether a job has ended so long ago that SLURM does not queue it again."""
    ended = time_of(told.get("EndTime", ""))
    return ended is not None and time.time() > ended + _REQUEUES_S


def held(name: str, id: str) -> list[tuple[float, float]] | None:
    """Return when a job held its nodes: begin and end of each time, in seconds since the epoch.

    Args:
        name: of the job.
        id: that is known of it; "" where its submission was cut short.

    Returns:
        None where SLURM does not know it, any more.
    """
    asked = run("squeue", "-h", "-t", "all", f"--name={name}", f"--user={user()}", "-o", "%i %T")
    ids = [*(one for one, _ in _jobs(asked.stdout)), *([id] if id.isdecimal() else [])]
    if not ids:
        return None
    last = id if id.isdecimal() else max(ids, key=int)
    found = _held_by_accounting(last, name)
    return _held_by_controller(last, name) if found is None else found


def _held_by_accounting(id: str, name: str) -> list[tuple[float, float]] | None:
    """Return each time that a job ran: one that was queued again has several."""
    columns = "JobName,Start,End"
    asked = run("sacct", "-n", "-P", "-D", "-X", "-j", id, "-o", columns)
    if asked.returncode:
        return None
    rows = [line.split("|") for line in asked.stdout.splitlines() if line.startswith(f"{name}|")]
    spans = [_span(*row[1:]) for row in rows if len(row) == columns.count(",") + 1]
    return [one for one in spans if one is not None] if spans else None


def _held_by_controller(id: str, name: str) -> list[tuple[float, float]] | None:
    """Return the last time that a job ran, which is all that the controller keeps."""
    known = told(id, name)
    if not known:
        return None
    span = _span(known.get("StartTime", ""), known.get("EndTime", ""))
    if span is None and known.get("JobState") != "PENDING" and _is_ahead(known):
        return None  # by a clock that is ahead of the one here
    return [] if span is None else [span]


def _is_ahead(told: Mapping[str, str]) -> bool:
    begun = time_of(told.get("StartTime", ""))
    return begun is not None and begun >= time.time()


def _span(begin: str, end: str) -> tuple[float, float] | None:
    """Return a time that has begun; one that has not ended, or is expected to later, ends now."""
    first, now = time_of(begin), time.time()
    if first is None or first >= now:
        return None
    last = min(now, time_of(end) or now)
    return (first, last) if last > first else None


def reason(asked: subprocess.CompletedProcess[str]) -> str:
    """Return why SLURM did not do what it was told."""
    return last_line(asked.stderr or asked.stdout)
