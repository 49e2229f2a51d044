"""Evaluate student, untouched student, teacher and baselines on the same held-out items."""

from stratos.evaluate.stage import evaluate

__all__ = ["evaluate"]
