"""The figures of a run as numbers, with units in their names, for programs."""

from __future__ import annotations

import math
from typing import Any

from stratos.records import Corpus, Deployment, Interval, Plan, Scorecard, Student
from stratos.report.costs import read_ledger
from stratos.report.sweep_jobs import Job


def numbers_of(job: Job) -> dict[str, Any]:
    """Return what is known of a run as plain values; None for what is not."""
    plan: Plan | None = job.records.get("plan")
    corpus: Corpus | None = job.records.get("synthesize")
    student: Student | None = job.records.get("distill")
    scorecard: Scorecard | None = job.records.get("evaluate")
    deployment: Deployment | None = job.records.get("deploy")
    wholes = {} if scorecard is None else {one.role: one.slice() for one in scorecard.scores}
    return {
        "status": job.status,
        "why": job.why,
        "teacher": None if plan is None else plan.teacher,
        "student": None if plan is None else plan.student,
        "strategy": None if plan is None else plan.strategy,
        "planned_usd": None if plan is None else _finite(plan.usd),
        "planned_hours": None if plan is None else _finite(plan.hours),
        "planned_latency_p95_ms": None if plan is None else _finite(plan.latency_ms),
        "predicted_accuracy": None if plan is None else _ends(plan.accuracy),
        "n_training_items": None if corpus is None else corpus.n_items,
        "n_params": None if student is None else student.n_params,
        "n_train_tokens": None if student is None else student.train_tokens,
        "validation_accuracy": None if student is None else _finite(student.validation_exact),
        "test_accuracy": {
            role: {**_ends(whole.exact), "n_items": whole.n_items} for role, whole in wholes.items()
        },
        "latency_p95_ms": None if deployment is None else _finite(deployment.latency_p95_ms),
        "bundle_bytes": None if deployment is None else deployment.bundle_bytes,
        "spent_usd": sum(paid.usd for paid in read_ledger(job.folder / "ledger.jsonl")),
    }


def _ends(quantity: Interval) -> dict[str, float | None]:
    return {
        "mean": _finite(quantity.mean),
        "low": _finite(quantity.low),
        "high": _finite(quantity.high),
    }


def _finite(value: float | None) -> float | None:
    """Return a number, or None for what JSON has none for."""
    return value if value is not None and math.isfinite(value) else None
