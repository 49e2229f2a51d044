"""How long a model takes for an answer on a server: the pace of a work, with its range.

    answer       = first token + answer tokens · output token
    first token  = prefill + half a step, the one that runs when the request comes (batch > 1)
    output token = step + (b - 1) · prefill / answer tokens
    step         = max( decode(b, prompt + answer/2), floor · L )

A server in steady state at batch b admits a prompt whenever an answer ends, so that every answer
waits for the prefills of b - 1 others during its life. A batch job fills and empties its batch at
once: b prefills, then the steps.

Where the floor of launches decides (`transformers` issues kernels from Python) the range is that of
hosts, else that of the roofline's fit. On a CPU server the latency that a card's runs measured at
batch 1 replaces the arithmetic, and scales it at larger batches: the machine's own floor is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.device import Device
from stratos.estimate.fitted import fitted
from stratos.estimate.fleet import Bools, Fleet, Ints, Ranges, ranged, source_of
from stratos.estimate.jobs import Workload
from stratos.estimate.memory import serving_bytes
from stratos.estimate.roofline import (
    DecodeLine,
    Number,
    ServeSetup,
    decode_line,
    prefill_seconds,
)
from stratos.records import ModelCard
from stratos.words import counted


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


def fits(
    card: ModelCard, fleet: Fleet, context: float, batch: Number, tensor_parallel: int
) -> Bools:
    """Return where a group of devices holds model and cache."""
    return serving_bytes(card, context, batch, tensor_parallel) <= fleet.memory_bytes


def all_degrees(card: ModelCard, fleet: Fleet) -> Iterator[int]:
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


def answer_ranges(
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


def answer_source(card: ModelCard, device: Device, work: Workload, launches: bool) -> str:
    """Return the sentence that says where the range of `answer_ranges` is from."""
    recorded = () if device.is_gpu else recorded_seconds(card, work)
    if recorded:
        return f"latency of {counted(len(recorded), 'recorded run')}"
    return source_of(device, "output_token", launches)
