"""Single figures of a model that answers, for callers that need no range."""

from __future__ import annotations

import math

from stratos.estimate.generation import generate
from stratos.estimate.jobs import Workload
from stratos.estimate.memory import serving_bytes
from stratos.records import ModelCard, Offer


def inference_bytes(card: ModelCard, context: float, batch: int = 1) -> float:
    """Return bytes of weights and cache on one device."""
    return serving_bytes(card, context, batch)


def batch_hours(card: ModelCard, offer: Offer, work: Workload, n_answers: int) -> float:
    """Return the mean hours from the order of the server until it has given `n_answers`.

    Infinite where its memory does not hold the model.
    """
    found = generate(card, offer, work, n_answers)
    return math.inf if found is None else found.mean
