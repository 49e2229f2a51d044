"""Pretrained students: where their weights are, and whether they are available."""

from stratos.models.students.available import check_students, starts_from_model, why_not
from stratos.models.students.weights import folder_of, is_here, not_here, ready

__all__ = [
    "check_students",
    "folder_of",
    "is_here",
    "not_here",
    "ready",
    "starts_from_model",
    "why_not",
]
