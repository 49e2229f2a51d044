"""The roofline estimate: throughput, latency, memory and hours of a job on an offer."""

from stratos.estimate.calibrate import Calibration, ServedHere, calibration, remember
from stratos.estimate.cards import card_of_student
from stratos.estimate.device import device_of
from stratos.estimate.engines import EngineChoice
from stratos.estimate.fleet import Fleet, Ranges
from stratos.estimate.foresight import Foresight, block_seconds, foresee, over_estimate
from stratos.estimate.generation import generate, generate_all
from stratos.estimate.inference import answers_per_s, batch_hours, server_gib
from stratos.estimate.jobs import TrainingJob, Workload
from stratos.estimate.points import ServingPoint, serving
from stratos.estimate.serving import ServingTable, serving_all
from stratos.estimate.training import train, train_all

__all__ = [
    "Calibration",
    "EngineChoice",
    "Fleet",
    "Foresight",
    "Ranges",
    "ServedHere",
    "ServingPoint",
    "ServingTable",
    "TrainingJob",
    "Workload",
    "answers_per_s",
    "batch_hours",
    "block_seconds",
    "calibration",
    "card_of_student",
    "device_of",
    "foresee",
    "generate",
    "generate_all",
    "over_estimate",
    "remember",
    "server_gib",
    "serving",
    "serving_all",
    "train",
    "train_all",
]
