"""Fast batched greedy decoding on a CPU, token-identical to `model.generate`.

`model.generate` keeps finished rows in the batch until the longest is done and copies the whole
cache at every token. `complete` computes once what prompts begin with alike, asks questions of like
length together, drops a row when it ends, and writes into a cache with room
(`models.decode.kv_cache`). An extension may have a decoder that is faster than transformers'
modules (`models.decode.decoder.FastDecoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from stratos.models.decode.decoder import Answers, Call, Decoder, Decoding, fast_decoder, fill_holes
from stratos.tasks.base import Message

if TYPE_CHECKING:
    import torch

    from stratos.models.decode.decoder import FastBatch, FastDecoder, Pick
    from stratos.models.decode.kv_cache import Prefixes

_BATCH_TOKENS = 128
"""Padding that takes as long to read as another batch's check of the fast decoder."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model."""

    text: str
    """Without special tokens."""
    input_tokens: int
    output_tokens: int
    """The end token included."""
    is_truncated: bool = False
    """True if it ended at the longest length, or where the context was full, and not by itself."""
    logprob: float | None = None
    """Log-probability of all its tokens together; None where it was not asked for."""


def complete(
    model: Any,
    tokenizer: Any,
    chats: Sequence[list[Message]],
    *,
    max_new_tokens: int,
    batch_size: int,
    tick: Callable[[int, int], None] | None = None,
    poll: Callable[[], None] | None = None,
    choose_threads: bool = True,
    schemas: Sequence[Mapping[str, Any] | None] = (),
    with_logprobs: bool = False,
    decoding: Decoding | None = None,
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
        poll: called behind every token; what it raises ends the answering.
        choose_threads: decode on as many CPU threads as are fastest, rather than on torch's.
            Their number decides how sums are rounded: no for what a training rests on.
        schemas: JSON Schema that the answer to each chat has to match, None for any answer; empty
            leaves all of them free (`stratos.models.decode.constrained`).
        with_logprobs: say how likely the model finds each answer, free of any schema.
        decoding: which decoder may be used, and counts which was; None means `Decoder.AUTO`.

    Raises:
        ValueError: no grammar can be made for the tokenizer.
    """
    from stratos.models.decode.decoder import Likelihood, likeliest

    prompts: list[list[int]] = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for chat in chats
    ]
    ends = end_tokens(model, tokenizer)
    pick: Pick = likeliest
    if any(schema is not None for schema in schemas):
        from stratos.models.decode.constrained import by_schemas

        pick = by_schemas(tokenizer, schemas, sorted(ends))
    likelihood = Likelihood(pick, len(prompts)) if with_logprobs else None
    answers = write(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        pick=pick if likelihood is None else likelihood,
        tick=tick,
        poll=poll,
        share_prefixes=True,
        choose_threads=choose_threads,
        decoding=decoding,
    )
    return [
        Completion(
            text=tokenizer.decode(tokens, skip_special_tokens=True),
            input_tokens=len(prompt),
            output_tokens=len(tokens),
            is_truncated=not tokens or tokens[-1] not in ends,
            logprob=None if likelihood is None else likelihood.sums[index],
        )
        for index, (prompt, tokens) in enumerate(zip(prompts, answers, strict=True))
    ]


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    pick: Pick | None = None,
    tick: Callable[[int, int], None] | None = None,
    take: Callable[[Sequence[int], Sequence[list[int]]], None] | None = None,
    share_prefixes: bool = False,
    stop_loops: bool = False,
    poll: Callable[[], None] | None = None,
    choose_threads: bool = True,
    decoding: Decoding | None = None,
) -> list[list[int]]:
    """Return the tokens that the model writes behind each prompt, the end token included.

    Args:
        model: as of `complete`.
        tokenizer: as of `complete`.
        prompts: token ids of each prompt.
        max_new_tokens: longest answer, in tokens: of all, or of each.
        batch_size: as of `complete`.
        pick: chooses the next token of each row; None takes the likeliest.
        tick: as of `complete`.
        take: takes the numbers of a batch's prompts and their answers, after each batch.
        share_prefixes: compute what prompts begin with alike once.
        stop_loops: end a row that repeats itself: it would do so up to its longest length.
        poll: as of `complete`.
        choose_threads: as of `complete`.
        decoding: as of `complete`.
    """
    import torch

    from stratos.models.decode.decoder import HERE, likeliest
    from stratos.models.decode.kv_cache import Prefixes

    decoding = Decoding() if decoding is None else decoding
    pick = likeliest if pick is None else pick
    threads = HERE if choose_threads and model.device.type == "cpu" else None
    longest = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    limits = [_room(model, len(prompts[i]), longest[i]) for i in range(len(prompts))]
    answers = Answers(
        limits, end_tokens(model, tokenizer), stop_loops=stop_loops, tick=tick, take=take
    )
    ends_at = [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]
    call = Call(answers, pick, batch_size, max(ends_at, default=0), poll, threads)
    with (
        evaluating(model),
        torch.inference_mode(),
        threads.choosing() if threads is not None else nullcontext(),
    ):
        prefixes = Prefixes.of(model, prompts) if share_prefixes else None
        fast = None if decoding.decoder is Decoder.TRANSFORMERS else fast_decoder(model, call)
        n_read = [len(prompt) for prompt in prompts]
        if prefixes is not None:
            n_read = [n - known for n, known in zip(n_read, prefixes.lengths, strict=True)]
        # Like lengths share a batch; longest first, so that what needs most memory is met at once.
        order = sorted(
            range(len(prompts)), key=lambda i: (-longest[i], -n_read[i], -len(prompts[i]))
        )
        for batch in _batches(order, n_read, batch_size, is_cut=fast is not None):
            _decode(
                model,
                prompts,
                answers.begin(batch),
                call,
                pad=tokenizer.pad_token_id or 0,
                prefixes=prefixes,
                fast=fast,
                decoding=decoding,
            )
        if fast is not None:
            fast.finish()
    return answers.tokens


def _batches(
    order: Sequence[int], n_read: Sequence[int], most: int, *, is_cut: bool
) -> Iterator[list[int]]:
    """Cut prompts into batches.

    Rows of a fast decoder join whatever batch they were read in. So a batch of it also ends where
    padding the rest to its width takes longer than reading them apart.

    Args:
        order: numbers of the prompts.
        n_read: tokens to read of each.
        most: prompts of a batch.
        is_cut: whether batches may be smaller.
    """
    batch: list[int] = []
    for number, index in enumerate(order):
        if batch:
            n_next = min(len(order) - number, most - len(batch))
            n_padding = (n_read[batch[0]] - n_read[index]) * n_next
            if not n_next or (is_cut and n_padding > _BATCH_TOKENS):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch


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
    live: list[int],
    call: Call,
    *,
    pad: int,
    prefixes: Prefixes | None,
    fast: FastDecoder | None,
    decoding: Decoding,
) -> None:
    """Decode one batch to its end; or up to its second token, where a fast decoder takes it over.

    Args:
        model: as of `write`.
        prompts: all of them.
        live: numbers of those that are answered together.
        call: what all batches share.
        pad: any token.
        prefixes: what is computed of the prompts already.
        fast: takes the batch over if it computes the same logits; None leaves it to transformers.
        decoding: counts what decoded.
    """
    import torch

    from stratos.models.decode.kv_cache import cache_argument, roomy_cache

    if not live:
        return
    if prefixes is None:
        cache, before, rest = roomy_cache(model.config), None, [prompts[index] for index in live]
    else:
        cache, before, rest = prefixes.start(model, prompts, live)
    ids, mask = pad_left(rest, pad, model.device)
    if before is not None:
        mask = torch.cat([before, mask], -1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    padded = not bool(mask.all())
    cache_name = cache_argument(model)
    if call.threads is not None:
        call.threads.begin()
    for step in count():
        logits_BV = model(
            input_ids=ids,
            # Rows of one length need no mask, and attention without one is cheaper.
            attention_mask=mask if padded else None,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{cache_name: cache},
        ).logits[:, -1]
        fast_batch: FastBatch | None = None
        if step == 1 and fast is not None:
            fast_batch = fast.take(cache, ids, mask, positions, logits_BV)
            decoding.count(fast_batch is not None)
            if call.threads is not None:  # the steps measured so far say nothing of those to come
                call.threads.begin()
        if call.poll is not None:
            call.poll()
        if call.threads is not None:
            call.threads.token()
        ids = call.pick(logits_BV, live)
        positions = positions[:, -1:] + 1
        over = [
            call.answers.add(index, token)
            for index, token in zip(live, ids[:, 0].tolist(), strict=True)
        ]
        if all(over):
            return
        if any(over):
            staying = fill_holes(over)
            live = [live[index] for index in staying]
            places = torch.tensor(staying, device=ids.device)
            if fast_batch is not None:
                fast_batch.keep(staying)
            else:
                cache.reorder_cache(cast(torch.LongTensor, places))
            ids, mask, positions = ids[places], mask[places], positions[places]
        if fast_batch is not None:
            fast_batch.decode(live, ids, positions)
            return
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)


def _room(model: Any, n_prompt: int, max_new_tokens: int) -> int:
    """Return how many tokens an answer may have before the model's context is full."""
    context = getattr(model.config, "max_position_embeddings", None)
    return max_new_tokens if context is None else min(max_new_tokens, context - n_prompt)


def pad_left(
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


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode, and every submodule back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
