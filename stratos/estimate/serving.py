"""Latency and throughput of a model that answers on a server: operating points, batch jobs.

    answer       = first token + answer tokens · output token
    first token  = prefill + half a step, the one that runs when the request comes (batch > 1)
    output token = step + (b - 1) · prefill / answer tokens
    step         = max( decode(b, prompt + answer/2), floor · L )

A server in steady state at batch b admits a prompt whenever an answer ends, so that every answer
waits for the prefills of b - 1 others during its life. A server holds count / g replicas of a model
that is cut over g devices; each gives b answers per answer time. A batch job fills and empties its
batch at once: b prefills, then the steps.

Where the floor of launches decides (`transformers` issues kernels from Python) the range is that of
hosts, else that of the roofline's fit. On a CPU server the latency that a card's runs measured at
batch 1 replaces the arithmetic, and scales it at larger batches: the machine's own floor is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.calibrate import Calibration
from stratos.estimate.device import Device, device_of
from stratos.estimate.fitted import fitted
from stratos.estimate.fleet import Bools, Fleet, Floats, Ints, Ranges, ranged, source_of
from stratos.estimate.jobs import Workload
from stratos.estimate.memory import serving_bytes
from stratos.estimate.roofline import (
    DecodeLine,
    Number,
    ServeSetup,
    decode_line,
    prefill_seconds,
)
from stratos.estimate.startup import startup_hours
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


@dataclass(frozen=True, eq=False)
class AnswerTime:
    """Seconds of one answer at a batch."""

    first_token: Number
    output_token: Number
    launches: Any
    """Whether the floor of launches decides."""

    def seconds(self, answer_tokens: float) -> Number:
        """Return the seconds of a whole answer."""
        return self.first_token + answer_tokens * self.output_token

    def take(self, index: Ints | Bools) -> AnswerTime:
        """Return the answers of some servers."""
        return AnswerTime(self.first_token[index], self.output_token[index], self.launches[index])

    def where(self, chosen: Bools, other: AnswerTime) -> AnswerTime:
        """Return these answers where `chosen`, those of `other` elsewhere."""
        return AnswerTime(
            np.where(chosen, self.first_token, other.first_token),
            np.where(chosen, self.output_token, other.output_token),
            np.where(chosen, self.launches, other.launches),
        )


def tensor_degrees(card: ModelCard, device: Device) -> tuple[int, ...]:
    """Return the degrees of tensor parallelism that model and server allow: powers of two."""
    degrees, g = [], 1
    while g <= device.count and card.n_heads % g == 0:
        degrees.append(g)
        g *= 2
    return tuple(degrees)


def _fits(
    card: ModelCard, fleet: Fleet, context: float, batch: Number, tensor_parallel: int
) -> Bools:
    """Return where a group of devices holds model and cache."""
    return serving_bytes(card, context, batch, tensor_parallel) <= fleet.memory_bytes


def _all_degrees(card: ModelCard, fleet: Fleet) -> Iterator[int]:
    """Yield the degrees of tensor parallelism that the model and some server allow."""
    g = 1
    while g <= fleet.count.max(initial=0) and card.n_heads % g == 0:
        yield g
        g *= 2


@dataclass(frozen=True)
class Pace:
    """A work on a group of devices, at any batch."""

    work: Workload
    prefill: Number
    decode: DecodeLine
    floor: Number
    """Least seconds of a step, by the launching of its kernels."""
    scale: Number = 1.0
    """Recorded over predicted seconds of an answer alone, on a CPU."""

    def steady(self, batch: int) -> AnswerTime:
        """Return what one answer takes on a server in steady state."""
        step, launches = self._step(batch)
        first = self.prefill + (step / 2 if batch > 1 else 0.0)
        output = step + (batch - 1) * self.prefill / max(1.0, self.work.answer_tokens)
        return self._scaled(first, output, launches)

    def together(self, batch: Number) -> AnswerTime:
        """Return what a batch takes whose prompts come and whose answers end together."""
        step, launches = self._step(batch)
        return self._scaled(batch * self.prefill, step, launches)

    def _step(self, batch: Number) -> tuple[Number, Any]:
        step = self.decode.seconds(batch)
        return np.maximum(step, self.floor), self.floor >= step

    def _scaled(self, first: Number, output: Number, launches: Any) -> AnswerTime:
        first = np.maximum(k.PREFILL_S, first)
        return AnswerTime(self.scale * first, self.scale * output, launches)


def pace(card: ModelCard, device: Device | Fleet, work: Workload, tensor_parallel: int) -> Pace:
    """Return the pace of a work on `tensor_parallel` of the server's devices."""
    fit, setup = fitted().inference, ServeSetup(tensor_parallel)
    found = Pace(
        work=work,
        prefill=prefill_seconds(card, device, setup, work.prompt_tokens, fit),
        decode=decode_line(card, device, setup, work.prompt_tokens + work.answer_tokens / 2, fit),
        floor=device.decode_floor_s * card.n_layers,
    )
    recorded = recorded_seconds(card, work)
    if not recorded:
        return found
    measured = median(recorded) / found.steady(1).seconds(work.answer_tokens)
    return replace(found, scale=np.where(device.is_gpu, 1.0, measured))


def recorded_seconds(card: ModelCard, work: Workload) -> tuple[float, ...]:
    """Return the latencies that the card's runs measured at this work, on a CPU."""
    return tuple(
        run.ms_per_answer / 1000
        for run in card.runs
        if run.ms_per_answer > 0 and run.task == work.task and run.strategy == work.strategy
    )


def _answers(
    card: ModelCard, fleet: Fleet, work: Workload, time: AnswerTime, factor: Number
) -> Ranges:
    """Return an answer's seconds times a factor, with their range."""
    first = ranged(fleet, "first_token", factor * time.first_token, time.launches)
    output = factor * time.output_token * work.answer_tokens
    both = first + ranged(fleet, "output_token", output, time.launches)
    seconds = factor * time.seconds(work.answer_tokens)
    found = replace(both, mean=seconds)
    recorded = recorded_seconds(card, work)
    if not recorded:
        return found
    spread, middle = k.CPU_RECORDED_ERROR, median(recorded)
    low = seconds * min(min(recorded) / middle, 1 / spread)
    high = seconds * max(max(recorded) / middle, spread)
    return found.where(fleet.is_gpu, Ranges(seconds, low, high))


def _source(card: ModelCard, device: Device, work: Workload, launches: bool) -> str:
    recorded = () if device.is_gpu else recorded_seconds(card, work)
    if recorded:
        return f"latency of {len(recorded)} recorded runs"
    return source_of(device, "output_token", launches)


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
    for g in _all_degrees(card, fleet):
        on = on[fleet.count[on] >= g]
        some = fleet.take(on)
        paces = [pace(card, some, work, g) for work in works]
        alone = np.column_stack([p.steady(1).seconds(p.work.answer_tokens) for p in paces])
        go_on = ~(every[on] & (alone >= before[on]).all(axis=1))  # else more do not shorten it
        rows = np.flatnonzero(go_on)
        on, some, alone = on[rows], some.take(rows), alone[rows]
        before[on] = alone
        every[on] = _fits(card, some, context, BATCHES[-1], g)
        for batch in batches:
            fits = _fits(card, some, context, batch, g)
            times = tuple(p.steady(batch).take(rows[fits]) for p in paces)
            server = on[fits]
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
        _answers(card, fleet, work, time, 1000 * k.P95_OVER_MEAN)
        for work, time in zip(works, points.times, strict=True)
    ]
    return tuple(
        ServingPoint(
            batch=int(points.batch[i]),
            tensor_parallel=int(points.tensor_parallel[i]),
            ttft_ms=first[i],
            tpot_ms=output[i],
            latency_ms=tuple(
                ranges.interval(i, _source(card, device, work, bool(time.launches[i])))
                for ranges, work, time in zip(latency, works, points.times, strict=True)
            ),
            requests_per_s=tuple(points.requests_per_s[i].tolist()),
        )
        for i in range(len(points))
    )


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
    """Return the hours, and where the floor of launches decides."""
    n = len(fleet)
    best, rounds = np.full(n, np.inf), np.full(n, np.nan)
    time = AnswerTime(np.zeros(n), np.zeros(n), np.zeros(n, bool))
    for g in _all_degrees(card, fleet):
        batch = np.full(n, max(1, min(k.TEACHER_BATCH, n_answers)))
        while True:
            fits = _fits(card, fleet, work.context, batch, g)
            if (fits | (batch == 1)).all():
                break
            batch = np.where(fits, batch, np.maximum(1, batch // 2))
        one = pace(card, fleet, work, g).together(batch)
        replicas = np.maximum(1, fleet.count // g) * n_nodes
        turns = np.ceil(np.ceil(n_answers / batch) / replicas)
        seconds = turns * one.seconds(work.answer_tokens)
        better = fits & (fleet.count >= g) & (seconds < best)
        best, rounds = np.where(better, seconds, best), np.where(better, turns, rounds)
        time = one.where(better, time)
    start = startup_hours(fleet, k.BYTES_PER_PARAM_INFER * float(card.n_params))
    return start + _answers(card, fleet, work, time, rounds / 3600), time.launches


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
    return hours.interval(0, _source(card, device, work, bool(launches[0])))
