"""The operating points of one server, with ranges, as tests and benchmarks look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stratos.catalog.table import Floats
from stratos.estimate.answering import EngineChoice, answer_ranges, answer_source
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Calibration, Fleet, Ranges, device_of, ranged, source_of
from stratos.estimate.queueing import busy_probability, wait_of_waiting
from stratos.estimate.serving import (
    MOST_UTILISATION,
    _mixture,
    p95_at_ends,
    serving_all,
)
from stratos.records import Interval, ModelCard, Offer


@dataclass(frozen=True)
class ServingPoint:
    """One way to run a server: no other one of it is faster for an answer and gives more."""

    engine: str
    format: str
    """Export that it serves; "" for the bundle's own weights."""
    batch: int
    """Answers that a replica gives at once."""
    utilisation: float
    """Share of its capacity that it is busy to; 0 where requests come one at a time."""
    tensor_parallel: int
    ttft_ms: Interval
    """Time to first token with the wait before it, mean over the works."""
    tpot_ms: Interval
    """Time per output token, mean over the works."""
    latency_ms: tuple[Interval, ...]
    """95th percentile of one answer with the wait before it, of each work."""
    requests_per_s: tuple[float, ...]
    """What one server gives of each work alone, at its utilisation; at all of it where that is
    0."""


def serving(
    card: ModelCard,
    offer: Offer,
    works: Sequence[Workload],
    calibration: Calibration | None = None,
    fastest: bool = False,
    choices: Sequence[EngineChoice] | None = None,
) -> tuple[ServingPoint, ...]:
    """Return the operating points of one server that no other dominates; none if nothing fits.

    Args:
        card: the student.
        offer: the server.
        works: sizes of the requests that it answers; latency and rate are given for each.
        calibration: the measurement of this machine, for local offers.
        fastest: requests come one at a time: return the point with the fastest answers alone.
        choices: engines and formats that are asked for; see `runners`.
    """
    device = device_of(offer, calibration)
    points = serving_all(card, Fleet.of([device]), works, fastest=fastest, choices=choices)
    if not len(points):
        return ()
    fleet = Fleet.of([device] * len(points))
    weights = np.full(len(works), 1 / len(works))
    settings = list(zip(points.batch.tolist(), points.utilisation.tolist(), strict=True))
    times = points.times
    launches = np.any([time.launches for time in times], axis=0)
    engines = points.engine
    answers = [
        answer_ranges(card, fleet, work, time, 1.0, engines)
        for work, time in zip(works, times, strict=True)
    ]
    first, output, hidden, request = (
        1000 * np.mean([getattr(time, column) for time in times], axis=0)
        for column in ("first_token", "output_token", "hidden", "request")
    )
    firsts = ranged(fleet, "first_token", first, launches, engines, spared=request)
    outputs = ranged(fleet, "output_token", output, launches, engines, hidden)
    found = []
    for i, setting in enumerate(settings):
        ends = np.array([_ends(ranges, i) for ranges in answers]).T
        p95 = 1000 * p95_at_ends(ends, weights, *setting, points.alone[i])
        waits = 1000 * mean_waits_at_ends(ends, weights, *setting)
        engine, floor = str(engines[i]), bool(launches[i])
        queued = queue_note(ends, weights, setting[1])
        ttft = (np.array(_ends(firsts, i)) + waits).tolist()
        of_first = source_of(device, "first_token", floor, engine) + queued
        of_answer = [answer_source(card, device, work, floor, engine) + queued for work in works]
        found.append(
            ServingPoint(
                engine=engine,
                format=str(points.format[i]),
                batch=setting[0],
                utilisation=setting[1],
                tensor_parallel=int(points.tensor_parallel[i]),
                ttft_ms=Interval(ttft[0], ttft[1], ttft[2], of_first),
                tpot_ms=outputs.interval(i, source_of(device, "output_token", floor, engine)),
                latency_ms=tuple(
                    Interval(row[0], row[1], row[2], source)
                    for row, source in zip(p95.T.tolist(), of_answer, strict=True)
                ),
                requests_per_s=tuple(points.requests_per_s[i].tolist()),
            )
        )
    return tuple(found)


def _ends(ranges: Ranges, i: int) -> tuple[float, float, float]:
    return float(ranges.mean[i]), float(ranges.low[i]), float(ranges.high[i])


def mean_waits_at_ends(seconds: Floats, weights: Floats, batch: int, utilisation: float) -> Floats:
    """Return the mean seconds before an answer begins at mean, low and high; see `p95_at_ends`."""
    busy = _busy_at_ends(seconds, weights, utilisation)
    return np.concatenate(
        [
            mean_wait(row[None], weights, batch, share)
            for row, share in zip(seconds, busy, strict=True)
        ]
    )


def mean_wait(seconds: Floats, weights: Floats, batch: int, utilisation: float) -> Floats:
    """Return the mean seconds before an answer begins, by server; see `p95_seconds`."""
    mean, square = _mixture(seconds, weights)
    wait = wait_of_waiting(batch, utilisation, mean, square)
    found: Floats = busy_probability(batch, utilisation) * wait
    return found


def queue_note(seconds: Floats, weights: Floats, utilisation: float) -> str:
    """Return what a source adds where the server may be overrun at the upper end; else nothing."""
    highest = _busy_shares(seconds, weights, utilisation)[-1]
    if highest <= max(utilisation, MOST_UTILISATION):
        return ""
    return f"; the queue may have no end: the high end is that of {MOST_UTILISATION:.0%} busy"


def _busy_shares(seconds: Floats, weights: Floats, utilisation: float) -> Floats:
    """Return how busy the rate at the mean keeps the server at each end."""
    found: Floats = utilisation * (seconds @ weights) / (seconds[0] @ weights)
    return found


def _busy_at_ends(seconds: Floats, weights: Floats, utilisation: float) -> list[float]:
    """Return the same, where the server is not overrun."""
    most = max(utilisation, MOST_UTILISATION)
    shares: list[float] = np.minimum(_busy_shares(seconds, weights, utilisation), most).tolist()
    return shares
