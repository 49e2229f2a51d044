"""Latency and throughput of a server that answers: its operating points.

A server holds count / g replicas of a model that is cut over g devices; each gives b answers per
answer time (`answering`). More at once are more a second and wait longer for each other: what is a
point is what no other batch and degree of the same server beats in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from stratos.estimate.fleet import Bools, Fleet, Floats, Ints, ranged, source_of
from stratos.estimate.jobs import Workload
from stratos.records import Interval, ModelCard, Offer

BATCHES = (1, 4, 16, 64, 256)
"""Batches that a server is considered at."""


@dataclass(frozen=True)
class ServingPoint:
    """One way to run a server: no other one of it is faster for an answer and gives more."""

    batch: int
    tensor_parallel: int
    ttft_ms: Interval
    """Time to first token, mean over the works."""
    tpot_ms: Interval
    """Time per output token, mean over the works."""
    latency_ms: tuple[Interval, ...]
    """95th percentile of one answer, of each work."""
    requests_per_s: tuple[float, ...]
    """What one server gives of each work alone."""


@dataclass(frozen=True, eq=False)
class ServingTable:
    """Operating points of many servers, as arrays with one row a point."""

    server: Ints
    """Its server: a number of the fleet."""
    batch: Ints
    tensor_parallel: Ints
    latency_ms: Floats
    """95th percentile of one answer, by work."""
    requests_per_s: Floats
    """What one server gives of each work alone."""
    times: tuple[AnswerTime, ...]
    """By work: what an answer takes at all points."""

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.server)

    def take(self, index: Ints | Bools) -> ServingTable:
        """Return some of the points."""
        return ServingTable(
            self.server[index],
            self.batch[index],
            self.tensor_parallel[index],
            self.latency_ms[index],
            self.requests_per_s[index],
            tuple(time.take(index) for time in self.times),
        )


def serving_all(
    card: ModelCard, fleet: Fleet, works: Sequence[Workload], fastest: bool = False
) -> ServingTable:
    """Return the operating points of each server that no other of it dominates.

    Args:
        card: the student.
        fleet: the servers; one that does not hold the model has no point.
        works: sizes of the requests that they answer.
        fastest: return the point of each server with the fastest answer to the slowest work alone.
    """
    batches = BATCHES[:1] if fastest else BATCHES  # An answer takes the longer, the more there are.
    context = max(work.context for work in works)
    parts: list[ServingTable] = []
    on = np.arange(len(fleet))
    before = np.full((len(fleet), len(works)), np.inf)
    every = np.zeros(len(fleet), bool)
    """Whether every batch fitted on fewer devices."""
    for g in all_degrees(card, fleet):
        on = on[fleet.count[on] >= g]
        some = fleet.take(on)
        paces = [pace(card, some, work, g) for work in works]
        alone = np.column_stack([p.steady(1).seconds(p.work.answer_tokens) for p in paces])
        go_on = ~(every[on] & (alone >= before[on]).all(axis=1))  # else more do not shorten it
        rows = np.flatnonzero(go_on)
        on, some, alone = on[rows], some.take(rows), alone[rows]
        before[on] = alone
        every[on] = fits(card, some, context, BATCHES[-1], g)
        for batch in batches:
            held = fits(card, some, context, batch, g)
            times = tuple(p.steady(batch).take(rows[held]) for p in paces)
            server = on[held]
            seconds = np.column_stack(
                [t.seconds(work.answer_tokens) for t, work in zip(times, works, strict=True)]
            )
            parts.append(
                ServingTable(
                    server,
                    np.full(len(server), batch),
                    np.full(len(server), g),
                    1000 * k.P95_OVER_MEAN * seconds,
                    (fleet.count[server] // g * batch)[:, None] / seconds,
                    times,
                )
            )
    return _fastest(parts) if fastest else _undominated(parts, len(fleet))


def _joined(parts: Sequence[ServingTable]) -> ServingTable:
    """Return the points of all parts."""

    def of(tables: Sequence[Any], column: str) -> Any:
        return np.concatenate([getattr(table, column) for table in tables])

    columns = ("first_token", "output_token", "launches")
    by_work = zip(*(part.times for part in parts), strict=True)
    return ServingTable(
        server=of(parts, "server"),
        batch=of(parts, "batch"),
        tensor_parallel=of(parts, "tensor_parallel"),
        latency_ms=of(parts, "latency_ms"),
        requests_per_s=of(parts, "requests_per_s"),
        times=tuple(AnswerTime(*(of(times, c) for c in columns)) for times in by_work),
    )


def _fastest(parts: Sequence[ServingTable]) -> ServingTable:
    """Return the point of each server whose slowest answer is the fastest; of equals the first."""
    points = _joined(parts)
    order = np.lexsort((points.latency_ms.max(axis=1), points.server))
    _, first = np.unique(points.server[order], return_index=True)
    return points.take(order[first])


def _undominated(parts: Sequence[ServingTable], n_servers: int) -> ServingTable:
    """Return the points of each server that no other of it dominates; of equals the first."""
    n_works = parts[0].latency_ms.shape[1]
    figures = np.full((len(parts), n_servers, 2 * n_works), np.inf)
    for of_part, part in zip(figures, parts, strict=True):
        of_part[part.server] = np.hstack([part.latency_ms, -part.requests_per_s])
    left = []
    for i, part in enumerate(parts):
        no_worse = (figures <= figures[i]).all(axis=2)
        no_worse[i:] &= (figures[i:] != figures[i]).any(axis=2)
        left.append(part.take(~no_worse.any(axis=0)[part.server]))
    points = _joined(left)
    return points.take(np.argsort(points.server, kind="stable"))


def serving(
    card: ModelCard,
    offer: Offer,
    works: Sequence[Workload],
    calibration: Calibration | None = None,
) -> tuple[ServingPoint, ...]:
    """Return the operating points of one server that no other dominates; none if nothing fits.

    Args:
        card: the student.
        offer: the server.
        works: sizes of the requests that it answers; latency and rate are given for each.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    points = serving_all(card, Fleet.of([device]), works)
    if not len(points):
        return ()
    fleet = Fleet.of([device] * len(points))
    launches = np.any([time.launches for time in points.times], axis=0)

    def mean(quantity: str, seconds: Sequence[Floats]) -> list[Interval]:
        total = np.sum(seconds, axis=0)
        milliseconds = ranged(fleet, quantity, 1000 * total / len(seconds), launches)
        return [
            milliseconds.interval(i, source_of(device, quantity, bool(launches[i])))
            for i in range(len(points))
        ]

    first = mean("first_token", [time.first_token for time in points.times])
    output = mean("output_token", [time.output_token for time in points.times])
    latency = [
        answer_ranges(card, fleet, work, time, 1000 * k.P95_OVER_MEAN)
        for work, time in zip(works, points.times, strict=True)
    ]
    return tuple(
        ServingPoint(
            batch=int(points.batch[i]),
            tensor_parallel=int(points.tensor_parallel[i]),
            ttft_ms=first[i],
            tpot_ms=output[i],
            latency_ms=tuple(
                ranges.interval(i, answer_source(card, device, work, bool(time.launches[i])))
                for ranges, work, time in zip(latency, works, points.times, strict=True)
            ),
            requests_per_s=tuple(points.requests_per_s[i].tolist()),
        )
        for i in range(len(points))
    )
