"""Distillation objectives, their gradients, and the teacher's signals."""

from stratos.distill.objectives.base import Objective
from stratos.distill.objectives.signals import (
    Dense,
    Hidden,
    LMHead,
    Sampled,
    Shared,
    Signal,
    TopK,
)

__all__ = [
    "Dense",
    "Hidden",
    "LMHead",
    "Objective",
    "Sampled",
    "Shared",
    "Signal",
    "TopK",
]
