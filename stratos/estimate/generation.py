"""Hours for a batch of answers on one server or several."""

from __future__ import annotations

import math

import numpy as np

from stratos.deploy.engines.known import engine_named
from stratos.estimate import constants as k
from stratos.estimate.answering import (
    GENERATE,
    GENERATE_COST,
    AnswerTime,
    all_degrees,
    answer_ranges,
    answer_source,
    fits,
    pace,
)
from stratos.estimate.device import Calibration, device_of
from stratos.estimate.fleet import Bools, Fleet, Ints, Ranges, startup_hours
from stratos.estimate.jobs import Workload, serving_bytes
from stratos.records import Interval, ModelCard, Offer, ServingSetting


def generate_all(
    card: ModelCard, fleet: Fleet, work: Workload, n_answers: int, n_nodes: Ints
) -> Ranges:
    """Return hours from the order until each has given `n_answers`; NaN where it does not fit.

    The batch is that of a local teacher, or what fits of it; the degree of tensor parallelism the
    one that ends first.

    Args:
        card: the teacher.
        fleet: the servers.
        work: size of an answer.
        n_answers: answers asked for.
        n_nodes: how many of each are together, each with its share of the answers.
    """
    return _generate_all(card, fleet, work, n_answers, n_nodes)[0]


def _generate_all(
    card: ModelCard, fleet: Fleet, work: Workload, n_answers: int, n_nodes: Ints
) -> tuple[Ranges, Bools]:
    """Return the hours, and where the host's launches decide."""
    n = len(fleet)
    best, rounds = np.full(n, np.inf), np.full(n, np.nan)
    time = AnswerTime(np.zeros(n), np.zeros(n), np.zeros(n, bool), np.zeros(n))
    for g in all_degrees(card, fleet):
        batch = np.full(n, max(1, min(k.TEACHER_BATCH, n_answers)))
        while True:
            held = fits(card, fleet, work.context, batch, g)
            if (held | (batch == 1)).all():
                break
            batch = np.where(held, batch, np.maximum(1, batch // 2))
        one = pace(card, fleet, work, g, GENERATE_COST).together(batch)
        replicas = np.maximum(1, fleet.count // g) * n_nodes
        turns = np.ceil(np.ceil(n_answers / batch) / replicas)
        seconds = turns * one.seconds(work.answer_tokens)
        better = held & (fleet.count >= g) & (seconds < best)
        best, rounds = np.where(better, seconds, best), np.where(better, turns, rounds)
        time = one.where(better, time)
    start = startup_hours(fleet, k.BYTES_PER_PARAM_INFER * float(card.n_params))
    hours = answer_ranges(card, fleet, work, time, rounds / 3600, GENERATE)
    return start + hours, time.launches


def generate(
    card: ModelCard,
    offer: Offer,
    work: Workload,
    n_answers: int,
    n_nodes: int = 1,
    calibration: Calibration | None = None,
) -> Interval | None:
    """Return hours from the order until servers have given `n_answers`; None if it does not fit.

    Args:
        card: the teacher.
        offer: the server.
        work: size of an answer.
        n_answers: answers asked for.
        n_nodes: servers of this kind together, each with its share of the answers.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    fleet = Fleet.of([device])
    hours, launches = _generate_all(card, fleet, work, n_answers, np.array([n_nodes]))
    if np.isnan(hours.mean[0]):
        return None
    return hours.interval(0, answer_source(card, device, work, bool(launches[0]), GENERATE))


# Point estimates of inference, for callers that need no range.


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
