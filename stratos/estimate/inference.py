"""Point estimates of inference, for callers that need no range."""

from __future__ import annotations

import math

from stratos.deploy.engines.known import engine_named
from stratos.estimate import constants as k
from stratos.estimate.answering import pace
from stratos.estimate.device import device_of
from stratos.estimate.generation import generate
from stratos.estimate.jobs import Workload
from stratos.estimate.memory import serving_bytes
from stratos.records import ModelCard, Offer, ServingSetting


def inference_bytes(card: ModelCard, context: float, batch: int = 1) -> float:
    """Return bytes of weights and cache on one device."""
    return serving_bytes(card, context, batch)


def server_gib(card: ModelCard, work: Workload, run: ServingSetting) -> float:
    """Return the most GiB that a plan counts with for a CPU server that answers: all of it.

    Args:
        card: the model.
        work: mean size of the requests.
        run: engine, format and answers at once.
    """
    engine = engine_named(run.engine)
    form = engine.weight_format(run.format)
    context = engine.cost.slot_context(card, work.context)
    held = serving_bytes(
        card, context, run.slots, weight_bytes=form.weight_bytes, cache_bytes=form.cache_bytes
    )
    return float(held) / k.MEMORY_USABLE / 2**30 + k.RUNTIME_GIB_CPU


def batch_hours(card: ModelCard, offer: Offer, work: Workload, n_answers: int) -> float:
    """Return the mean hours from the order of the server until it has given `n_answers`.

    Infinite where its memory does not hold the model.
    """
    found = generate(card, offer, work, n_answers)
    return math.inf if found is None else found.mean


def answers_per_s(card: ModelCard, offer: Offer, work: Workload, run: ServingSetting) -> float:
    """Return what one server answers a second as it is run, at the utilisation it is planned at.

    At all of its capacity where requests come one at a time.
    """
    device, engine = device_of(offer), engine_named(run.engine)
    cost, form = engine.cost, engine.weight_format(run.format)
    answer = pace(card, device, work, run.tensor_parallel, cost, form).steady(run.slots)
    replicas = max(1, device.count // run.tensor_parallel) if cost.all_devices else 1
    busy = run.utilisation or 1.0
    return busy * replicas * run.slots / float(answer.seconds(work.answer_tokens))
