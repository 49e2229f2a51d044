"""The state of runs and of jobs of a sweep, read from their folders; what ran them.

Everything is read from disk, and nothing asked of the process that works there: with a parallel
launcher no process has seen all jobs, and the page has to show those above all that did not end
well.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos.config import STAGES
from stratos.core.errors import StratosError
from stratos.core.formats import interval, listed, percent, usd
from stratos.core.intervals import wilson
from stratos.core.machine import memory_bytes, n_cores
from stratos.core.process import is_locked
from stratos.core.redact import redact_override
from stratos.executors import submission
from stratos.executors.job import folder_of
from stratos.records import (
    Corpus,
    Deployment,
    Interval,
    Plan,
    Probe,
    Report,
    Scorecard,
    Student,
    load,
)
from stratos.report.costs import read_ledger, running_usd

RECORDS: dict[str, type] = {
    "probe": Probe,
    "plan": Plan,
    "synthesize": Corpus,
    "distill": Student,
    "evaluate": Scorecard,
    "deploy": Deployment,
    "report": Report,
}
FOLDERS = ("outputs", "sweeps")
"""Where runs and sweeps lie, below the current folder."""
ERROR_FILE = "error.txt"
"""Where a run that failed leaves its message."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    name: str
    """Its folder, relative to the sweep's."""
    folder: Path
    overrides: tuple[str, ...]
    status: str
    """finished, running, failed or unfinished."""
    why: str
    """What is known of a job that did not finish."""
    records: dict[str, Any] = field(default_factory=dict)


def read_jobs(sweep_dir: Path) -> list[Job]:
    """Read every job of a sweep, in the order of their numbers."""
    folders = sorted(_job_folders(sweep_dir), key=lambda folder: natural(str(folder)))
    return [read_job(sweep_dir, folder) for folder in folders]


def runs_in(folders: Sequence[Path], command: str) -> Iterator[Job]:
    """Read the runs that some folders are, or that lie below them.

    Args:
        folders: as they were typed; without any, `FOLDERS` of the current folder.
        command: of ours that asks, for what is said to type.

    Raises:
        StratosError: a folder is not there.
    """
    for folder in folders or [Path(name) for name in FOLDERS if Path(name).is_dir()]:
        if not folder.is_dir():
            raise StratosError(f"{folder} is no folder. Type stratos {command} <folder of runs>.")
        if is_run(folder):
            yield read_job(folder.parent, folder)
        else:
            yield from read_jobs(folder)


def record_of(folder: Path, stage: str, record_type: type | None = None) -> Any:
    """Return the record of a stage of a run; None where there is none.

    Args:
        folder: of the run.
        stage: its name.
        record_type: of a stage that a package of contrib adds; else that of `RECORDS`.

    Raises:
        StratosError: it cannot be read.
    """
    try:
        return load(folder / f"{stage}.json", None, record_type or RECORDS[stage])
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise StratosError(
            f"{folder / f'{stage}.json'} cannot be read ({error}). Give the command of its run "
            "again, or start anew in another folder."
        ) from error


def is_run(folder: Path) -> bool:
    """Tell whether a folder is that of a run: what a report is made of has to be there.

    A `report.json` alone is none: `stratos dashboard` writes one into a sweep, too.
    """
    return (folder / ".hydra").is_dir() or any(
        (folder / f"{stage}.json").exists() for stage in STAGES if stage != "report"
    )


def _job_folders(sweep_dir: Path) -> Iterator[Path]:
    """Find the outermost run folders: a job's number, or a path made of its overrides."""
    for root, folders, _ in os.walk(sweep_dir):
        runs = [name for name in folders if is_run(Path(root, name))]
        yield from (Path(root, name) for name in runs)
        folders[:] = [name for name in folders if name not in runs and name != "wandb"]


def read_job(sweep_dir: Path, folder: Path) -> Job:
    """Read one job of a sweep, or a run by itself.

    Args:
        sweep_dir: a folder above it, to which its name is relative.
        folder: of the run.
    """
    records: dict[str, Any] = {}
    trouble: list[str] = []
    for stage, record_type in RECORDS.items():
        try:
            record = load(folder / f"{stage}.json", None, record_type)
        except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
            trouble.append(f"{stage}.json cannot be read: {error}")
        else:
            if record is not None:
                records[stage] = record
    overrides: tuple[str, ...] = ()
    try:
        overrides = tuple(redact_override(line) for line in overrides_of(folder))
    except (ValueError, OSError) as error:
        trouble.append(str(error))
    missing = [stage for stage in asked_stages(folder) if stage not in records]
    if trouble:
        status, why = "failed", "; ".join(trouble)
    elif not missing:
        status, why = "finished", ""
    elif is_locked(folder / ".lock"):
        status, why = "running", f"in {missing[0]}"
    elif os.access(folder / ERROR_FILE, os.R_OK):
        status, why = "failed", (folder / ERROR_FILE).read_text(errors="replace").strip()[:2000]
    else:
        status, why = "unfinished", f"stopped before the end of {missing[0]}"
    return Job(str(folder.relative_to(sweep_dir)), folder, overrides, status, why, records)


def asked_stages(folder: Path) -> list[str]:
    """Return the stages that a job was asked for; all of them if that was not kept."""
    stages, deploys = list(STAGES), True
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        composed = config_of(folder)
        stages = [stage for stage in composed["stages"] if stage in STAGES]
        deploys = composed["deploy"]["name"] != "none"
    return [stage for stage in stages if stage != "deploy" or deploys]


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts job 10 after job 9."""
    return [(int(part or 0), "") if part.isdigit() else (-1, part)
            for part in re.split(r"(\d+)", text)]  # fmt: skip


# Which job of a sweep is best, and what each reached, in words.

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
    if probe is not None and probe.real_teachers:
        best = max(probe.real_teachers, key=lambda teacher: teacher.exact.mean)
        return f"teacher {best.teacher} {percent(best.exact.mean)} of its items"
    return ""


def validation(student: Student) -> Interval:
    """Return the exact match of the kept weights on validation items."""
    n = student.n_validation_items
    return wilson(student.validation_exact * n, n)


def _usd(job: Job) -> float:
    plan: Plan | None = job.records.get("plan")
    return 0.0 if plan is None else plan.usd


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
        composed: Any = read_yaml(folder / ".hydra" / "config.yaml")
        return str(composed["task"]["name"])
    return ""


def _last_sign(folder: Path) -> float:
    """Return when a run last wrote something, in seconds since the epoch."""
    times = [folder.stat().st_mtime]
    for path in (*folder.glob("*.json"), *(folder / name for name in _SIGNS_OF_WORK)):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


_PACKAGES = (
    "stratos-llm", "torch", "lightning", "transformers", "tokenizers", "hydra-core", "pulp",
    "highspy", "mahjong", "wandb",
)  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast; not every build has it."""
_GROUP = re.compile(r"(?m)^(?=[^\s#-])")
"""Where a key of the top level begins."""


def overrides_of(run_dir: Path) -> tuple[str, ...]:
    """Return the overrides that a run was started with; empty if they were not kept.

    Raises:
        ValueError: the file that keeps them is corrupt.
    """
    lines = read_yaml(run_dir / ".hydra" / "overrides.yaml")
    if lines is None:
        return ()
    if not isinstance(lines, list):
        raise ValueError(f"{run_dir / '.hydra' / 'overrides.yaml'} is not a list of overrides")
    return tuple(str(line) for line in lines)


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on; nothing is imported for it."""
    versions_of = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions_of[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions_of


def machine() -> dict[str, str]:
    """Return what this machine is."""
    facts = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(n_cores()),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{memory_bytes() / 2**30:.0f} GiB"
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def user_config_dirs(run_dir: Path) -> list[str]:
    """Return the folders that the command named by `--config-dir`."""
    composed: Any = read_yaml(run_dir / ".hydra" / "hydra.yaml")
    try:
        sources = composed["hydra"]["runtime"]["config_sources"]
        return [str(s["path"]) for s in sources if s["provider"] == "command-line"]
    except (KeyError, TypeError):
        return []


def config_of(run_dir: Path) -> dict[str, Any]:
    """Return the config that Hydra kept of a run; empty if it was not kept.

    The jobs of a sweep have most of their config in common, and YAML is slow to read: each group is
    read once, whoever has it.

    Raises:
        ValueError: the file is no YAML.
    """
    path = run_dir / ".hydra" / "config.yaml"
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    config: dict[str, Any] = {}
    try:
        for group in _GROUP.split(text):
            if group.strip():
                config |= _read_group(group)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return config


@lru_cache(4096)
def _read_group(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)


def read_yaml(path: Path) -> object:
    """Read a YAML file as plain data; None if it is not there.

    Raises:
        ValueError: the file is no YAML.
    """
    try:
        return yaml.load(path.read_text(), Loader=_LOADER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
