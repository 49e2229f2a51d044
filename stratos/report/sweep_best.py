"""Which job of a sweep is best, and what each reached, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stratos.core.counted import listed
from stratos.core.formats import interval, percent, usd
from stratos.core.intervals import wilson
from stratos.records import Interval, Plan, Probe, Student
from stratos.report.sweep_jobs import Job, read_job, read_jobs

_NAMED = 6
"""Jobs that are as good and named: of more the rest is counted."""


def best_of(jobs: Sequence[Job]) -> list[Job]:
    """Return the finished jobs that are best on validation items, the cheapest plan first.

    Test items choose nothing: the best of several test scores is too high on average.
    """
    trained = [
        (job, job.records["distill"].validation_exact)
        for job in jobs
        if job.status == "finished" and "distill" in job.records
    ]
    most = max((share for _, share in trained), default=None)
    return sorted((job for job, share in trained if share == most), key=_usd)


def best_line(sweep_dir: Path) -> str:
    """Return the best job of a sweep, its accuracy and overrides; "" where none was trained."""
    jobs = read_jobs(sweep_dir)
    best = best_of(jobs)
    if not best:
        return ""
    reached = reached_by(best[0])
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    varied = " ".join(line for line in best[0].overrides if line not in common)
    return f"job {best[0].name}: {reached}{f', {varied}' if varied else ''}{alike(best)}"


def alike(best: Sequence[Job]) -> str:
    """Say which other jobs are as good as the best one; "" where there are none."""
    names = [job.name for job in best[1:]]
    if not names:
        return ""
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    are = "jobs" if len(best) > 2 else "job"
    cheapest = (
        f"; job {best[0].name} has the cheapest plan" if _usd(best[0]) < _usd(best[1]) else ""
    )
    return f". As good: {are} {listed(names)}{cheapest}"


def reached_in(folder: Path) -> str:
    """Return what the number of a job is, which a sweep compares jobs by; "" if none is kept."""
    return reached_by(read_job(folder.parent, folder))


def reached_by(job: Job) -> str:
    """Return how far a job came: accuracy on validation items, else its plan, else a teacher."""
    student: Student | None = job.records.get("distill")
    if student is not None:
        shares = validation(student)
        ends = f" ({interval(shares)})" if shares.low < shares.high else ""
        return f"accuracy {percent(shares.mean)}{ends} on validation items"
    plan: Plan | None = job.records.get("plan")
    if plan is not None:
        return f"planned {usd(plan.usd)}"
    probe: Probe | None = job.records.get("probe")
    if probe is not None and probe.teachers:
        best = max(probe.teachers, key=lambda one: one.exact.mean)
        return f"teacher {best.teacher} {percent(best.exact.mean)} of its items"
    return ""


def validation(student: Student) -> Interval:
    """Return the exact match of the kept weights on validation items."""
    n = student.n_validation_items
    return wilson(student.validation_exact * n, n)


def _usd(job: Job) -> float:
    plan: Plan | None = job.records.get("plan")
    return 0.0 if plan is None else plan.usd
