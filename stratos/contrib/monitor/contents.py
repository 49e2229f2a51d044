"""What the dashboard of a sweep shows, read from the folders of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core.errors import StratosError
from stratos.core.formats import interval, percent, usd
from stratos.core.redact import redact_override
from stratos.records import Plan, Scorecard
from stratos.report import provenance
from stratos.report.sweep_jobs import Job, natural, read_jobs


@dataclass(frozen=True)
class Contents:
    """A sweep, as far as W&B has to know it."""

    name: str
    """Folder of the sweep, which is the group of its runs."""
    project: str
    entity: str | None
    varied: tuple[str, ...]
    """Keys of the config in which the jobs differ."""
    jobs: tuple[tuple[str, str, str], ...]
    """Name, what was varied, and outcome of each job, in words."""


def contents_of(sweep_dir: Path) -> Contents:
    """Read a sweep.

    Raises:
        StratosError: there is none.
    """
    jobs = read_jobs(sweep_dir) if sweep_dir.is_dir() else []
    if not jobs:
        raise StratosError(
            f"{sweep_dir}: no job of a sweep in it. Give the folder of a sweep, as in "
            "sweeps/<time>."
        )
    logger = _logger(jobs)
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    varied = {line.partition("=")[0] for job in jobs for line in job.overrides} - {
        line.partition("=")[0] for line in common
    }
    keys = [_key(key, jobs[0]) for key in sorted(varied, key=natural)]
    return Contents(
        name=str(logger.get("group") or sweep_dir.resolve().name),
        project=str(logger.get("project") or "stratos"),
        entity=logger.get("entity"),
        varied=tuple(dict.fromkeys(keys)),
        jobs=tuple(
            (
                job.name,
                " ".join(redact_override(line) for line in job.overrides if line not in common),
                _outcome(job),
            )
            for job in jobs
        ),
    )


def _logger(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return where the jobs were tracked."""
    try:
        found = provenance.config_of(jobs[0].folder).get("logger")
    except ValueError as error:
        raise StratosError(str(error)) from error
    return found if isinstance(found, dict) else {}


def _key(override: str, job: Job) -> str:
    """Return the key of the config that an override sets: of a group, the name of its choice."""
    key = override.lstrip("+~")
    try:
        node = provenance.config_of(job.folder).get(key)
    except ValueError:
        return key
    return f"{key}.name" if isinstance(node, dict) and "name" in node else key


def _outcome(job: Job) -> str:
    if job.status != "finished":
        return f"{job.status}: {job.why}".strip(": ")
    plan: Plan | None = job.records.get("plan")
    scorecard: Scorecard | None = job.records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    parts = []
    if student is not None:
        exact = student.slice().exact
        parts.append(f"{percent(exact.mean)} ({interval(exact)}) of test items")
    if plan is not None:
        parts.append(f"planned {usd(plan.usd)}")
        if plan.worth is not None:
            parts.append(plan.worth.text)
    return ", ".join(parts) or job.status
