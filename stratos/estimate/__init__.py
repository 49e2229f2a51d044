"""The roofline estimate: throughput, latency, memory and hours of a job on an offer."""

from stratos.estimate.answering import EngineChoice
from stratos.estimate.cards import TrainingJob, Workload, card_of_student
from stratos.estimate.fleet import (
    Calibration,
    Fleet,
    Ranges,
    ServedHere,
    calibration,
    device_of,
    remember,
)
from stratos.estimate.hours import (
    answers_per_s,
    batch_hours,
    generate,
    generate_all,
    server_gib,
    train,
    train_all,
)
from stratos.estimate.serving import (
    Foresight,
    ServingTable,
    block_seconds,
    foresee,
    over_estimate,
    serving_all,
)

__all__ = [
    "Calibration",
    "EngineChoice",
    "Fleet",
    "Foresight",
    "Ranges",
    "ServedHere",
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
    "serving_all",
    "train",
    "train_all",
]
