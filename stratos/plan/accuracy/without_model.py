"""Warn before training if a baseline without a model is good enough."""

from __future__ import annotations

from stratos.core.counted import counted
from stratos.records import ModelScore, Probe

WORTH_A_WARNING = 0.8
"""Share of validation rows that a baseline answers from which the user should look at it first."""


def without_model(probe: Probe) -> list[str]:
    """Return as a sentence what the best free baseline answers; none where there is no file."""
    best = _best(probe)
    return [] if best is None else [_told(best)]


def needs_no_model(probe: Probe) -> str:
    """Warn before a training that a free baseline does the task already; "" where none does."""
    best = _best(probe)
    if best is None or best.slice().exact.mean < WORTH_A_WARNING:
        return ""
    return f"{_told(best)} Compare before you train: a student has to beat that."


def _best(probe: Probe) -> ModelScore | None:
    return max(probe.baselines, key=lambda score: score.slice().exact.mean, default=None)


def _told(best: ModelScore) -> str:
    exact, n = best.slice().exact, best.slice().n_items
    return (
        f"Without a model, {best.name} answers {exact.mean:.1%} of {counted(n, 'validation row')} "
        f"(95% interval {exact.low:.1%} to {exact.high:.1%})."
    )
