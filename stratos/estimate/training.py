"""Memory and hours of a training on an offer.

    states   = 16 bytes · N                                 (weights, gradients, AdamW)
    activity = tokens of one row · (34·h·L + 8·V) bytes     (the smallest micro-batch: one row)
    fits     : states / n + activity ≤ 0.9 · (memory - runtime)

    seconds  = max( 3 · forward FLOPs · tokens / (n · FLOP/s · e),  steps · (c0 + c1·L) ) + start-up

n devices of one server share the states (ZeRO-3) and the rows. The first term is the compute-bound
roofline (a backward pass costs two forwards), the second a floor: a step cannot be shorter than the
launching of its kernels, so a tiny model gains nothing from a large GPU. On a CPU the floor
vanishes beside the arithmetic, and the seconds of CPU per token that a card's runs measured replace
the roofline.
"""

from __future__ import annotations

from statistics import median

from stratos.estimate import constants as k
from stratos.estimate.cards import forward_flops_per_token
from stratos.estimate.hardware import hardware
from stratos.records import ModelCard, Offer


def training_bytes(card: ModelCard, row_tokens: int, n_devices: int = 1) -> float:
    """Return bytes that one of `n_devices` needs to train a model with all its weights."""
    states = k.BYTES_PER_PARAM_TRAIN * float(card.n_params) / n_devices
    per_token = (
        k.ACTIVATION_BYTES_PER_TOKEN_LAYER_HIDDEN * card.hidden_size * card.n_layers
        + k.LOGIT_BYTES * card.vocab_size
    )
    return states + row_tokens * per_token


def fits_training(card: ModelCard, offer: Offer, row_tokens: int) -> bool:
    """Return whether the offer's memory holds the training."""
    machine = hardware(offer)
    return training_bytes(card, row_tokens, machine.n_devices) <= machine.memory_bytes


def train_hours(
    card: ModelCard, offer: Offer, tokens: int, batch_tokens: int, row_tokens: int
) -> float:
    """Return hours from the order of the server to the trained student."""
    machine = hardware(offer)
    flops = 3.0 * forward_flops_per_token(card, row_tokens / 2) * tokens
    if machine.is_gpu:
        scale = 1 if machine.n_devices == 1 else machine.n_devices * k.MULTI_GPU_EFFICIENCY
        steps = -(-tokens // batch_tokens)
        floor = steps * (k.TRAIN_STEP_S + k.TRAIN_STEP_S_PER_LAYER * card.n_layers)
        seconds = max(flops / (scale * machine.train_flops), floor)
    else:
        measured = _cpu_seconds_per_token(card)
        if measured is None:
            seconds = flops / machine.train_flops
        else:
            seconds = measured * tokens / max(1.0, machine.vcpus) ** k.CPU_SCALING
    return machine.startup_hours + seconds / 3600


def _cpu_seconds_per_token(card: ModelCard) -> float | None:
    rates = [
        run.train_cpu_seconds / run.train_tokens
        for run in card.runs
        if run.train_tokens > 0 and run.train_cpu_seconds > 0
    ]
    return median(rates) if rates else None
