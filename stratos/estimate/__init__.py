"""Tokens per second, latency, memory and hours of a job on an offer: pure arithmetic."""

from stratos.estimate.cards import card_of_student
from stratos.estimate.inference import Workload, answer_seconds, batch_hours, fits_inference
from stratos.estimate.training import fits_training, train_hours

__all__ = [
    "Workload",
    "answer_seconds",
    "batch_hours",
    "card_of_student",
    "fits_inference",
    "fits_training",
    "train_hours",
]
