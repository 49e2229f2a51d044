"""Everyone on the same held-out items: student, untouched student, teacher and baselines."""

from stratos.evaluate.stage import evaluate

__all__ = ["evaluate"]
