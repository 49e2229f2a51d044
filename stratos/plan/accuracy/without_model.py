"""Warn before training if a baseline without a model is good enough."""

from __future__ import annotations

from stratos.plan.words import NeedsNoModel, WithoutModel
from stratos.records import ModelScore, Probe

WORTH_A_WARNING = 0.8
"""Share of validation rows that a baseline answers from which the user should look at it first."""


def without_model(probe: Probe) -> WithoutModel | None:
    """Return what the best baseline without a model answers; None where none was tried."""
    best = _best(probe)
    return None if best is None else WithoutModel(best)


def needs_no_model(probe: Probe) -> NeedsNoModel | None:
    """Return, before a training, that such a baseline does the task already; None if none does."""
    best = _best(probe)
    if best is None or best.slice().exact.mean < WORTH_A_WARNING:
        return None
    return NeedsNoModel(best)


def _best(probe: Probe) -> ModelScore | None:
    return max(probe.baselines, key=lambda score: score.slice().exact.mean, default=None)
