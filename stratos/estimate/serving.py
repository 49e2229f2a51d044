"""Latency and throughput of a serving server, at its operating points.

A server runs an engine (`answering`), which holds one replica of a model or count / g that are each
cut over g devices. A replica gives b answers at once; requests queue where all b are busy
(`queueing`). More at once, or busier, are more a second and wait longer: what is a point is what no
other setting of the same server beats in both.

    answer = wait + time of an answer at b (`answering`)
    rate   = ρ · replicas · b / time of an answer at b

Answers that share a processor: their 95th percentile, by a table of simulations.

The fewer are answered at once, the faster each is, where a step takes as much longer as there are
sequences in it. The queue of `queueing`, in which every answer takes what it takes with all slots
busy, is then too slow. `benchmarks/estimate/sharing.py` writes the table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from stratos.catalog.offers import local_offer
from stratos.catalog.table import Bools, Floats, Ints
from stratos.deploy.engines.base import engine_named
from stratos.estimate import constants as k
from stratos.estimate.answering import (
    AnswerTime,
    EngineChoice,
    Runner,
    all_degrees,
    answer_ranges,
    answer_source,
    fits,
    pace,
    runners,
)
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Calibration, Fleet, device_of
from stratos.estimate.queueing import p95_over_service, variation_squared, wait_of_waiting
from stratos.records import Interval, ModelCard, Offer, ServingSetting


@lru_cache(maxsize=1)
def _tables() -> tuple[Floats, Floats, dict[int, Floats]]:
    """Return the ratios, the shares busy, and the percentiles by number of slots."""
    text = files("stratos.estimate").joinpath("sharing.toml").read_text(encoding="utf-8")
    settings: dict[str, Any] = tomllib.loads(text)
    ratios, busy = np.array(settings["ratios"]), np.array([0.0, *settings["busy"]])
    alone = k.P95_OVER_MEAN * ratios[:, None]  # nobody else is there
    tables = {
        int(slots): np.hstack([alone, np.array(table["p95"])])
        for slots, table in settings["slots"].items()
    }
    return ratios, busy, tables


def p95_shared(slots: int, utilisation: float, ratio: Any) -> Floats:
    """Return the 95th percentile of wait and answer, over an answer with all slots busy.

    Args:
        slots: answers that are given at once, interpolated by their logarithm; fewer or more than
            the tables have count as the least or the most.
        utilisation: share of what it answers at most, below 1.
        ratio: seconds of an answer alone over those with all slots busy, a number or an array.
    """
    ratios, busy, tables = _tables()
    most = float(busy[-1])
    share = min(utilisation, most)
    known = np.log(list(tables))
    by_slots = np.array(
        [[np.interp(share, busy, row) for row in table] for table in tables.values()]
    )
    column = np.array([np.interp(np.log(slots), known, row_of) for row_of in by_slots.T])
    beyond = max(1.0, (1.0 - most) / (1.0 - utilisation))
    factors: Floats = beyond * np.interp(np.asarray(ratio, dtype=np.float64), ratios, column)
    return factors


def more_wait(
    slots: int, utilisation: float, seconds: Floats, weights: Floats, ratio: Floats
) -> Floats:
    """Return by how much longer answers wait behind all works than behind their own, by work.

    It is added to a 95th percentile of `p95_shared`, which knows answers of one size alone: a short
    one waits for slots that long ones hold. A share C of all finds every slot busy, and those wait
    θ seconds on average (`queueing`), so that 5% of all wait longer than θ · ln(C / 0.05). With 1
    added under the logarithm it is no step where C is about 0.05, and rather too long than too
    short.

    Args:
        slots: answers that are given at once, at least 2.
        utilisation: share of what it answers at most, below 1.
        seconds: mean of an answer with all slots busy, by (server, work).
        weights: share of each work in the requests.
        ratio: seconds of an answer alone over `seconds`, by (server, work) or by work.
    """
    square = seconds**2 @ weights / (seconds @ weights)
    theta = wait_of_waiting(slots, utilisation, 1.0)
    longer: Floats = theta * np.maximum(square[:, None] - seconds, 0.0)
    mixed = (seconds * ratio) @ weights / (seconds @ weights)
    return longer * np.log1p(_all_busy(slots, utilisation, mixed) / 0.05)[:, None]


def _all_busy(slots: int, utilisation: float, ratio: Floats) -> Floats:
    """Return the probability that a request finds every slot busy, where few are faster."""
    answered = np.arange(1, slots + 1)
    slow = ratio[:, None] + (1.0 - ratio[:, None]) * (answered - 1) / (slots - 1)
    states = np.cumprod(utilisation * slots * slow / answered, axis=1)
    states[:, -1] /= 1.0 - utilisation
    blocked: Floats = states[:, -1] / (1.0 + states.sum(axis=1))
    return blocked


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
    for runner in runners(card, fleet, choices):
        if not (fastest and runner.cost.slots[0] > 1):
            parts += _points(card, fleet, works, weights / weights.sum(), runner, fastest)
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
            is_fitting = fits(card, some, context, batch, g, form)
            times = tuple(p.steady(batch).take(rows[is_fitting]) for p in paces)
            server = on[is_fitting]
            seconds = np.column_stack(
                [t.seconds(work.answer_tokens) for t, work in zip(times, works, strict=True)]
            )
            shares = (
                alone[is_fitting] / seconds if cost.is_compiled else np.full_like(seconds, np.nan)
            )
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
    rest = []
    for i, part in enumerate(parts):
        own = figures[:, i : i + 1]
        no_worse = np.logical_and.reduce(figures <= own, axis=0)
        no_worse[i:] &= (figures[:, i:] != own).any(axis=0)
        rest.append(part.take(~no_worse.any(axis=0)[part.server]))
    points = _joined(rest)
    return points.take(np.argsort(points.server, kind="stable"))


# The operating points of one server, with ranges.


MOST_UTILISATION = 0.95
"""Utilisation at which the upper end of a latency is given, where a time of an answer at the upper
end of its own range would overrun the server."""


def p95_at_ends(
    seconds: Floats,
    weights: Floats,
    batch: int,
    utilisation: float,
    alone: Floats | None = None,
) -> Floats:
    """Return the 95th percentile of wait and answer at mean, low and high, by (end, work).

    The rate of requests is that of the mean at its utilisation: slower answers keep the server
    busier.

    Args:
        seconds: of an answer, by (end, work).
        weights: share of each work in the requests.
        batch: answers at once.
        utilisation: share of the time that a slot is busy, at the mean.
        alone: by work; see `p95_seconds`.
    """
    most = max(utilisation, MOST_UTILISATION)
    busy = np.minimum(utilisation * (seconds @ weights) / (seconds[0] @ weights), most).tolist()
    return np.vstack(
        [
            p95_seconds(row[None], weights, batch, share, alone)
            for row, share in zip(seconds, busy, strict=True)
        ]
    )


# The expected result of a load test: single answer, capacity, queue.


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
        busy = self.busy_ms
        ends = np.array([[busy.mean], [busy.low], [busy.high]])
        alone = np.array([self.answer_ms.mean / busy.mean]) if self.shares else None
        p95 = p95_at_ends(ends, np.ones(1), self.slots, utilisation, alone)
        mean, low, high = p95[:, 0].tolist()
        return Interval(mean, low, high, busy.source)


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
    computed = pace(
        card, fleet, work, run.tensor_parallel, engine.cost, engine.weight_format(run.format)
    )

    def answer(batch: int) -> Interval:
        time = computed.steady(batch)
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
    per_block = pace(card, device, work, 1, engine.cost, engine.weight_format(run.format))
    computed = per_block.steady(1).seconds(work.answer_tokens)
    host = max(answer_s - float(computed), LEAST_HOST_SHARE * answer_s)
    blocks = work.answer_tokens * engine.cost.host_blocks(card.n_layers, 1)
    return host / blocks if blocks else 0.0  # one without a host is corrected by `over_estimate`


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


_BUSY = 0.5
"""Share of its time that a server of a student is planned to be busy that is no language model."""
_REQUEST_MS = 0.5
"""Of a request beside the answer: HTTP and JSON (benchmarks/serving/predictor.py)."""


def serving_table_of_kind(
    ms_per_answer: float, fleet: Fleet, rates: Sequence[float] | None, has_encoder: bool
) -> ServingTable:
    """Return the one operating point of each server for a student that is no language model.

    One process answers, on any server as fast as here: an M/D/1 queue, whose 95th percentile at
    half of its capacity is below three times an answer. Texts that wait are answered together,
    which takes less and is not counted.

    Args:
        ms_per_answer: of one text alone on one core, as it was timed here.
        fleet: the servers.
        rates: requests per second by size; None where they come one at a time.
        has_encoder: whether an encoder answers.
    """
    n, n_sizes = len(fleet), 1 if rates is None else len(rates)
    ms = ms_per_answer + _REQUEST_MS
    p95 = k.P95_OVER_MEAN * ms if rates is None else 3.0 * ms
    busy = 0.0 if rates is None else _BUSY
    return ServingTable(
        server=np.arange(n),
        engine=np.full(n, "predictor-encoder" if has_encoder else "predictor"),
        format=np.full(n, ""),
        batch=np.full(n, 16),
        utilisation=np.full(n, busy),
        tensor_parallel=np.ones(n, dtype=int),
        latency_ms=np.full((n, n_sizes), p95),
        requests_per_s=np.full((n, n_sizes), (busy or 1.0) * 1000 / ms),
        alone=np.full((n, n_sizes), np.nan),
        times=(),
    )
