"""How a run stands, read from its folder: nothing is asked of the process that works in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.executors import submission
from stratos.executors.job import folder_of
from stratos.records import Deployment, Interval, Plan, Scorecard, Student
from stratos.report import provenance
from stratos.report.costs import read_ledger, running_usd
from stratos.report.sweep_jobs import Job, runs_in

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
    teacher: str
    teacher_accuracy: float | None
    validation_accuracy: float | None
    """Of the trained student, on items that it was selected by or not; None before."""
    latency_p95_ms: float | None


def standings(folders: Sequence[Path]) -> list[Standing]:
    """Return the runs in some folders, or that are these folders, the newest first.

    Args:
        folders: as they were typed; without any, `outputs` and `sweeps` of the current folder.

    Raises:
        StratosError: a folder is not there.
    """
    now = time.time()
    standings_of = [_standing(job, now) for job in runs_in(folders, "status")]
    return sorted(standings_of, key=lambda standing: standing.seconds_ago)


def _standing(job: Job, now: float) -> Standing:
    plan: Plan | None = job.records.get("plan")
    student: Student | None = job.records.get("distill")
    scorecard: Scorecard | None = job.records.get("evaluate")
    deployment: Deployment | None = job.records.get("deploy")
    scores = {} if scorecard is None else {score.role: score.slice() for score in scorecard.scores}
    teacher = scores.get("teacher")
    spends = read_ledger(job.folder / "ledger.jsonl")
    before_usd = sum(spend.usd for spend in spends if spend.is_before_plan)
    return Standing(
        folder=str(job.folder),
        task=_task(job.folder),
        status=job.status,
        why=_why(job),
        seconds_ago=max(0.0, now - _last_sign(job.folder)),
        planned_usd=None if plan is None else plan.usd + before_usd,
        spent_usd=sum(spend.usd for spend in spends) + running_usd(job.folder / "ledger.jsonl"),
        student="" if plan is None else plan.student,
        strategy="" if plan is None else plan.strategy,
        accuracy=scores["student"].exact if "student" in scores else None,
        teacher="" if plan is None else plan.teacher,
        teacher_accuracy=None if teacher is None else teacher.exact.mean,
        validation_accuracy=None if student is None else student.validation_exact,
        latency_p95_ms=None if deployment is None else deployment.latency_p95_ms,
    )


def _why(job: Job) -> str:
    """Return where a run is or what it ended by, and which of its jobs may run yet."""
    reasons = [job.why.splitlines()[0] if job.why else ""]
    for path in sorted(folder_of(job.folder).glob("*.json")):
        known = submission.find(job.folder, path.stem)
        if known is not None and job.status != "running":
            reasons.append(f"{known.label} may still run: stratos servers")
    return "; ".join(filter(None, reasons))


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
