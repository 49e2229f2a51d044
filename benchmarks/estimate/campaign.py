"""What the load generators of the inference table would have measured: from seconds to columns.

A row is saturated where requests wait for one another: 64 and more in flight in the lab, where up
to two seconds of its times to first token are a queue that no formula here foresees, and batches
that the cache does not hold. Its capacity is predicted; of its wait only that it ends: a request
waits for less than one whole answer beyond what is predicted.

m is the batch that the cache holds, at most the row's; c, ξ, β, γ are fitted here and stay out of
the package, since they speak of the load generators and not of GPUs.

    output token   decode(m, prompt + answer/2) + (m - c)⁺ · prefill / answer
    first token    σ + ξ·prefill + output token / 2
                   + β·m·prefill             sweep: the requests that start all at once
                   + γ·answer time / m       lab: one request more in flight than slots
                   + (b - m)/m · answer time  those that queue, where the cache is too small
                   + 19 · output token       TensorRT-LLM's sweep of 1,024 in and out on fewer than
                                             eight GPUs hands out tokens by the twenty: its time to
                                             first token is above that of the same prompt with a
                                             longer answer by 19 output tokens, and equal on eight
"""

from __future__ import annotations

from dataclasses import dataclass

from measured_rows import ServeRow, cache_bytes, products_flops

from stratos.estimate.cards import serving_bytes
from stratos.estimate.fitted import InferenceFit
from stratos.estimate.roofline import ServeSetup, decode_line, prefill_seconds

WEIGHT_BYTES = {16: 2.0, 8: 1.0, 4: 0.5625}
"""fp4 carries an fp8 scale for each 16 weights."""

STREAMED = 20
"""Tokens that the TensorRT-LLM sweep hands out at once."""

LAB_FULL = 64
"""Requests in flight at which the lab's load generator, or the engine behind it, is full."""

BURST = 0.05
"""Half of the tenth of all requests that find all others of the first batch before them."""


@dataclass(frozen=True)
class CampaignFit:
    """Constants of the load generators."""

    fewer: float = 2.5


@dataclass(frozen=True)
class Predicted:
    """A row as it is predicted, in milliseconds."""

    first: float
    """To the first token."""
    output: float
    """Per output token."""
    queue: float
    """Of the first token: the wait where the cache does not hold the batch."""


def predict(row: ServeRow, fit: InferenceFit, campaign: CampaignFit) -> Predicted:
    """Return what the load generator would measure."""
    setup = _setup(row)
    context = row.prompt + row.answer / 2
    slots = _slots(row, setup, context)
    prefill = prefill_seconds(row.card, row.device, setup, row.prompt, fit)
    decode = decode_line(row.card, row.device, setup, context, fit).seconds(slots)
    output = decode + max(0.0, slots - campaign.fewer) * prefill / row.answer
    first = fit.first_token_s + output / 2 + (1.0 + BURST * slots) * prefill
    answer = first + row.answer * output
    if row.lab:
        first += answer / slots
    queue = (row.batch - slots) / slots * answer if row.batch > slots else 0.0
    short = not row.lab and row.prompt == row.answer == 1024
    if short and row.backend == "trtllm" and row.tensor_parallel < 8:
        first += (STREAMED - 1) * output
    return Predicted(1000 * (first + queue), 1000 * output, 1000 * queue)


def is_saturated(row: ServeRow) -> bool:
    """Return whether requests of a row wait for one another, by its setting alone."""
    if row.lab and row.batch >= LAB_FULL:
        return True
    return _slots(row, _setup(row), row.prompt + row.answer) < row.batch


def _setup(row: ServeRow) -> ServeSetup:
    return ServeSetup(
        tensor_parallel=row.tensor_parallel,
        weight_bytes=WEIGHT_BYTES[row.weight_bits],
        cache_bytes=cache_bytes(row),
        flops=products_flops(row),
    )


def _slots(row: ServeRow, setup: ServeSetup, context: float) -> float:
    def used(batch: int) -> float:
        return serving_bytes(
            row.card,
            context,
            batch,
            row.tensor_parallel,
            weight_bytes=setup.weight_bytes,
            cache_bytes=setup.cache_bytes,
        )

    empty, per_request = used(0), used(1) - used(0)
    return max(1.0, min(float(row.batch), (row.device.memory_bytes - empty) / per_request))
