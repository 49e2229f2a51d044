"""How a run stands, read from its folder: nothing is asked of the process that works in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core.errors import StratosError
from stratos.records import Deployment, Interval, Plan, Scorecard, Student
from stratos.report import provenance
from stratos.report.costs import read_ledger
from stratos.report.sweep_jobs import Job, is_run, read_job, read_jobs

_SIGNS_OF_WORK = ("stratos.log", "ledger.jsonl", "distill/last.ckpt")
"""Files that a run writes to while it works, beside its records."""


@dataclass(frozen=True)
class Standing:
    """One run."""

    folder: str
    """As it can be typed here."""
    task: str
    status: str
    """finished, running, failed or unfinished."""
    why: str
    """Where it is, or what it ended by; "" for one that finished."""
    seconds_ago: float
    """Since it last wrote something."""
    planned_usd: float | None
    spent_usd: float
    student: str
    strategy: str
    accuracy: Interval | None
    """Of the student on test items; None before it was evaluated."""
    teacher_accuracy: float | None
    validation_accuracy: float | None
    """Of the trained student, on items that it was selected by or not; None before."""
    latency_p95_ms: float | None


def standings(folders: Iterable[Path]) -> list[Standing]:
    """Return the runs in some folders, or that are these folders, the newest first.

    Raises:
        StratosError: a folder is not there.
    """
    now = time.time()
    found = [_standing(job, now) for folder in folders for job in _jobs(folder)]
    return sorted(found, key=lambda one: one.seconds_ago)


def _jobs(folder: Path) -> Iterator[Job]:
    if not folder.is_dir():
        raise StratosError(
            f"{folder} is no folder. Type python -m stratos.status <folder of runs>."
        )
    if is_run(folder):
        yield read_job(folder.parent, folder)
    else:
        yield from read_jobs(folder)


def _standing(job: Job, now: float) -> Standing:
    plan: Plan | None = job.records.get("plan")
    student: Student | None = job.records.get("distill")
    scorecard: Scorecard | None = job.records.get("evaluate")
    deployment: Deployment | None = job.records.get("deploy")
    scores = {} if scorecard is None else {one.role: one.slice() for one in scorecard.scores}
    teacher = scores.get("teacher")
    return Standing(
        folder=str(job.folder),
        task=_task(job.folder),
        status=job.status,
        why=job.why.splitlines()[0] if job.why else "",
        seconds_ago=max(0.0, now - _last_sign(job.folder)),
        planned_usd=None if plan is None else plan.usd + plan.spent_usd,
        spent_usd=sum(one.usd for one in read_ledger(job.folder / "ledger.jsonl")),
        student="" if plan is None else plan.student,
        strategy="" if plan is None else plan.strategy,
        accuracy=scores["student"].exact if "student" in scores else None,
        teacher_accuracy=None if teacher is None else teacher.exact.mean,
        validation_accuracy=None if student is None else student.validation_exact,
        latency_p95_ms=None if deployment is None else deployment.latency_p95_ms,
    )


def _task(folder: Path) -> str:
    with suppress(ValueError, OSError, KeyError, TypeError):
        composed: Any = provenance.read_yaml(folder / ".hydra" / "config.yaml")
        return str(composed["task"]["name"])
    return ""


def _last_sign(folder: Path) -> float:
    """Return when a run last wrote something, in seconds since the epoch."""
    times = [folder.stat().st_mtime]
    for path in (*folder.glob("*.json"), *(folder / name for name in _SIGNS_OF_WORK)):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
