"""The expected result of a load test: single answer, capacity, queue."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stratos.catalog.local import local_offer
from stratos.deploy.engines.known import engine_named
from stratos.estimate.answering import answer_ranges, answer_source, pace
from stratos.estimate.calibrate import Calibration
from stratos.estimate.device import device_of
from stratos.estimate.fleet import Fleet
from stratos.estimate.jobs import Workload
from stratos.estimate.points import p95_at_ends
from stratos.records import Interval, ModelCard, Offer, ServingSetting

LEAST_HOST_SHARE = 0.1
"""Least share of an answer that is the host's, where arithmetic would leave it none."""


@dataclass(frozen=True)
class Foresight:
    """A server before its load test."""

    answer_ms: Interval
    """Mean of an answer alone."""
    requests_per_s: Interval
    """What it answers at most."""
    busy_ms: Interval
    """Mean of an answer with all slots busy, without the wait before it."""
    slots: int
    shares: bool = False
    """Whether answers share a processor, so that few are faster than many."""

    def p95_ms(self, requests_per_s: float) -> Interval | None:
        """Return the 95th percentile of an answer under a rate; None where it is overrun by it."""
        utilisation = requests_per_s / self.requests_per_s.mean
        if utilisation >= 1.0:
            return None
        one = self.busy_ms
        ends = np.array([[one.mean], [one.low], [one.high]])
        alone = np.array([self.answer_ms.mean / one.mean]) if self.shares else None
        p95 = p95_at_ends(ends, np.ones(1), self.slots, utilisation, alone)
        mean, low, high = p95[:, 0].tolist()
        return Interval(mean, low, high, one.source)


def foresee(
    card: ModelCard,
    offer: Offer,
    work: Workload,
    run: ServingSetting,
    calibration: Calibration | None = None,
) -> Foresight:
    """Return what a server is expected to show.

    Args:
        card: the student.
        offer: the server.
        work: size of the requests.
        run: engine, and answers at once.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    fleet = Fleet.of([device])
    engine = engine_named(run.engine)
    found = pace(
        card, fleet, work, run.tensor_parallel, engine.cost, engine.weight_format(run.format)
    )

    def answer(batch: int) -> Interval:
        time = found.steady(batch)
        source = answer_source(card, device, work, bool(time.launches[0]), run.engine)
        return answer_ranges(card, fleet, work, time, 1000.0, run.engine).interval(0, source)

    busy = answer(run.slots)
    mean, low, high = (1000 * run.slots / ms for ms in (busy.mean, busy.high, busy.low))
    most = Interval(mean, low, high, busy.source)
    return Foresight(answer(1), most, busy, run.slots, engine.cost.is_compiled)


def block_seconds(
    card: ModelCard,
    offer: Offer,
    work: Workload,
    run: ServingSetting,
    answer_s: float,
    calibration: Calibration | None = None,
) -> float:
    """Return the seconds of a block that bring the estimate to an answer as it was measured.

    Args:
        card: the student.
        offer: the server, without a GPU.
        work: mean size of the requests.
        run: engine; the answers came one at a time.
        answer_s: mean seconds of an answer.
        calibration: the measurement of this machine.
    """
    device = replace(device_of(offer, calibration), decode_floor_s=0.0, load_tested=True)
    engine = engine_named(run.engine)
    found = pace(card, device, work, 1, engine.cost, engine.weight_format(run.format))
    computed = found.steady(1).seconds(work.answer_tokens)
    host = max(answer_s - float(computed), LEAST_HOST_SHARE * answer_s)
    return host / (work.answer_tokens * engine.cost.host_blocks(card.n_layers, 1))


def over_estimate(
    card: ModelCard, work: Workload, run: ServingSetting, answer_s: float, machine: Calibration
) -> float:
    """Return the seconds of an answer over those of the estimate without load tests.

    Args:
        card: the student.
        work: mean size of the requests.
        run: how it was served on this machine; the answers came one at a time.
        answer_s: mean seconds of an answer.
        machine: the measurement of this machine.
    """
    expected = foresee(card, local_offer(), work, run, replace(machine, served=()))
    return 1000 * answer_s / expected.answer_ms.mean
