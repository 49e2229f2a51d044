"""Memory, latency and throughput of a model that answers, on an offer.

    memory   = 2 bytes · N + batch · context · kv bytes       split over n devices if need be
    prefill  = max( c0,  prompt · batch · forward FLOPs / (n · FLOP/s) )
    decode   = max( c1 · L,  (weights + batch · context · kv) / (n · bytes/s),
                    batch · forward FLOPs / (n · FLOP/s) )    per token
    answer   = prefill + tokens · decode

n is the smallest number of the server's devices that holds the model; the others hold replicas,
which share a batch job but do not shorten one answer. `c1 · L` is the launch floor: each block
costs the issuing of its kernels, however small. On a CPU server the latency that a card's runs
measured there replaces the arithmetic: the machine's own floor is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from stratos.estimate import constants as k
from stratos.estimate.cards import forward_flops_per_token, kv_bytes_per_token, weight_bytes
from stratos.estimate.hardware import Hardware, hardware
from stratos.records import ModelCard, Offer


@dataclass(frozen=True)
class Workload:
    """Shape of the answers that a model is to give."""

    prompt_tokens: float
    answer_tokens: float
    task: str = ""
    strategy: str = ""
    """Task and strategy whose recorded runs speak for this workload."""

    @property
    def context(self) -> float:
        """Tokens that the cache holds at the end of an answer."""
        return self.prompt_tokens + self.answer_tokens


def inference_bytes(card: ModelCard, context: float, batch: int = 1) -> float:
    """Return bytes of weights and cache."""
    return weight_bytes(card) + batch * context * kv_bytes_per_token(card)


def devices_needed(card: ModelCard, machine: Hardware, context: float, batch: int) -> int | None:
    """Return how many devices hold the model, a power of two; None if all of them do not."""
    need = inference_bytes(card, context, batch)
    n = 1
    while n <= machine.n_devices:
        if need <= n * machine.memory_bytes:
            return n
        n *= 2
    return None


def fits_inference(card: ModelCard, offer: Offer, context: float, batch: int = 1) -> bool:
    """Return whether the offer's memory holds model and cache."""
    return devices_needed(card, hardware(offer), context, batch) is not None


def answer_seconds(card: ModelCard, offer: Offer, work: Workload) -> float:
    """Return mean seconds of one answer at one request at a time."""
    machine = hardware(offer)
    if not machine.is_gpu:
        measured = [
            run.ms_per_answer / 1000
            for run in card.runs
            if run.ms_per_answer > 0 and run.task == work.task and run.strategy == work.strategy
        ]
        if measured:
            return median(measured)
    n = devices_needed(card, machine, work.context, 1) or machine.n_devices
    return _batch_seconds(card, machine, work, n, 1)


def batch_hours(card: ModelCard, offer: Offer, work: Workload, n_answers: int) -> float:
    """Return hours from the order of the server until it has given `n_answers`."""
    machine = hardware(offer)
    batch = max(1, min(k.TEACHER_BATCH, n_answers))
    while batch > 1 and devices_needed(card, machine, work.context, batch) is None:
        batch //= 2
    n = devices_needed(card, machine, work.context, batch) or machine.n_devices
    n_batches = -(-n_answers // batch)
    rounds = -(-n_batches // (machine.n_devices // n))
    seconds = rounds * _batch_seconds(card, machine, work, n, batch)
    download = 0.0
    if machine.startup_hours:
        download = weight_bytes(card) / k.DOWNLOAD_BYTES_PER_S / 3600
    return machine.startup_hours + download + seconds / 3600


def _batch_seconds(card: ModelCard, machine: Hardware, work: Workload, n: int, batch: int) -> float:
    flops_per_s = n * machine.infer_flops
    prompt_flops = work.prompt_tokens * forward_flops_per_token(card, work.prompt_tokens / 2)
    prefill = max(k.PREFILL_S, batch * prompt_flops / flops_per_s)
    context = work.prompt_tokens + work.answer_tokens / 2
    traffic = weight_bytes(card) + batch * context * kv_bytes_per_token(card)
    decode = max(
        k.DECODE_S_PER_LAYER * card.n_layers,
        traffic / (n * machine.bytes_per_s),
        batch * forward_flops_per_token(card, context) / flops_per_s,
    )
    return prefill + work.answer_tokens * decode
