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

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import ge
from statistics import median

from stratos.estimate import constants as k
from stratos.estimate.calibrate import Calibration
from stratos.estimate.device import Device, device_of
from stratos.estimate.fitted import fitted
from stratos.estimate.jobs import Workload
from stratos.estimate.memory import serving_bytes
from stratos.estimate.roofline import DecodeLine, ServeSetup, decode_line, prefill_seconds
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


@dataclass(frozen=True)
class AnswerTime:
    """Seconds of one answer at a batch."""

    first_token: float
    output_token: float
    launches: bool
    """Whether the floor of launches decides."""

    def seconds(self, answer_tokens: float) -> float:
        """Return the seconds of a whole answer."""
        return self.first_token + answer_tokens * self.output_token


def tensor_degrees(card: ModelCard, device: Device) -> tuple[int, ...]:
    """Return the degrees of tensor parallelism that model and server allow: powers of two."""
    degrees, g = [], 1
    while g <= device.count and card.n_heads % g == 0:
        degrees.append(g)
        g *= 2
    return tuple(degrees)


def fits(card: ModelCard, device: Device, context: float, batch: int, tensor_parallel: int) -> bool:
    """Return whether a group of devices holds model and cache."""
    return serving_bytes(card, context, batch, tensor_parallel) <= device.memory_bytes


@dataclass(frozen=True)
class Pace:
    """A work on a group of devices, at any batch."""

    work: Workload
    prefill: float
    decode: DecodeLine
    floor: float
    """Least seconds of a step, by the launching of its kernels."""
    scale: float = 1.0
    """Recorded over predicted seconds of an answer alone, on a CPU."""

    def steady(self, batch: int) -> AnswerTime:
        """Return what one answer takes on a server in steady state."""
        step, launches = self._step(batch)
        first = self.prefill + (step / 2 if batch > 1 else 0.0)
        output = step + (batch - 1) * self.prefill / max(1.0, self.work.answer_tokens)
        return self._scaled(first, output, launches)

    def together(self, batch: int) -> AnswerTime:
        """Return what a batch takes whose prompts come and whose answers end together."""
        step, launches = self._step(batch)
        return self._scaled(batch * self.prefill, step, launches)

    def _step(self, batch: int) -> tuple[float, bool]:
        step = self.decode.seconds(batch)
        return max(step, self.floor), self.floor >= step

    def _scaled(self, first: float, output: float, launches: bool) -> AnswerTime:
        return AnswerTime(self.scale * max(k.PREFILL_S, first), self.scale * output, launches)


def pace(card: ModelCard, device: Device, work: Workload, tensor_parallel: int) -> Pace:
    """Return the pace of a work on `tensor_parallel` of the server's devices."""
    fit, setup = fitted().inference, ServeSetup(tensor_parallel)
    found = Pace(
        work=work,
        prefill=prefill_seconds(card, device, setup, work.prompt_tokens, fit),
        decode=decode_line(card, device, setup, work.prompt_tokens + work.answer_tokens / 2, fit),
        floor=device.decode_floor_s * card.n_layers,
    )
    recorded = recorded_seconds(card, device, work)
    if not recorded:
        return found
    return replace(found, scale=median(recorded) / found.steady(1).seconds(work.answer_tokens))


def recorded_seconds(card: ModelCard, device: Device, work: Workload) -> tuple[float, ...]:
    """Return latencies that the card's runs measured at this work on a CPU; none on a GPU."""
    if device.is_gpu:
        return ()
    return tuple(
        run.ms_per_answer / 1000
        for run in card.runs
        if run.ms_per_answer > 0 and run.task == work.task and run.strategy == work.strategy
    )


def _ranged(
    card: ModelCard, device: Device, work: Workload, time: AnswerTime, factor: float
) -> Interval:
    """Return an answer's seconds times a factor, with their range."""
    seconds = factor * time.seconds(work.answer_tokens)
    recorded = recorded_seconds(card, device, work)
    if recorded:
        spread, middle = k.CPU_RECORDED_ERROR, median(recorded)
        return Interval(
            seconds,
            seconds * min(min(recorded) / middle, 1 / spread),
            seconds * max(max(recorded) / middle, spread),
            f"latency of {len(recorded)} recorded runs",
        )
    first = _part(device, "first_token", factor * time.first_token, time.launches)
    output = _part(
        device, "output_token", factor * time.output_token * work.answer_tokens, time.launches
    )
    return Interval(seconds, first.low + output.low, first.high + output.high, output.source)


def _part(device: Device, quantity: str, seconds: float, launches: bool) -> Interval:
    if not device.is_gpu:
        error = k.CPU_CALIBRATED_ERROR if device.calibrated else k.CPU_ERROR
        source = "this machine, measured" if device.calibrated else "an assumed CPU"
        return Interval(seconds, seconds / error, seconds * error, f"roofline of {source}")
    if launches:
        error, source = k.EAGER_ERROR, "floor of kernel launches, within a factor of 1.5"
        return Interval(seconds, seconds / error, seconds * error, source)
    return fitted().interval(quantity, device.name, seconds)


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
    return _serving(card, device_of(offer, calibration), tuple(works))


@lru_cache(maxsize=50_000)
def _serving(
    card: ModelCard, device: Device, works: tuple[Workload, ...]
) -> tuple[ServingPoint, ...]:
    found: list[tuple[tuple[float, ...], int, int, tuple[AnswerTime, ...]]] = []
    context = max(work.context for work in works)
    before: list[float] = []
    for g in tensor_degrees(card, device):
        paces = [pace(card, device, work, g) for work in works]
        alone = [pace.steady(1).seconds(pace.work.answer_tokens) for pace in paces]
        if len(found) and found[-1][1] == BATCHES[-1] and all(map(ge, alone, before)):
            break  # Every batch fitted on fewer devices, and more do not shorten an answer.
        before = alone
        for batch in BATCHES:
            if not fits(card, device, context, batch, g):
                break
            times = tuple(pace.steady(batch) for pace in paces)
            seconds = [time.seconds(w.answer_tokens) for time, w in zip(times, works, strict=True)]
            rates = [device.count // g * batch / s for s in seconds]
            found.append(((*seconds, *(-rate for rate in rates)), batch, g, times))
    kept = [
        point
        for i, point in enumerate(found)
        if not any(
            all(a <= b for a, b in zip(other[0], point[0], strict=True))
            and (other[0] != point[0] or j < i)
            for j, other in enumerate(found)
        )
    ]
    return tuple(
        ServingPoint(
            batch=batch,
            tensor_parallel=g,
            ttft_ms=_mean(device, "first_token", [t.first_token for t in times], times),
            tpot_ms=_mean(device, "output_token", [t.output_token for t in times], times),
            latency_ms=tuple(
                _ranged(card, device, work, time, 1000 * k.P95_OVER_MEAN)
                for work, time in zip(works, times, strict=True)
            ),
            requests_per_s=tuple(-rate for rate in figures[len(works) :]),
        )
        for figures, batch, g, times in kept
    )


def _mean(
    device: Device, quantity: str, seconds: Sequence[float], times: Sequence[AnswerTime]
) -> Interval:
    mean = 1000 * sum(seconds) / len(seconds)
    return _part(device, quantity, mean, any(time.launches for time in times))


def generate(
    card: ModelCard,
    offer: Offer,
    work: Workload,
    n_answers: int,
    n_nodes: int = 1,
    calibration: Calibration | None = None,
) -> Interval | None:
    """Return hours from the order until servers have given `n_answers`; None if it does not fit.

    The batch is that of a local teacher, or what fits of it; the degree of tensor parallelism the
    one that ends first.

    Args:
        card: the teacher.
        offer: the server.
        work: size of an answer.
        n_answers: answers asked for.
        n_nodes: servers of this kind together, each with its share of the answers.
        calibration: the measurement of this machine, for local offers.
    """
    device = device_of(offer, calibration)
    jobs: list[tuple[float, int, AnswerTime]] = []
    for g in tensor_degrees(card, device):
        batch = max(1, min(k.TEACHER_BATCH, n_answers))
        while batch > 1 and not fits(card, device, work.context, batch, g):
            batch //= 2
        if fits(card, device, work.context, batch, g):
            time = pace(card, device, work, g).together(batch)
            n_batches = math.ceil(n_answers / batch)
            rounds = math.ceil(n_batches / (device.count // g * n_nodes))
            jobs.append((rounds * time.seconds(work.answer_tokens), rounds, time))
    if not jobs:
        return None
    _, rounds, time = min(jobs, key=lambda job: job[0])
    start = startup_hours(device, k.BYTES_PER_PARAM_INFER * float(card.n_params))
    hours = _ranged(card, device, work, time, rounds / 3600)
    return Interval(
        start.mean + hours.mean, start.low + hours.low, start.high + hours.high, hours.source
    )
