"""Answers of a local model in batches, with the prompts' common beginning computed once.

The chats of one task begin alike: system message and few-shot examples. Keys and values of that
prefix are computed for one row and repeated for the batch, which on a CPU saves most of the work.
Where there is no such prefix, as with an expert that is asked the bare question, rows leave the
batch as they end (`stratos.evaluate.generate`).

An answer is the likeliest one or drawn. What is drawn depends on the prompt, the temperature and
the number of the sample, not on the batch that it happens to be in: every row has a generator of
its own.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Keep, Question

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
        questions: whose longest answer (the end token included) is the same; those with a
            temperature are drawn.
        batch_size: prompts answered at once.
        keep: takes (index, answer) after each batch.
        progress: told how many answers came with each batch.
    """
    import torch

    from stratos.evaluate.generate import end_tokens, write

    if not prompts:
        return
    max_tokens = questions[0].max_tokens
    ends = end_tokens(model, tokenizer)
    pad = next(id for id in (tokenizer.pad_token_id, *sorted(ends), 0) if id is not None)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with torch.inference_mode():
        prefix = _Prefix.of(model, prompts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            began = time.perf_counter()
            asked = [prompts[index] for index in batch]
            draws = [_Draw.of(questions[index], prompts[index]) for index in batch]
            if prefix.tokens or any(draws) or not _is_plain(model.generation_config):
                rows = _generate(model, asked, draws, prefix, max_tokens, pad)
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


class _Drawn:
    """Leaves to each row that is drawn one token, picked with the probability that it has.

    One number a row and step is compared with the summed probabilities.
    """

    def __init__(self, draws: Sequence[_Draw | None]) -> None:
        self._rows = [row for row, draw in enumerate(draws) if draw is not None]
        self._draws = [draw for draw in draws if draw is not None]

    def __call__(self, ids_BT: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        import torch

        warmth = [[draw.temperature] for draw in self._draws]
        number = [[draw.random.random()] for draw in self._draws]
        logits_DV = logits_BV[self._rows].double()
        sums_DV = (logits_DV / logits_DV.new_tensor(warmth)).softmax(-1).cumsum(-1)
        numbers_D1 = sums_DV.new_tensor(number) * sums_DV[:, -1:]
        picked_D1 = torch.searchsorted(sums_DV, numbers_D1, right=True)
        picked_D1 = picked_D1.clamp(max=logits_BV.shape[-1] - 1)
        left_BV = logits_BV.clone()
        left_BV[self._rows] = torch.full_like(logits_BV[self._rows], -torch.inf).scatter(
            -1, picked_D1, 0.0
        )
        return left_BV


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
    model: Any,
    prompts: Sequence[list[int]],
    draws: Sequence[_Draw | None],
    prefix: _Prefix,
    max_tokens: int,
    pad: int,
) -> list[list[int]]:
    """Return the new tokens of each row; padding lies between the prefix and what follows it."""
    from transformers import LogitsProcessorList

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
        do_sample=False,  # of a row that is drawn, one token is left to be the likeliest
        logits_processor=LogitsProcessorList([_Drawn(draws)] if any(draws) else []),
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
