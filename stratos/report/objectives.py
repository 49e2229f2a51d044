"""What jobs of a sweep are compared by, read from their records; test items choose nothing."""

from __future__ import annotations

from pathlib import Path

from stratos.report.frontier import chosen_point
from stratos.report.sweep_jobs import read_job

BETTER = {
    "accuracy": "maximize",
    "usd": "minimize",
    "hours": "minimize",
    "latency_ms": "minimize",
}
"""Accuracy on validation items, and the plan's dollars, hours and p95: which way is better."""


def objectives_of(folder: Path) -> dict[str, float]:
    """Return what is known of a job by its folder, as far as its stages have run."""
    records = read_job(folder.parent, folder).records
    found: dict[str, float] = {}
    if (student := records.get("distill")) is not None:
        found["accuracy"] = student.validation_exact
    if (plan := records.get("plan")) is not None:
        found |= {"usd": plan.usd, "hours": plan.hours, "latency_ms": chosen_point(plan).latency_ms}
    return found
