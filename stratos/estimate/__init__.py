"""Tokens per second, latency, memory and hours of a job on an offer: pure arithmetic."""

from stratos.estimate.calibrate import Calibration, calibration
from stratos.estimate.cards import card_of_student
from stratos.estimate.device import device_of
from stratos.estimate.fleet import Fleet, Ranges
from stratos.estimate.generation import generate, generate_all
from stratos.estimate.inference import batch_hours
from stratos.estimate.jobs import TrainingJob, Workload
from stratos.estimate.serving import ServingPoint, ServingTable, serving, serving_all
from stratos.estimate.training import train, train_all
from stratos.estimate.why_not import (
    bytes_to_serve,
    bytes_to_train,
    why_not_serve,
    why_not_train,
)

__all__ = [
    "Calibration",
    "Fleet",
    "Ranges",
    "ServingPoint",
    "ServingTable",
    "TrainingJob",
    "Workload",
    "batch_hours",
    "bytes_to_serve",
    "bytes_to_train",
    "calibration",
    "card_of_student",
    "device_of",
    "generate",
    "generate_all",
    "serving",
    "serving_all",
    "train",
    "train_all",
    "why_not_serve",
    "why_not_train",
]
