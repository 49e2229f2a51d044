"""Rooflines: seconds of one training step, one prefill, one decode step, with their minimums.

N parameters that are multiplied with, M of them in the blocks, L blocks, h width, w = heads · head
size, V symbols, T context. P achievable FLOP/s of products, A of flash attention, B bytes/s of
memory, all of one device. Greek letters are the constants of `fitted.toml`.

Training, t tokens through one device at once, p = 3 passes (4 with recomputation), n devices

    products   p · 2·N·t / (γ·P)
    attention  (p + 1/2) · 2·L·w·T·t / (α·A)      causal: half of 4·L·w·T; backward 5/2 of that
    other      (p/3 · ε·L·h + 12·V) · t / B       norms, activations, residuals; the loss
    sharding   (2·gathers + 4)·N·(n-1)/n / (λ·link) + (gathers + 1)·L·(n-1)·η
               weights gathered in bf16, twice (once with ZeRO-2), gradients reduced in fp32, by
               rings of n - 1 hops: what arithmetic does not hide
    network    the same bytes over 0.8 of the server's network: hidden, if it takes no longer
    step       m · max( products + attention + other + sharding, network ) + 28·N/n / B
               for m micro steps, and an optimizer that reads and writes 28 bytes a parameter

Inference on g devices of a tensor parallel group (γ is another constant below 16 bits)

    reduce(t)  2·L · ( δ + 2·(g-1)/g · 2·h·t / (λ·link) )        if g > 1
    prefill(t) max( 2·M·t / (g·γ·P) + 2·L·w·t² / (g·α·A) + reduce(t), π·L )
    decode(b)  max( weights / (g·ω·B), 2·N·b / (g·γ·P) ) + b·context·kv / (min(g, K)·κ·B)
               + (φ + χ)·L + ψ·b + reduce(b)                     χ below 16 bits only
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stratos.estimate import constants as k
from stratos.estimate.cards import attention_width, kv_bytes_per_token, parts
from stratos.estimate.fitted import InferenceFit, TrainingFit
from stratos.estimate.fleet import Device, Fleet
from stratos.records import ModelCard

Number = Any
"""A float, or an array with one for each server of a fleet: the arithmetic is the same."""

OPTIMIZER_BYTES = 28
"""Bytes that AdamW reads and writes per fp32 parameter: weight, gradient, two moments."""

GATHER_BYTES, REDUCE_BYTES = 2, 4
"""Bytes per parameter of gathering weights in bf16 and of reducing gradients in fp32."""

NETWORK_SHARE = 0.8
"""Share of a server's network that a large collective reaches."""

LOSS_BYTES = 12
"""Bytes moved per token and symbol by the loss: logits, their softmax, their gradient."""


@dataclass(frozen=True)
class TrainSetup:
    """How a training lies on its devices."""

    context: int
    micro_tokens: Number
    """Tokens that go through one device at once."""
    n_micro: Number = 1
    """Micro steps of one optimizer step."""
    n_devices: Number = 1
    n_nodes: Number = 1
    checkpointing: Number = False
    reshard: bool = True
    """Gather the weights again for the backward pass (ZeRO-3); False is ZeRO-2."""
    fp8: bool = False


@dataclass(frozen=True)
class ServeSetup:
    """How a model that answers lies on its devices."""

    tensor_parallel: int = 1
    weight_bytes: float = k.BYTES_PER_PARAM_INFER
    """Bytes per parameter."""
    cache_bytes: float = k.BYTES_KV
    """Bytes per number of the cache."""
    flops: float | None = None
    """Achievable FLOP/s of one device in the precision of the products; None is bf16."""


def train_step_seconds(
    card: ModelCard, device: Device | Fleet, setup: TrainSetup, fit: TrainingFit
) -> Number:
    """Return the seconds of one optimizer step."""
    t, passes = setup.micro_tokens, 3 + setup.checkpointing
    products = passes * 2.0 * parts(card).products * t
    if setup.fp8:
        compute = products / (fit.fp8_gemm * device.fp8_flops)
    else:
        compute = products / (fit.gemm * device.train_flops)
    attention = 2.0 * card.n_layers * attention_width(card) * setup.context * t
    compute += (passes + 0.5) * attention / (fit.attention * device.attention_flops)
    elementwise = passes / 3 * fit.elementwise_bytes * card.n_layers * card.hidden_size
    compute += (elementwise + LOSS_BYTES * card.vocab_size) * t / device.bytes_per_s
    link, network = _sharding_seconds(card, device, setup, fit)
    micro = np.maximum(compute + link, network)
    optimizer = OPTIMIZER_BYTES * card.n_params / setup.n_devices / device.bytes_per_s
    return setup.n_micro * micro + optimizer


def _sharding_seconds(
    card: ModelCard, device: Device | Fleet, setup: TrainSetup, fit: TrainingFit
) -> tuple[Number, Number]:
    """Return seconds of communication that arithmetic does not hide, and those on the network."""
    n = setup.n_devices
    gathers = 2 if setup.reshard else 1
    sent = (gathers * GATHER_BYTES + REDUCE_BYTES) * card.n_params * (n - 1) / n
    hops = (gathers + 1) * card.n_layers * (n - 1) * fit.hop_s
    link = sent / (fit.link * device.link_bytes_per_s) + hops
    network = sent / (NETWORK_SHARE * device.node_bytes_per_s)
    return link, (setup.n_nodes > 1) * network


def _reduce_seconds(
    card: ModelCard, device: Device | Fleet, setup: ServeSetup, tokens: float, fit: InferenceFit
) -> Number:
    g = setup.tensor_parallel
    if g == 1:
        return 0.0
    sent = 2.0 * (g - 1) / g * 2.0 * card.hidden_size * tokens
    return 2.0 * card.n_layers * (fit.reduce_floor_s + sent / (fit.link * device.link_bytes_per_s))


def _gemm(setup: ServeSetup, fit: InferenceFit) -> float:
    return fit.gemm if setup.weight_bytes >= k.BYTES_PER_PARAM_INFER else fit.gemm_quantised


def prefill_seconds(
    card: ModelCard, device: Device | Fleet, setup: ServeSetup, tokens: float, fit: InferenceFit
) -> Number:
    """Return the seconds of one prompt's forward pass."""
    g = setup.tensor_parallel
    flops = g * (setup.flops or device.infer_flops)
    products = 2.0 * parts(card).blocks * tokens / (_gemm(setup, fit) * flops)
    attention = (
        2.0 * card.n_layers * attention_width(card) * tokens**2
        / (fit.attention * g * device.attention_flops)
    )  # fmt: skip
    reduce = _reduce_seconds(card, device, setup, tokens, fit)
    return np.maximum(products + attention + reduce, fit.prefill_floor_s * card.n_layers)


@dataclass(frozen=True)
class DecodeLine:
    """A decoding step as a function of the batch."""

    weights: Number
    """Seconds of reading the weights."""
    products: Number
    """Seconds of the products, each sequence: they matter where they pass the reading."""
    floor: Number
    """Seconds that a step takes on top of that, whatever the batch."""
    sequence: Number
    """Seconds on top of that for each sequence."""

    def seconds(self, batch: Number) -> Number:
        """Return the seconds of a step."""
        return np.maximum(self.weights, self.products * batch) + self.floor + self.sequence * batch


def decode_line(
    card: ModelCard, device: Device | Fleet, setup: ServeSetup, context: float, fit: InferenceFit
) -> DecodeLine:
    """Return the seconds of a decoding step of sequences of `context` tokens."""
    g, sizes = setup.tensor_parallel, parts(card)
    read = setup.weight_bytes * sizes.blocks + k.BYTES_PER_PARAM_INFER * sizes.head
    flops = g * (setup.flops or device.infer_flops)
    kv = context * kv_bytes_per_token(card) * setup.cache_bytes / k.BYTES_KV
    cache = kv / (min(g, card.n_kv_heads) * fit.cache * device.bytes_per_s)
    layer = fit.layer_floor_s
    if setup.weight_bytes < k.BYTES_PER_PARAM_INFER:
        layer += fit.quantise_floor_s
    latency = _reduce_seconds(card, device, setup, 0, fit)
    reduce = _reduce_seconds(card, device, setup, 1, fit) - latency
    return DecodeLine(
        weights=read / (g * fit.weights * device.bytes_per_s),
        products=2.0 * sizes.products / (_gemm(setup, fit) * flops),
        floor=layer * card.n_layers + latency,
        sequence=cache + fit.sequence_floor_s + reduce,
    )
