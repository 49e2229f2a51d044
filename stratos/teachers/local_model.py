"""A local model as a teacher: its weights and facts, and batched generation with prefix caching.

To find the weights nothing of them is loaded: folders are listed, config.json and file headers are
read.

The chats of one task begin alike: system message and few-shot examples. Keys and values of that
prefix are computed for one row and copied to the others, and rows leave the batch as they end
(`stratos.models.decode.batched`).

An answer is the likeliest one or drawn. What is drawn depends on the prompt, the temperature and
the number of the sample, not on the batch that it happens to be in: every row has a generator of
its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stratos.core.reasons import Reason
from stratos.core.remote import is_hub_name, missing_on_hub
from stratos.models.decode.decoder import repeats
from stratos.models.pretrained import (
    read_config,
    read_gguf,
    read_tensors,
    why_no_gguf,
    why_not_readable,
)
from stratos.tasks.base import Message
from stratos.teachers.base import LENGTH, REPETITION, STOP, Answer, Keep, Question
from stratos.teachers.words import (
    NoDownload,
    NoModelIn,
    NoPackage,
    NoPlace,
    NoWeights,
    UnreadableWeights,
)

if TYPE_CHECKING:
    import torch


_OF_NO_CONSEQUENCE = {
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "max_length",
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "return_dict_in_generate",
    "transformers_version",
    "_from_model_config",
}
"""Settings of a generation config that change no token of a greedy answer of given length."""


def prompt_tokens(tokenizer: Any, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the tokens of each chat under the tokenizer's chat template."""
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    # The template has written the special tokens already.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    questions: Sequence[Question],
    *,
    batch_size: int,
    keep: Keep,
    progress: Callable[[int], None],
) -> None:
    """Answer questions; prompts of like length share a batch.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: token ids of each question's chat.
        questions: each with its longest answer (the end token included); those with a temperature
            are drawn.
        batch_size: prompts answered at once.
        keep: takes (index, answer) after each batch.
        progress: told how many answers came with each batch.
    """
    from stratos.models.decode.batched import end_tokens, write

    if not prompts:
        return
    ends = end_tokens(model, tokenizer)
    draws = [_Draw.of(*pair) for pair in zip(questions, prompts, strict=True)]
    began = time.perf_counter()

    def take(batch: Sequence[int], rows: Sequence[list[int]]) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds, began = (now - began) / len(batch), now
        for index, row in zip(batch, rows, strict=True):
            text = tokenizer.decode(row, skip_special_tokens=True)
            reply = Answer(text, len(prompts[index]), len(row), seconds, finish=_finish(row, ends))
            keep(index, reply)
        progress(len(batch))

    if not _is_plain(model.generation_config):
        _generate(model, prompts, questions, draws, ends, tokenizer.pad_token_id, batch_size, take)
        return
    write(
        model,
        tokenizer,
        prompts,
        max_new_tokens=[question.max_tokens for question in questions],
        batch_size=batch_size,
        pick=_Picker(draws),
        take=take,
        share_prefixes=True,
        stop_loops=True,
    )


def _finish(row: Sequence[int], ends: frozenset[int]) -> str:
    """Return why an answer ended, in the words of OpenAI's API where it has one."""
    if row and row[-1] in ends:
        return STOP
    return REPETITION if repeats(row) else LENGTH


class _Draw:
    """How one row is drawn: temperature, and a source of numbers that is its own."""

    def __init__(self, temperature: float, seed: str) -> None:
        self.temperature = temperature
        self.random = Random(seed)

    @classmethod
    def of(cls, question: Question, prompt: list[int]) -> _Draw | None:
        """Return how a question is drawn, None where its likeliest answer is asked for."""
        if not question.temperature:
            return None
        drawn = f"{question.sample} {question.temperature} {prompt}"
        return cls(question.temperature, hashlib.sha256(drawn.encode()).hexdigest())


class _Picker:
    """Takes the likeliest token of a row, or draws one with the probability that it has.

    One number a row and step is compared with the summed probabilities.
    """

    def __init__(self, draws: Sequence[_Draw | None]) -> None:
        self._draws = draws

    def __call__(self, logits_BV: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        import torch

        picked_B1 = logits_BV.argmax(-1, keepdim=True)
        drawn = [(row, draw) for row, prompt in enumerate(prompts) if (draw := self._draws[prompt])]
        if not drawn:
            return picked_B1
        rows = [row for row, _ in drawn]
        warmth = [[draw.temperature] for _, draw in drawn]
        number = [[draw.random.random()] for _, draw in drawn]
        logits_DV = logits_BV[rows].double()
        sums_DV = (logits_DV / logits_DV.new_tensor(warmth)).softmax(-1).cumsum(-1)
        numbers_D1 = sums_DV.new_tensor(number) * sums_DV[:, -1:]
        picked_D1 = torch.searchsorted(sums_DV, numbers_D1, right=True)
        picked_B1[rows] = picked_D1.clamp(max=logits_BV.shape[-1] - 1)
        return picked_B1


def _generate(
    model: Any,
    prompts: Sequence[list[int]],
    questions: Sequence[Question],
    draws: Sequence[_Draw | None],
    ends: frozenset[int],
    pad: int | None,
    batch_size: int,
    take: Callable[[Sequence[int], Sequence[list[int]]], None],
) -> None:
    """Answer by `model.generate`, which knows what a generation config of its own asks for."""
    import torch
    from transformers import LogitsProcessorList

    pad = next(id for id in (pad, *sorted(ends), 0) if id is not None)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(prompts[index]) for index in batch)
        gaps = [width - len(prompts[index]) for index in batch]
        padded = [[pad] * gap + prompts[i] for gap, i in zip(gaps, batch, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        processors = [_Drawn(_Picker(draws), batch)] if any(draws[index] for index in batch) else []
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                max_new_tokens=max(questions[index].max_tokens for index in batch),
                do_sample=False,  # of a row that is drawn, one token is left to be the likeliest
                logits_processor=LogitsProcessorList(processors),
                pad_token_id=pad,
            )
        limits = {index: questions[index].max_tokens for index in batch}
        written = zip(batch, out[:, width:].tolist(), strict=True)
        take(batch, [_to_end(row[: limits[index]], ends) for index, row in written])


class _Drawn:
    """Leaves to each row that is drawn one token."""

    def __init__(self, picker: _Picker, batch: Sequence[int]) -> None:
        self._picker, self._batch = picker, batch

    def __call__(self, ids_BT: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        import torch

        left_BV = torch.full_like(logits_BV, -torch.inf)
        return left_BV.scatter(-1, self._picker(logits_BV, self._batch), 0.0)


def _to_end(row: list[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens of a row up to its end; what follows is padding."""
    return row[: next((n for n, id in enumerate(row, 1) if id in ends), len(row))]


def _is_plain(generation_config: Any) -> bool:
    """Return whether greedy decoding takes the likeliest token and nothing else decides."""
    decided = set(generation_config.to_diff_dict())
    return decided <= _OF_NO_CONSEQUENCE


# The entropy of a local teacher's next token over its own answers, in nats.
#
# Near zero, its distribution is its text and nothing else, so a student that is shown the
# distribution learns what it would learn from the text.


def entropy_nats(
    model: Any, tokenizer: Any, chats: Sequence[list[Message]], texts: Sequence[str]
) -> float | None:
    """Return the mean entropy of the next token over all tokens of all answers, ends included.

    Args:
        model: causal language model of transformers, in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        chats: messages of each question.
        texts: the answers that the model gave, without special tokens.

    Returns:
        Nats per token, at temperature 1; None without answers.
    """
    import torch

    if not chats:
        return None
    entropies: list[float] = []
    end = tokenizer.eos_token_id
    for prompt, text in zip(prompt_tokens(tokenizer, chats), texts, strict=True):
        written = tokenizer(text, add_special_tokens=False)["input_ids"]
        written = written if end is None else [*written, end]
        if not written:
            continue
        ids = torch.tensor([[*prompt, *written]], device=model.device)
        with torch.inference_mode():
            # The logits of a place are of the token behind it.
            logits_1TV = model(input_ids=ids, logits_to_keep=len(written) + 1).logits[:, :-1]
            log_p_TV = logits_1TV[0].float().log_softmax(-1)
            # Where a token is impossible, 0 · log 0 counts as 0.
            entropies += torch.special.entr(log_p_TV.exp()).sum(-1).tolist()
    return fmean(entropies) if entropies else None


_WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".json", ".jinja", ".model")
"""Files of a folder that decide what its model answers."""
_READ_WHOLE, _N_BLOCKS, _BLOCK = 2**28, 1024, 2**16
"""Bytes up to which a file is hashed whole; of a larger one so many blocks of so many bytes are."""

_CONFIG_NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "n_heads": ("num_attention_heads", "n_head"),
    "n_kv_heads": ("num_key_value_heads", "num_attention_heads", "n_head"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocab_size": ("vocab_size",),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx"),
}
_GGUF_NAMES = {
    "n_layers": "block_count",
    "hidden_size": "embedding_length",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "vocab_size": "vocab_size",
    "context_length": "context_length",
}


@dataclass(frozen=True)
class Weights:
    """A place that a model can be loaded from."""

    location: str
    """Folder, or the name of a model on the Hugging Face hub."""
    gguf: str | None
    """Name of the GGUF file in the folder; None for safetensors."""
    is_folder: bool
    stated: str = ""
    """What tells this state of the weights from another, where a name does."""
    files: tuple[Path, ...] = ()
    """Else the files whose content does."""

    @cached_property
    def version(self) -> str:
        """What tells this state of the weights from another; a copy elsewhere has the same."""
        if self.stated:
            return self.stated
        return json.dumps([[file.stat().st_size, _content(file)] for file in self.files])


def find_weights(
    path: str | None, package: str | None, gguf: str | None, revision: str | None
) -> Weights | Reason:
    """Find the weights of a model: a folder, a package that ships them, or the hub, in that order.

    A package is located without being imported. The hub is asked for a file's headers at most.

    Returns:
        The place, or the reason why there is none.
    """
    tried: list[Reason] = []
    if path is not None:
        expanded = Path(path).expanduser()
        # Those of pathlib raise where a name is too long.
        if os.path.isdir(expanded):
            return _in_folder(expanded, gguf, f"the folder {path}")
        if expanded.suffix == ".gguf" and os.path.exists(expanded):
            return _folder(expanded.parent, expanded.name)
    if package is not None:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            return _in_package(package, Path(folder), gguf)
        tried.append(NoPackage(package))
    if path is not None:
        if not is_hub_name(path):
            tried.append(NoPlace(path))
        else:
            reason = missing_on_hub(path, revision)
            if reason is None:
                return Weights(path, None, False, f"{path}@{revision or 'main'}")
            tried.append(NoDownload(path, reason))
    return NoWeights(tuple(tried))


def _in_folder(folder: Path, gguf: str | None, source: str) -> Weights | Reason:
    if gguf is not None and os.path.lexists(folder / gguf):
        return _folder(folder, gguf)
    if os.path.lexists(folder / "config.json"):
        return _folder(folder, None)
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if gguf is None and len(files) == 1:
        return _folder(folder, files[0])
    return NoModelIn(source, gguf, tuple(files))


def _in_package(package: str, folder: Path, gguf: str | None) -> Weights | Reason:
    """Locate weights in an installed package; its version stands for their content."""
    weights = _in_folder(folder, gguf, f"the package {package}")
    if isinstance(weights, Reason):
        return weights
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return weights
    size = weights.files[0].stat().st_size if weights.gguf else 0
    return Weights(weights.location, weights.gguf, True, f"{package}=={version}/{gguf}:{size}")


def _folder(folder: Path, gguf: str | None) -> Weights | Reason:
    reason = why_no_gguf(folder / gguf) if gguf else why_not_readable(folder, is_whole=False)
    if reason is not None:
        return UnreadableWeights(str(folder), reason)
    files = [folder / gguf] if gguf else sorted(folder.iterdir())
    deciding = tuple(file for file in files if file.suffix in _WEIGHT_SUFFIXES)
    return Weights(str(folder), gguf, True, files=deciding)


def _content(path: Path) -> str:
    """Return a digest of a file: of all of it, or of many blocks from end to end of a large one."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= _READ_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        for block in range(_N_BLOCKS):
            file.seek(block * (size - _BLOCK) // (_N_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def read_facts(weights: Weights, revision: str | None = None) -> dict[str, Any]:
    """Return the facts of a model by the names of `ModelCard`, as far as its files tell them."""
    if weights.gguf is not None:
        return _gguf_facts(Path(weights.location) / weights.gguf)
    if weights.is_folder:
        config = Path(weights.location) / "config.json"
    else:
        import huggingface_hub

        config = Path(
            huggingface_hub.hf_hub_download(weights.location, "config.json", revision=revision)
        )
    facts = config_facts(read_config(config))
    if weights.is_folder:
        n_params = sum(
            tensor.n_elements
            for file in config.parent.glob("*.safetensors")
            for tensor in read_tensors(file)
        )
        facts["n_params"] = n_params or facts["n_params"]
    return facts


def config_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a Hugging Face config tells; parameters are counted from the shape.

    The count is that of a Llama block (gated MLP, no biases), with tied embeddings counted once.
    """
    config = {**config, **config.get("text_config", {})}
    facts: dict[str, Any] = {}
    for fact, names in _CONFIG_NAMES.items():
        value = next((config[name] for name in names if config.get(name) is not None), 0)
        facts[fact] = int(value)
    hidden, heads = facts["hidden_size"], max(facts["n_heads"], 1)
    facts["intermediate_size"] = facts["intermediate_size"] or 4 * hidden
    head_size = int(config.get("head_dim") or hidden // heads)
    attention = 2 * hidden * head_size * (facts["n_heads"] + facts["n_kv_heads"])
    block = attention + 3 * hidden * facts["intermediate_size"] + 2 * hidden
    embeddings = facts["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    facts["n_params"] = facts["n_layers"] * block + embeddings + hidden
    return facts


def _gguf_facts(path: Path) -> dict[str, Any]:
    header = read_gguf(path)
    architecture = header.values.get("general.architecture")
    facts: dict[str, Any] = {
        fact: int(header.values.get(f"{architecture}.{name}", 0))
        for fact, name in _GGUF_NAMES.items()
    }
    facts["n_kv_heads"] = facts["n_kv_heads"] or facts["n_heads"]
    facts["vocab_size"] = facts["vocab_size"] or header.lengths.get("tokenizer.ggml.tokens", 0)
    facts["n_params"] = header.n_params
    if license_name := header.values.get("general.license"):
        facts["license"] = str(license_name)
    return facts
