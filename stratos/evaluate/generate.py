"""Answers in batches, fast on a CPU: the same tokens as greedy `model.generate`, sooner.

`model.generate` keeps finished rows in the batch until the longest is done and copies the whole
cache at every token. `complete` asks questions of like length together, drops a row when it ends,
and writes into a cache with room (`stratos.evaluate.cache`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stratos.tasks.base import Message

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model."""

    text: str
    """Without special tokens."""
    input_tokens: int
    output_tokens: int
    """The end token included."""


def complete(
    model: Any,
    tokenizer: Any,
    chats: Sequence[list[Message]],
    *,
    max_new_tokens: int,
    batch_size: int,
    tick: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Answer every chat greedily, in the order given.

    A row ends at one of `end_tokens`, after `max_new_tokens`, or where the model's context is full.
    The mode (training or not) of every submodule is as before afterwards.

    Args:
        model: causal language model of transformers, on any device.
        tokenizer: its tokenizer, with a chat template.
        chats: messages of each question.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions answered at once.
        tick: called with (done, total) as answers come in.
    """
    prompts: list[list[int]] = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for chat in chats
    ]
    answers = write(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        tick=tick,
    )
    return [
        Completion(
            text=tokenizer.decode(tokens, skip_special_tokens=True),
            input_tokens=len(prompt),
            output_tokens=len(tokens),
        )
        for prompt, tokens in zip(prompts, answers, strict=True)
    ]


def likeliest(logits_BV: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token of each row, (B, 1)."""
    return logits_BV.argmax(-1, keepdim=True)


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    pick: Callable[[torch.Tensor], torch.Tensor] = likeliest,
    tick: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Return the tokens that the model writes behind each prompt, the end token included.

    Args:
        model: as of `complete`.
        tokenizer: as of `complete`.
        prompts: token ids of each prompt.
        max_new_tokens: as of `complete`.
        batch_size: as of `complete`.
        pick: takes the next token's logits (B, V) and returns the token of each row, (B, 1).
        tick: as of `complete`.
    """
    import torch

    # Like lengths share a batch; longest first, so that what needs most memory is met at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers: list[list[int]] = [[] for _ in prompts]
    n_done = 0
    with _inference(model), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            decoding = _decode(
                model,
                [prompts[index] for index in batch],
                ends=end_tokens(model, tokenizer),
                pad=tokenizer.pad_token_id or 0,
                max_new_tokens=max_new_tokens,
                pick=pick,
            )
            for row, tokens in decoding:
                answers[batch[row]] = tokens
                n_done += 1
                if tick is not None:
                    tick(n_done, len(prompts))
    return answers


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, else the tokenizer's."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset([ends] if isinstance(ends, int) else ends)


def _decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: frozenset[int],
    pad: int,
    max_new_tokens: int,
    pick: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[tuple[int, list[int]]]:
    """Yield (row, tokens) for each prompt of one batch, in the order in which they end."""
    import torch

    from stratos.evaluate.cache import roomy_cache

    limits = [_room(model, len(prompt), max_new_tokens) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    for row, limit in enumerate(limits):
        if limit <= 0:
            yield row, []
    live = [row for row, limit in enumerate(limits) if limit > 0]
    if not live:
        return

    ids, mask = _pad_left([prompts[row] for row in live], pad, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padded = not bool(mask.all())
    cache = roomy_cache(model.config)
    cache_name = _cache_argument(model)
    while True:
        logits = model(
            input_ids=ids,
            # Rows of one length need no mask, and attention without one is cheaper.
            attention_mask=mask if padded else None,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{cache_name: cache},
        ).logits
        ids = pick(logits[:, -1])
        positions = positions[:, -1:] + 1
        over = [False] * len(live)
        for place, (row, token) in enumerate(zip(live, ids[:, 0].tolist(), strict=True)):
            answers[row].append(token)
            over[place] = token in ends or len(answers[row]) >= limits[row]
            if over[place]:
                yield row, answers[row]
        if all(over):
            return
        if any(over):
            kept = _fill_holes(over)
            live = [live[place] for place in kept]
            places = torch.tensor(kept, device=ids.device)
            cache.reorder_cache(cast(torch.LongTensor, places))
            ids, mask, positions = ids[places], mask[places], positions[places]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)


def _room(model: Any, n_prompt: int, max_new_tokens: int) -> int:
    """Return how many tokens an answer may have before the model's context is full."""
    context = getattr(model.config, "max_position_embeddings", None)
    return max_new_tokens if context is None else min(max_new_tokens, context - n_prompt)


def _pad_left(
    prompts: Sequence[Sequence[int]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask of shape (rows, longest prompt), the prompts at the right."""
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _fill_holes(gone: Sequence[bool]) -> list[int]:
    """Return which place moves where so that the rows that stay are the first ones.

    The last rows fill the holes, so that only as many rows move as have ended.
    """
    staying = [place for place, over in enumerate(gone) if not over]
    n_staying = len(staying)
    movers = [place for place in staying if place >= n_staying]
    return [movers.pop() if gone[place] else place for place in range(n_staying)]


def _cache_argument(model: Any) -> str:
    """Return what the model calls its cache: the name changed within transformers 5."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode, and every submodule back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
