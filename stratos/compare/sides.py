"""What two runs are compared by, read from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core.errors import StratosError
from stratos.core.formats import (
    count,
    hours,
    interval,
    magnitude,
    milliseconds,
    n_bytes,
    percent,
    usd,
)
from stratos.core.intervals import predicted
from stratos.core.redact import redact_override
from stratos.evaluate.answer_files import KeptAnswer, answers_path, read_answers
from stratos.records import Corpus, Deployment, Plan, Scorecard, Student
from stratos.report import provenance
from stratos.report.costs import read_ledger
from stratos.report.sweep_jobs import Job, is_run, read_job

_ABSENT = "–"
_OWN = ("paths.run_dir", "paths.cache_dir")
"""Settings in which any two runs differ."""


@dataclass(frozen=True)
class Side:
    """One of two runs."""

    job: Job
    settings: Mapping[str, str]
    """Of its config, by dotted key."""
    metric: str
    answers: list[KeptAnswer]
    """Of its student to test items; none before they were asked."""


def read_side(folder: Path) -> Side:
    """Read a run.

    Raises:
        StratosError: it is none, or what it left cannot be read.
    """
    if not folder.is_dir() or not is_run(folder):
        raise StratosError(
            f"{folder} is no folder of a run. Type python -m stratos.status to list them."
        )
    job = read_job(folder.parent, folder)
    try:
        config = provenance.read_yaml(folder / ".hydra" / "config.yaml")
    except (ValueError, OSError) as error:
        raise StratosError(f"{folder}: {error}") from error
    settings = {key: value for key, value in _flat(config) if key not in _OWN}
    scorecard: Scorecard | None = job.records.get("evaluate")
    answers = read_answers(folder, scorecard) if answers_path(folder).exists() else []
    return Side(job, settings, "" if scorecard is None else scorecard.metric, answers)


def changed(first: Side, second: Side) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, each with both values."""
    keys = sorted(first.settings.keys() | second.settings.keys())
    pairs = {
        key: (first.settings.get(key, _ABSENT), second.settings.get(key, _ABSENT)) for key in keys
    }
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def figures(one: Side) -> dict[str, str]:
    """Return the figures of a run by what they are called; those that there are."""
    return dict(_figures(one))


def _figures(one: Side) -> Iterator[tuple[str, str]]:
    records = one.job.records
    yield "status", f"{one.job.status} {one.job.why}".strip()
    plan: Plan | None = records.get("plan")
    if plan is not None:
        yield "teacher", plan.teacher
        yield "student", plan.student
        yield "strategy", plan.strategy
        for role in plan.roles:
            if role.offer is not None:
                spot = ", spot" if role.spot else ""
                yield f"server: {role.role}", f"{role.count} × {role.offer.name}{spot}"
        yield "planned dollars", usd(plan.usd)
        yield "planned hours", hours(plan.hours)
        yield "planned p95", milliseconds(plan.latency_ms)
        yield "predicted accuracy", predicted(plan.accuracy)
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None:
        yield "training items", count(corpus.n_items)
    student: Student | None = records.get("distill")
    if student is not None:
        yield "parameters", magnitude(student.n_params)
        yield "training tokens", magnitude(student.train_tokens)
        yield "validation accuracy", percent(student.validation_exact)
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        for score in scorecard.scores:
            whole = score.slice()
            yield (
                f"test accuracy: {score.role}",
                f"{percent(whole.exact.mean)} ({interval(whole.exact)}) of {whole.n_items:,}",
            )
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        yield "p95 when served", milliseconds(deployment.latency_p95_ms)
        yield "bundle", n_bytes(deployment.bundle_bytes)
    yield "spent", usd(sum(paid.usd for paid in read_ledger(one.job.folder / "ledger.jsonl")))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a config, each with its dotted key; secrets are hidden."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _flat(one, f"{prefix}.{key}" if prefix else str(key))
        return
    shown = redact_override(f"{prefix}={value}").partition("=")[2]
    yield prefix, shown
