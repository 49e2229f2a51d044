"""Tiny teachers with real tokenizers, on disk, and documents for them to score."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from stratos.core.context import Context
from stratos.distill.data import Batch, Encoded, encode, pack
from stratos.distill.signal_config import SignalConfig
from stratos.distill.tokenizer import trained_tokenizer
from stratos.ledger import Ledger
from stratos.teachers.huggingface import HuggingFaceTeacher

WORDS = (
    "the a river stone winter light falls rises over under old new bird 12 7 été — naïve 数学 ok"
)
PADDED = 32
"""Rows of a teacher's embedding that no id uses."""


def texts(n: int, seed: int = 0) -> list[str]:
    """Return short texts of a few words."""
    rng = random.Random(seed)
    words = WORDS.split()
    return [" ".join(rng.choices(words, k=rng.randint(4, 14))) + "." for _ in range(n)]


@functools.cache
def tokenizer(size: int = 300) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with merges."""
    return trained_tokenizer(texts(200), size)


def documents(n: int = 24, size: int = 300, seed: int = 1) -> Encoded:
    """Return prompts with completions, encoded."""
    chats = [[{"role": "user", "content": text}] for text in texts(n, seed)]
    return encode(tokenizer(size), chats, texts(n, seed + 1), 512)[0]


def model(vocab_size: int, kind: str = "llama", width: int = 32, seed: int = 0) -> Any:
    """Return a random model whose distributions are far from flat."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
    }
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True)).eval()
    return LlamaForCausalLM(LlamaConfig(**sizes)).eval()


def teacher(folder: Path, size: int = 300, kind: str = "llama") -> HuggingFaceTeacher:
    """Write a tiny model with its tokenizer, its embedding padded, and return it as a teacher."""
    words = tokenizer(size)
    model(len(words) + PADDED, kind).save_pretrained(folder)
    words.save_pretrained(folder)
    return HuggingFaceTeacher("tiny", path=str(folder), dtype="float32", device="cpu")


def context(folder: Path, warnings: list[str] | None = None, ticks: Any = None) -> Context:
    """Return a context whose warnings can be read."""
    told = warnings if warnings is not None else []
    more = {} if ticks is None else {"tick": lambda *told: ticks.append(told)}
    return Context(folder, folder / "cache", Ledger(folder / "ledger"), warn=told.append, **more)


def strategy(**said: Any) -> SignalConfig:
    """Return what a strategy wants of a signal."""
    return SignalConfig(**said)


def batch_of(data: Encoded, ids: list[int]) -> Batch:
    """Pack some documents, in this order."""
    chosen = np.array(ids)
    return pack([data.text(i) for i in ids], data.prompt_lengths[chosen], chosen)


def alone(network: Any, data: Encoded, ids: list[int], n_ids: int) -> torch.Tensor:
    """Return the log-probabilities of the learned places, one document at a time, (M, n_ids)."""
    rows = []
    with torch.no_grad():
        for i in ids:
            tokens = torch.from_numpy(data.text(i).astype(np.int64))
            logits = network(tokens[None]).logits[0, data.prompt_lengths[i] - 1 : -1, :n_ids]
            rows.append(logits.float().log_softmax(-1))
    return torch.cat(rows)


def count_forwards(network: Any) -> list[int]:
    """Return a list that grows with every forward pass of a model."""
    calls: list[int] = []
    network.base_model.register_forward_hook(lambda *_: calls.append(1))
    return calls
