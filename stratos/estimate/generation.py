"""Hours for a batch of answers on one server or several."""

from __future__ import annotations

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.answering import (
    AnswerTime,
    all_degrees,
    answer_ranges,
    answer_source,
    fits,
    pace,
)
from stratos.estimate.calibrate import Calibration
from stratos.estimate.device import device_of
from stratos.estimate.engines import GENERATE, GENERATE_COST
from stratos.estimate.fleet import Bools, Fleet, Ints, Ranges
from stratos.estimate.jobs import Workload
from stratos.estimate.startup import startup_hours
from stratos.records import Interval, ModelCard, Offer


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
