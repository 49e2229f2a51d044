"""A model and its jobs: parameters, FLOPs and bytes per token, and the memory that a job takes.

Jobs of the estimate: a training, or answers of a certain size.

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

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from stratos.config import StudentConfig
from stratos.core.errors import ConfigError
from stratos.core.remote import config_file
from stratos.deploy.engines.gguf_file import why_not_gguf
from stratos.estimate import constants as k
from stratos.records import ModelCard
from stratos.tasks.base import Task

N_SPECIAL_TOKENS = 5
"""Symbols that a task's own tokenizer has beside the task's: padding, unknown, two roles, end."""


def llama_params(
    vocab_size: int,
    hidden_size: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    intermediate_size: int,
    tied: bool = True,
    head_size: int | None = None,
) -> int:
    """Return the exact number of parameters of a Llama-architecture model.

        embeddings   V·h            (twice if the output head has its own)
        attention    2·h·(H·d) + 2·h·(K·d) per block, no biases
        MLP          3·h·i per block (gate, up, down)
        norms        2·h per block and h at the end

    with h width, H heads, K key-value heads, d head size, i MLP width (Touvron et al. 2023).
    """
    head = head_size or hidden_size // n_heads
    attention = 2 * hidden_size * n_heads * head + 2 * hidden_size * n_kv_heads * head
    block = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size
    embeddings = vocab_size * hidden_size * (1 if tied else 2)
    return embeddings + n_layers * block + hidden_size


def card_of_student(student: StudentConfig, task: Task) -> ModelCard:
    """Return the card of a student: from its own config, or from the folder at `student.path`.

    Raises:
        ConfigError: `path` is no folder, and no model of the hub, with a config.json that tells
            the shape of a causal model.
    """
    if not student.is_lm:
        return _card_of_kind(student)
    if student.path is not None:
        return _cut(_card_of_folder(student), student, task)
    symbols = task.vocabulary()
    vocab_size = (
        student.vocab_size if symbols is None else len(symbols.vocabulary) + N_SPECIAL_TOKENS
    )
    return ModelCard(
        name=student.name,
        n_params=llama_params(
            vocab_size,
            student.hidden_size,
            student.n_layers,
            student.n_heads,
            student.n_heads,
            student.intermediate_size,
        ),
        n_layers=student.n_layers,
        hidden_size=student.hidden_size,
        n_heads=student.n_heads,
        n_kv_heads=student.n_heads,
        intermediate_size=student.intermediate_size,
        vocab_size=vocab_size,
        context_length=student.context_length,
        license=student.license,
        runs=student.runs,
        is_gguf=True,  # Llama
    )


def _card_of_kind(student: StudentConfig) -> ModelCard:
    """Return the card of a student that is no language model: it has no shape, and is timed."""
    return ModelCard(
        name=student.name,
        n_params=1,
        n_layers=1,
        hidden_size=1,
        n_heads=1,
        n_kv_heads=1,
        intermediate_size=1,
        vocab_size=1,
        context_length=student.context_length,
        license=student.license,
    )


def _card_of_folder(student: StudentConfig) -> ModelCard:
    is_here = (Path(str(student.path)).expanduser() / "config.json").is_file()
    if student.facts and not is_here:
        return _card_of_facts(student)
    try:
        facts: dict[str, Any] = json.loads(config_file(str(student.path)).read_text())
        n_heads = int(facts["num_attention_heads"])
        n_kv_heads = int(facts.get("num_key_value_heads") or n_heads)
        shape = (
            int(facts["vocab_size"]),
            int(facts["hidden_size"]),
            int(facts["num_hidden_layers"]),
            n_heads,
            n_kv_heads,
            int(facts["intermediate_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"The student {student.name} cannot be planned: {_told(student, error)}. Name a "
            "Hugging Face folder with safetensors (student=local student.path=<folder>), or a "
            "model of the hub that can be reached."
        ) from error
    return ModelCard(
        name=student.name,
        n_params=llama_params(
            *shape,
            tied=bool(facts.get("tie_word_embeddings", False)),
            head_size=facts.get("head_dim"),
        ),
        n_layers=shape[2],
        hidden_size=shape[1],
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        intermediate_size=shape[5],
        vocab_size=shape[0],
        context_length=int(facts.get("max_position_embeddings") or student.context_length),
        license=student.license,
        runs=student.runs,
        head_size=facts.get("head_dim"),
        is_gguf=why_not_gguf(facts, "f32") is None,
    )


_WORD = re.compile(r" ?[^\W\d_]+")
_COUNTED_ITEMS = 2_000
"""Training items whose words are counted. What more of them bring is below 1% of a model."""


def _cut(card: ModelCard, student: StudentConfig, task: Task) -> ModelCard:
    """Return the card with the vocabulary that `student.fit.vocabulary` leaves it, estimated.

    Words are counted, not tokens: the tokenizer may not be on this machine.
    """
    if (share := student.fit.share) is None:
        return card
    n_own = own_tokens(_texts(task))
    unused = k.CUT_UNUSED_SHARE * card.vocab_size
    n_tokens = round(n_own + unused + share * max(0.0, card.vocab_size - n_own - unused))
    if n_tokens >= card.vocab_size:
        return card
    table = card.vocab_size * card.hidden_size
    n_tables = 2 if parts(card).lookup >= table else 1
    n_cut = n_tables * (card.vocab_size - n_tokens) * card.hidden_size
    return replace(card, n_params=card.n_params - n_cut, vocab_size=n_tokens)


def read_otherwise(task: Task) -> float:
    """Return the share of new texts that a cut vocabulary may read in other tokens, at most.

    Those with a word that no training row has, by the validation rows. A word that is none of a
    row's may still be written in tokens that stay.
    """
    known = set(_words(_texts(task)))
    items = task.items("validation", _COUNTED_ITEMS)
    new = sum(not known.issuperset(_words([item.question])) for item in items)
    return new / len(items) if items else 1.0


def own_tokens(texts: Iterable[str]) -> float:
    """Return how many tokens a vocabulary has that is cut to some texts, estimated by words."""
    words = set(_words(texts))
    return k.CUT_FIXED_TOKENS + k.CUT_TOKENS_A_WORD * len(words)


def _texts(task: Task) -> Iterator[str]:
    """Yield what training rows ask and answer."""
    for item in task.items("train", _COUNTED_ITEMS):
        yield from (item.question, item.answer, item.rationale)


def _words(texts: Iterable[str]) -> Iterator[str]:
    return (word for text in texts for word in _WORD.findall(text))


def _told(student: StudentConfig, error: Exception) -> str:
    """Return what is wrong with a student's path."""
    if isinstance(error, OSError):
        return str(error)
    return f"the config.json of {student.path} is none of a causal model ({error!r})"


def _card_of_facts(student: StudentConfig) -> ModelCard:
    """Return the card of a model that is not downloaded yet, from what its YAML states."""
    stated: dict[str, Any] = {"context_length": student.context_length, **student.facts}
    try:
        return ModelCard(
            name=student.name,
            license=student.license,
            runs=student.runs,
            is_gguf=student.is_gguf,
            **stated,
        )
    except TypeError as error:
        known = "n_params, n_layers, hidden_size, n_heads, n_kv_heads, intermediate_size"
        raise ConfigError(
            f"student {student.name}: facts must be {known} and vocab_size, with context_length "
            f"and head_size where they are known ({error})."
        ) from error


@dataclass(frozen=True)
class Parts:
    """Parameters of a model by what they do, as its count and shape tell."""

    blocks: int
    """In the matrices of the blocks."""
    head: int
    """In the output head, whether or not it is the embedding too."""
    lookup: int
    """In tables that are looked up alone: an untied embedding, learned positions, norms."""
    mlp_matrices: int
    """3 for a gated MLP, 2 for a plain one."""

    @property
    def products(self) -> int:
        """Parameters that every token is multiplied with."""
        return self.blocks + self.head


@lru_cache(maxsize=10_000)
def parts(card: ModelCard) -> Parts:
    """Return what the parameters of a model do.

    A card does not say whether its MLP is gated and its embedding tied: of the four ways, the one
    is taken whose count is next to the card's.
    """
    queries = attention_width(card)
    keys = queries * card.n_kv_heads // card.n_heads
    attention = 2 * card.hidden_size * (queries + keys)
    embedding = card.vocab_size * card.hidden_size

    def count(matrices: int) -> int:
        mlp = matrices * card.hidden_size * card.intermediate_size
        return card.n_layers * (attention + mlp)

    _, matrices = min(
        (abs(count(matrices) + tables * embedding - card.n_params), matrices)
        for matrices in (3, 2)
        for tables in (1, 2)
    )
    blocks = count(matrices)
    return Parts(blocks, embedding, max(0, card.n_params - blocks - embedding), matrices)


def attention_width(card: ModelCard) -> int:
    """Return heads times head size: the width of the queries."""
    return card.n_heads * (card.head_size or card.hidden_size // card.n_heads)


def forward_flops_per_token(card: ModelCard, context: float) -> float:
    """Return FLOPs of one token's forward pass.

        2·N + 4·L·w·s        (Kaplan et al. 2020, table 1)

    N parameters that are multiplied with, L blocks, w the width of the queries, s tokens looked
    back on.
    """
    return 2.0 * parts(card).products + 4.0 * card.n_layers * attention_width(card) * context


def kv_bytes_per_token(card: ModelCard) -> float:
    """Return bytes of keys and values that one token adds: 2·L·K·d·bytes."""
    head = card.head_size or card.hidden_size / card.n_heads
    return 2.0 * card.n_layers * card.n_kv_heads * head * k.BYTES_KV


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
    activations = inputs * card.n_layers + block if checkpointing else block * card.n_layers
    gathered = (n_devices > 1) * (2.0 * k.BYTES_PER_PARAM_INFER * n_params / card.n_layers)
    return TrainingMemory(
        states=states / n_devices,
        gathered=gathered,
        activations=micro_tokens * activations,
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
    computed: float = 1.0
    """Share of the tokens that is computed: what rows of a step begin with alike is read once."""


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
