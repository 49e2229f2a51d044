"""Greedy answers of a local model in batches, with the prompts' common beginning computed once.

The chats of one task begin alike: system message and few-shot examples. Keys and values of that
prefix are computed for one row and repeated for the batch, which on a CPU saves most of the work.
Where there is no such prefix, as with an expert that is asked the bare question, rows leave the
batch as they end (`stratos.evaluate.generate`).
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Keep

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

_SHORTEST_PREFIX = 16
"""Tokens below which a common beginning is not worth a pass of its own."""


def prompt_tokens(tokenizer: Any, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the tokens of each chat under the tokenizer's chat template."""
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    # The template has written the special tokens already.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_tokens: int,
    batch_size: int,
    keep: Keep,
    progress: Callable[[int], None],
) -> None:
    """Answer prompts greedily; prompts of like length share a batch.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt.
        max_tokens: longest answer in tokens, the end token included.
        batch_size: prompts answered at once.
        keep: takes (index, answer) after each batch.
        progress: told how many answers came with each batch.
    """
    import torch

    from stratos.evaluate.generate import end_tokens, write

    ends = end_tokens(model, tokenizer)
    pad = next(id for id in (tokenizer.pad_token_id, *sorted(ends), 0) if id is not None)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with torch.inference_mode():
        prefix = _Prefix.of(model, prompts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            began = time.perf_counter()
            asked = [prompts[index] for index in batch]
            if prefix.tokens or not _is_plain(model.generation_config):
                rows = _generate(model, asked, prefix, max_tokens, pad)
            else:
                rows = write(
                    model, tokenizer, asked, max_new_tokens=max_tokens, batch_size=batch_size
                )
            seconds = (time.perf_counter() - began) / len(batch)
            for index, row in zip(batch, rows, strict=True):
                n_tokens = next((n for n, id in enumerate(row, 1) if id in ends), len(row))
                text = tokenizer.decode(row[:n_tokens], skip_special_tokens=True)
                keep(index, Answer(text, len(prompts[index]), n_tokens, seconds))
            progress(len(batch))


class _Prefix:
    """The tokens that all prompts begin with, and their keys and values."""

    def __init__(self, tokens: list[int], cache: Any, argument: str) -> None:
        self.tokens = tokens
        self.argument = argument
        self._cache = cache

    @classmethod
    def of(cls, model: Any, prompts: Sequence[list[int]]) -> _Prefix:
        """Compute the common beginning of the prompts (empty where it is short or unsafe)."""
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        argument = _cache_argument(model)
        tokens = _common_beginning(prompts)
        cache = DynamicCache(config=model.config)
        # Sliding windows and recurrent states cannot be continued behind padding.
        plain = all(type(layer) is DynamicLayer for layer in cache.layers)
        if len(prompts) < 2 or len(tokens) < _SHORTEST_PREFIX or not plain:
            return cls([], None, argument)
        ids = torch.tensor([tokens], device=model.device)
        model(input_ids=ids, use_cache=True, logits_to_keep=1, **{argument: cache})
        return cls(tokens, cache, argument)

    def arguments(self, n_rows: int) -> dict[str, Any]:
        """Return the arguments that start a batch of `n_rows` behind the prefix."""
        if self._cache is None:
            return {}
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(n_rows)
        return {self.argument: cache}


def _generate(
    model: Any, prompts: Sequence[list[int]], prefix: _Prefix, max_tokens: int, pad: int
) -> list[list[int]]:
    """Return the new tokens of each row; padding lies between the prefix and what follows it."""
    n_prefix = len(prefix.tokens)
    width = max(map(len, prompts))
    ids, mask = [], []
    for prompt in prompts:
        gap = width - len(prompt)
        ids.append([*prefix.tokens, *[pad] * gap, *prompt[n_prefix:]])
        mask.append([*[1] * n_prefix, *[0] * gap, *[1] * (len(prompt) - n_prefix)])
    out = model.generate(
        input_ids=_tensor(ids, model),
        attention_mask=_tensor(mask, model),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=pad,
        **prefix.arguments(len(prompts)),
    )
    rows: list[list[int]] = out[:, width:].tolist()
    return rows


def _tensor(rows: list[list[int]], model: Any) -> torch.Tensor:
    import torch

    return torch.tensor(rows, device=model.device)


def _common_beginning(prompts: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all prompts begin with, at least one left over in each."""
    if not prompts:
        return []
    first, last = min(prompts), max(prompts)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: min(n, min(map(len, prompts)) - 1)]


def _is_plain(generation_config: Any) -> bool:
    """Return whether greedy decoding takes the likeliest token and nothing else decides."""
    decided = set(generation_config.to_diff_dict())
    return decided <= _OF_NO_CONSEQUENCE


def _cache_argument(model: Any) -> str:
    """Return what the model calls its cache: the name changed within transformers 5."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
