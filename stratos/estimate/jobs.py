"""Jobs of the estimate: a training, or answers of a certain size.

Memory per device of a job, in closed form.

Training, on one of n devices that share the states (ZeRO-3, FSDP's full shard)

    full    16·N / n                      fp32 weights, gradients, AdamW's two moments
    LoRA    (2·N + 16·A) / n              bf16 weights that are frozen, A adapter parameters
    QLoRA   (0.516·(N - E) + 2·E + 16·A) / n       4-bit weights, embeddings E in bf16
    layer   2 · 2 · N / L  if n > 1       the gathered block, and the next one on its way
    block   a·L·t                         activations of t tokens in bf16: a is 2·(4·h + 2·w + 2·w')
                                          of norms and attention (queries w, keys w' wide) and 8·i
                                          of a gated MLP, 4·i of a plain one; with recomputation
                                          2·h, the block's input, and one block in full
    logits  l·V·t                         logits and their gradient

Inference, on one of n devices of a tensor parallel group

    weights (bytes·blocks + 2·(N - blocks)) / n       tables and head stay in bf16
    cache   batch · context · 2·L·K·d·bytes / min(n, K)
    logits  4·V·batch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from stratos.estimate import constants as k
from stratos.estimate.cards import attention_width, kv_bytes_per_token, parts
from stratos.records import ModelCard

Method = Literal["full", "lora", "qlora"]

Number = Any
"""A number, or an array with one for each of many servers."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one device, by what they hold."""

    states: Number
    gathered: Number
    activations: Number
    logits: Number

    @property
    def total(self) -> Number:
        """All of them."""
        return self.states + self.gathered + self.activations + self.logits


def adapter_params(card: ModelCard) -> int:
    """Return the parameters of LoRA's adapters: rank · (inputs + outputs) of every linear map."""
    queries, keys = _widths(card)
    attention = 2 * (card.hidden_size + queries) + 2 * (card.hidden_size + keys)
    mlp = parts(card).mlp_matrices * (card.hidden_size + card.intermediate_size)
    return k.LORA_RANK * card.n_layers * (attention + mlp)


def activation_bytes(card: ModelCard) -> float:
    """Return bytes that one token leaves in one block for the backward pass."""
    queries, keys = _widths(card)
    mlp = 8 if parts(card).mlp_matrices == 3 else 4
    return 2.0 * (4 * card.hidden_size + 2 * queries + 2 * keys) + mlp * card.intermediate_size


def _widths(card: ModelCard) -> tuple[int, int]:
    queries = attention_width(card)
    return queries, queries * card.n_kv_heads // card.n_heads


def training_memory(
    card: ModelCard,
    micro_tokens: Number,
    n_devices: Number = 1,
    *,
    method: Method = "full",
    checkpointing: bool = False,
    offload: bool = False,
    logit_bytes: float = k.LOGIT_BYTES,
) -> TrainingMemory:
    """Return what one of `n_devices` holds while it trains.

    Args:
        card: the model.
        micro_tokens: tokens of the rows that go through one device at once.
        n_devices: devices that share the states.
        method: full, lora or qlora.
        checkpointing: keep the inputs of blocks alone and compute the rest again.
        offload: keep these inputs in the host's memory.
        logit_bytes: bytes per token and symbol; a fused loss needs half.
    """
    n_params = float(card.n_params)
    if method == "full":
        states = k.BYTES_PER_PARAM_TRAIN * n_params
    else:
        embeddings = n_params - parts(card).blocks
        states = k.BYTES_PER_PARAM_TRAIN * float(adapter_params(card))
        if method == "lora":
            states += k.BYTES_PER_PARAM_INFER * n_params
        else:
            states += k.BYTES_PER_PARAM_QLORA * (n_params - embeddings)
            states += k.BYTES_PER_PARAM_INFER * embeddings
    block = activation_bytes(card)
    inputs = 0.0 if offload else 2.0 * card.hidden_size
    kept = inputs * card.n_layers + block if checkpointing else block * card.n_layers
    gathered = (n_devices > 1) * (2.0 * k.BYTES_PER_PARAM_INFER * n_params / card.n_layers)
    return TrainingMemory(
        states=states / n_devices,
        gathered=gathered,
        activations=micro_tokens * kept,
        logits=micro_tokens * logit_bytes * card.vocab_size,
    )


def serving_bytes(
    card: ModelCard,
    context: float,
    batch: Number = 1,
    tensor_parallel: int = 1,
    *,
    weight_bytes: float = k.BYTES_PER_PARAM_INFER,
    cache_bytes: float = k.BYTES_KV,
) -> Number:
    """Return what one device of a tensor parallel group holds while it answers.

    Args:
        card: the model.
        context: tokens that the cache holds for each sequence at the end of its answer.
        batch: sequences at once.
        tensor_parallel: devices that share each layer; key-value heads cannot be cut.
        weight_bytes: bytes per parameter of a block.
        cache_bytes: bytes per number of the cache.
    """
    cache = batch * context * kv_bytes_per_token(card) * cache_bytes / k.BYTES_KV
    blocks = parts(card).blocks
    weights = weight_bytes * blocks + k.BYTES_PER_PARAM_INFER * (card.n_params - blocks)
    return (
        weights / tensor_parallel
        + cache / min(tensor_parallel, card.n_kv_heads)
        + 4.0 * card.vocab_size * batch
    )


@dataclass(frozen=True)
class TrainingJob:
    """A training to be done."""

    tokens: int
    batch_tokens: int
    """Tokens of one optimizer step, all devices together."""
    context: int
    """Tokens of one row."""
    method: Method = "full"
    optimizer: Literal["muon", "adamw"] = "muon"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """As `trainer.precision`."""


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
