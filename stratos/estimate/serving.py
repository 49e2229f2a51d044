"""Latency and throughput of a serving server, at its operating points.

A server runs an engine (`engines`), which holds one replica of a model or count / g that are each
cut over g devices. A replica gives b answers at once; requests queue where all b are busy
(`queueing`). More at once, or busier, are more a second and wait longer: what is a point is what no
other setting of the same server beats in both.

    answer = wait + time of an answer at b (`answering`)
    rate   = ρ · replicas · b / time of an answer at b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stratos.estimate.answering import AnswerTime, all_degrees, fits, pace
from stratos.estimate.engines import EngineChoice, Runner, runners
from stratos.estimate.fleet import Bools, Fleet, Floats, Ints
from stratos.estimate.jobs import Workload
from stratos.estimate.queueing import (
    busy_probability,
    p95_over_service,
    variation_squared,
    wait_of_waiting,
)
from stratos.estimate.sharing import more_wait, p95_shared
from stratos.records import ModelCard, ServingSetting


@dataclass(frozen=True, eq=False)
class ServingTable:
    """Operating points of many servers, as arrays with one row a point."""

    server: Ints
    """Its server: a number of the fleet."""
    engine: Any
    """Name of the engine."""
    format: Any
    """Name of the format that it serves; "" for the bundle's own weights."""
    batch: Ints
    utilisation: Floats
    tensor_parallel: Ints
    latency_ms: Floats
    """95th percentile of one answer with the wait before it, by work."""
    requests_per_s: Floats
    """What one server gives of each work alone, at its utilisation."""
    alone: Floats
    """By work: share of its seconds that an answer alone takes, where answers share a processor;
    NaN elsewhere."""
    times: tuple[AnswerTime, ...]
    """By work: what an answer takes at all points, without the wait."""

    def __len__(self) -> int:
        return len(self.server)

    def take(self, index: Ints | Bools) -> ServingTable:
        """Return some of the points."""
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "times"}
        return ServingTable(**columns, times=tuple(time.take(index) for time in self.times))


def serving_all(
    card: ModelCard,
    fleet: Fleet,
    works: Sequence[Workload],
    shares: Sequence[float] | None = None,
    fastest: bool = False,
    choices: Sequence[EngineChoice] | None = None,
) -> ServingTable:
    """Return the operating points of each server that no other of it dominates.

    Args:
        card: the student.
        fleet: the servers; one that does not hold the model has no point.
        works: sizes of the requests that they answer.
        shares: weight of each of them in the traffic, which the wait depends on; None for equal
            ones.
        fastest: requests come one at a time: return the point of each server with the fastest
            answer to the slowest work alone.
        choices: engines and formats that are asked for; see `runners`.
    """
    weights = np.ones(len(works)) if shares is None else np.array(shares, dtype=np.float64)
    parts: list[ServingTable] = []
    for one in runners(card, fleet, choices):
        if not (fastest and one.cost.slots[0] > 1):
            parts += _points(card, fleet, works, weights / weights.sum(), one, fastest)
    return _fastest(parts) if fastest else _undominated(parts, len(fleet))


def _points(
    card: ModelCard,
    fleet: Fleet,
    works: Sequence[Workload],
    weights: Floats,
    runner: Runner,
    fastest: bool,
) -> list[ServingTable]:
    """Return the points of an engine on the servers that it runs on, those that fit."""
    cost, form, on = runner.cost, runner.format, np.flatnonzero(runner.runs)
    # An answer takes the longer, the more there are.
    slots = cost.slots[:1] if fastest else cost.slots
    utilisations = (0.0,) if fastest else cost.utilisations
    context = cost.slot_context(card, max(work.context for work in works))
    parts: list[ServingTable] = []
    before = np.full((len(fleet), len(works)), np.inf)
    every = np.zeros(len(fleet), bool)
    """Whether every batch fitted on fewer devices."""
    for g in all_degrees(card, fleet) if cost.all_devices else (1,):
        on = on[fleet.count[on] >= g]
        some = fleet.take(on)
        paces = [pace(card, some, work, g, cost, form) for work in works]
        alone = np.column_stack([p.steady(1).seconds(p.work.answer_tokens) for p in paces])
        go_on = ~(every[on] & (alone >= before[on]).all(axis=1))  # else more do not shorten it
        rows = np.flatnonzero(go_on)
        on, some, alone = on[rows], some.take(rows), alone[rows]
        before[on] = alone
        every[on] = fits(card, some, context, cost.slots[-1], g, form)
        for batch in slots:
            held = fits(card, some, context, batch, g, form)
            times = tuple(p.steady(batch).take(rows[held]) for p in paces)
            server = on[held]
            seconds = np.column_stack(
                [t.seconds(work.answer_tokens) for t, work in zip(times, works, strict=True)]
            )
            shares = alone[held] / seconds if cost.is_compiled else np.full_like(seconds, np.nan)
            replicas = fleet.count[server] // g if cost.all_devices else np.ones_like(server)
            for utilisation in utilisations:
                share = utilisation or 1.0
                parts.append(
                    ServingTable(
                        server,
                        np.full(len(server), runner.kind),
                        np.full(len(server), form.name),
                        np.full(len(server), batch),
                        np.full(len(server), utilisation),
                        np.full(len(server), g),
                        1000 * p95_seconds(seconds, weights, batch, utilisation, shares),
                        share * (replicas * batch)[:, None] / seconds,
                        shares,
                        times,
                    )
                )
    return parts


def p95_seconds(
    seconds: Floats,
    weights: Floats,
    batch: int,
    utilisation: float,
    alone: Floats | None = None,
) -> Floats:
    """Return the 95th percentile of wait and answer together, by (server, work).

    Args:
        seconds: mean of an answer, by (server, work).
        weights: share of each work in the requests.
        batch: answers at once.
        utilisation: share of the time that a slot is busy.
        alone: share of `seconds` that an answer alone takes, where answers share a processor.
    """
    if alone is not None and batch > 1 and not np.isnan(alone).any():
        longer = more_wait(batch, utilisation, seconds, weights, alone)
        return seconds * p95_shared(batch, utilisation, alone) + longer
    mean, square = _mixture(seconds, weights)
    wait = wait_of_waiting(batch, utilisation, mean, square)[:, None]
    return seconds * p95_over_service(batch, utilisation, wait / seconds)


def routed_p95_ms(
    latencies_ms: Sequence[float],
    requests_per_s: Sequence[float],
    traffic: Sequence[float],
    routed: Sequence[float],
    setting: ServingSetting,
) -> tuple[float, ...]:
    """Return the 95th percentiles of a server that answers only a part of the traffic, by work.

    Its queue is that of the requests that come to it: where these are the longer ones, everybody
    behind them waits longer than in a queue of all requests.

    Args:
        latencies_ms: its percentiles if it answered the works as the whole traffic has them.
        requests_per_s: what it answers of each work alone.
        traffic: requests per second of each work.
        routed: of these, what comes to it.
        setting: how it is run.
    """
    slots, busy = setting.slots, setting.utilisation
    relative = 1.0 / np.array([requests_per_s])
    alone = np.array([setting.alone]) if setting.alone else None

    def p95(weights: Sequence[float]) -> Floats:
        share = np.array(weights, dtype=np.float64)
        return p95_seconds(relative, share / share.sum(), slots, busy, alone)[0]

    return tuple((np.array(latencies_ms) * p95(routed) / p95(traffic)).tolist())


def mean_wait(seconds: Floats, weights: Floats, batch: int, utilisation: float) -> Floats:
    """Return the mean seconds before an answer begins, by server; see `p95_seconds`."""
    mean, square = _mixture(seconds, weights)
    wait = wait_of_waiting(batch, utilisation, mean, square)
    found: Floats = busy_probability(batch, utilisation) * wait
    return found


def _mixture(seconds: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return mean and mean square of the answers of all works together, by server if several."""
    return seconds @ weights, (seconds**2 @ weights) * (1.0 + variation_squared())


def _joined(parts: Sequence[ServingTable]) -> ServingTable:
    """Return the points of all parts."""

    def of(tables: Sequence[Any], column: str) -> Any:
        return np.concatenate([getattr(table, column) for table in tables])

    by_work = zip(*(part.times for part in parts), strict=True)
    return ServingTable(
        **{f.name: of(parts, f.name) for f in fields(ServingTable) if f.name != "times"},
        times=tuple(
            AnswerTime(*(of(times, f.name) for f in fields(AnswerTime))) for times in by_work
        ),
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
    figures = np.full((2 * n_works, len(parts), n_servers), np.inf)
    for i, part in enumerate(parts):
        figures[:, i, part.server] = np.hstack([part.latency_ms, -part.requests_per_s]).T
    left = []
    for i, part in enumerate(parts):
        own = figures[:, i : i + 1]
        no_worse = np.logical_and.reduce(figures <= own, axis=0)
        no_worse[i:] &= (figures[:, i:] != own).any(axis=0)
        left.append(part.take(~no_worse.any(axis=0)[part.server]))
    points = _joined(left)
    return points.take(np.argsort(points.server, kind="stable"))
