"""What runs are compared by: their figures, as they are written, and their settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from stratos.records import Corpus, Deployment, Plan, Scorecard, Student
from stratos.report import provenance
from stratos.report.costs import read_ledger
from stratos.report.sweep_jobs import Job

_OWN = ("paths.run_dir", "paths.cache_dir")
"""Settings in which any two runs differ."""


def figures_of(job: Job) -> dict[str, str]:
    """Return the figures of a run by what they are called; those that there are."""
    return dict(_figures(job))


def settings_of(folder: Path) -> dict[str, str]:
    """Return the settings of a run by dotted key, without secrets.

    Raises:
        ValueError: the file that keeps them is corrupt.
    """
    return {key: shown(key, value) for key, value in raw_settings_of(folder).items()}


def raw_settings_of(folder: Path) -> dict[str, Any]:
    """Return the same as it is kept: `shown` hides the secrets of one, which takes its time.

    What a card knows of its model's earlier trainings is no setting.
    """
    flat = _flat(provenance.config_of(folder))
    return {key: value for key, value in flat if key not in _OWN and not key.endswith(".runs")}


def shown(key: str, value: Any) -> str:
    """Return a setting without its secret."""
    return redact_override(f"{key}={value}").partition("=")[2]


def _figures(job: Job) -> Iterator[tuple[str, str]]:
    records = job.records
    yield "status", f"{job.status} {job.why}".strip()
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
    yield "spent", usd(sum(paid.usd for paid in read_ledger(job.folder / "ledger.jsonl")))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a config, each with its dotted key."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _flat(one, f"{prefix}.{key}" if prefix else str(key))
        return
    yield prefix, value
