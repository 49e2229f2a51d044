"""Fast batched greedy decoding on a CPU, token-identical to `model.generate`.

`model.generate` keeps finished rows in the batch until the longest is done and copies the whole
cache at every token. `complete` asks questions of like length together, drops a row when it ends,
and writes into a cache with room (`stratos.decode.kv_cache`). The steps of small students on a CPU
are computed without transformers' modules (`stratos.decode.direct`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from stratos.decode.decoder import Decoder, Decoding
from stratos.tasks.base import Message

if TYPE_CHECKING:
    import torch

    from stratos.decode.direct import Direct, Following
    from stratos.decode.prefix import Prefixes
    from stratos.decode.threads import Threads

Pick = Callable[["torch.Tensor", Sequence[int]], "torch.Tensor"]
"""Takes the next token's logits (B, V) and the numbers of the prompts that the rows belong to, and
returns the token of each row, (B, 1)."""

_LOOKED_AT = 16
"""Tokens between two looks at whether a row repeats itself."""


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
            leaves all of them free (`stratos.decode.constrained`).
        with_logprobs: say how likely the model finds each answer, free of any schema.
        decoding: which decoder to take, and told which was; None takes `Decoder.AUTO`.

    Raises:
        ValueError: no grammar can be made for the tokenizer.
    """
    prompts: list[list[int]] = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for chat in chats
    ]
    ends = end_tokens(model, tokenizer)
    pick: Pick = likeliest
    if any(schema is not None for schema in schemas):
        from stratos.decode.constrained import by_schemas

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
        choose_threads=choose_threads,
        decoding=decoding,
    )
    return [
        Completion(
            text=tokenizer.decode(tokens, skip_special_tokens=True),
            input_tokens=len(prompt),
            output_tokens=len(tokens),
            is_truncated=not tokens or tokens[-1] not in ends,
            logprob=None if likelihood is None else likelihood.sums[place],
        )
        for place, (prompt, tokens) in enumerate(zip(prompts, answers, strict=True))
    ]


class Likelihood:
    """Picks as another does, and adds up the log-probability of what is picked."""

    def __init__(self, pick: Pick, n_prompts: int) -> None:
        """Begin with no tokens.

        Args:
            pick: chooses the tokens.
            n_prompts: prompts in all.
        """
        self._pick = pick
        self.sums = [0.0] * n_prompts

    def __call__(self, logits_BV: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        """Return the token of each row, (B, 1)."""
        total_B1 = logits_BV.float().logsumexp(-1, keepdim=True)
        picked_B1 = self._pick(logits_BV, prompts)
        logprobs_B1 = logits_BV.gather(-1, picked_B1).float() - total_B1
        for prompt, logprob in zip(prompts, logprobs_B1[:, 0].tolist(), strict=True):
            self.sums[prompt] += logprob
        return picked_B1


def likeliest(logits_BV: torch.Tensor, prompts: Sequence[int] = ()) -> torch.Tensor:
    """Return the likeliest token of each row, (B, 1)."""
    return logits_BV.argmax(-1, keepdim=True)


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    pick: Pick = likeliest,
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
        pick: chooses the next token of each row.
        tick: as of `complete`.
        take: takes the numbers of a batch's prompts and their answers, after each batch.
        share_prefixes: compute what prompts begin with alike once.
        stop_loops: end a row that repeats itself: it would do so up to its longest length.
        poll: as of `complete`.
        choose_threads: as of `complete`.
        decoding: as of `complete`.
    """
    import torch

    from stratos.decode.threads import HERE

    decoding = Decoding() if decoding is None else decoding

    threads = HERE if choose_threads and model.device.type == "cpu" else None
    longest = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    # Like lengths share a batch; longest first, so that what needs most memory is met at once.
    order = sorted(range(len(prompts)), key=lambda i: (-longest[i], -len(prompts[i])))
    answers: list[list[int]] = [[] for _ in prompts]
    n_done = 0
    with (
        _inference(model),
        torch.inference_mode(),
        threads.choosing() if threads is not None else nullcontext(),
    ):
        prefixes = _prefixes(model, prompts) if share_prefixes else None
        direct = _direct(model, decoding)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            found = _decode(
                model,
                prompts,
                batch,
                longest,
                ends=end_tokens(model, tokenizer),
                pad=tokenizer.pad_token_id or 0,
                pick=pick,
                prefixes=prefixes,
                stop_loops=stop_loops,
                poll=poll,
                threads=threads,
                direct=direct,
                decoding=decoding,
            )
            for index, tokens in found:
                answers[index] = tokens
                n_done += 1
                if tick is not None:
                    tick(n_done, len(prompts))
            if take is not None:
                take(batch, [answers[index] for index in batch])
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
    batch: Sequence[int],
    longest: Sequence[int],
    *,
    ends: frozenset[int],
    pad: int,
    pick: Pick,
    prefixes: Prefixes | None,
    stop_loops: bool,
    poll: Callable[[], None] | None,
    threads: Threads | None,
    direct: Direct | None,
    decoding: Decoding,
) -> Iterator[tuple[int, list[int]]]:
    """Yield (number of the prompt, tokens) for one batch, in the order in which they end.

    Args:
        model: as of `write`.
        prompts: all of them.
        batch: numbers of those that are answered together.
        longest: longest answer to each of all prompts.
        ends: tokens that end an answer.
        pad: any token.
        pick: as of `write`.
        prefixes: what is computed of the prompts already.
        stop_loops: as of `write`.
        poll: as of `write`.
        threads: what chooses their number; None for torch's.
        direct: the model's weights for steps without it; None has it make them all.
        decoding: told what made the steps.
    """
    import torch

    from stratos.decode.kv_cache import roomy_cache
    from stratos.decode.prefix import cache_argument
    from stratos.decode.repetition import repeats

    limits = {index: _room(model, len(prompts[index]), longest[index]) for index in batch}
    answers: dict[int, list[int]] = {index: [] for index in batch}
    for index in batch:
        if limits[index] <= 0:
            yield index, []
    live = [index for index in batch if limits[index] > 0]
    if not live:
        return

    n_known = [prefixes.lengths[index] if prefixes else 0 for index in live]
    rest = [prompts[index][n:] for index, n in zip(live, n_known, strict=True)]
    ids, mask = _pad_left(rest, pad, model.device)
    if prefixes is None:
        cache = roomy_cache(model.config)
    else:
        cache, before = prefixes.start(model, live)
        mask = torch.cat([before, mask], -1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    padded = not bool(mask.all())
    cache_name = cache_argument(model)
    following: Following | None = None
    if threads is not None:
        threads.begin()
    for step in count():
        if following is not None:
            logits_BV = following.step(ids, positions)
        else:
            logits_BV = model(
                input_ids=ids,
                # Rows of one length need no mask, and attention without one is cheaper.
                attention_mask=mask if padded else None,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **{cache_name: cache},
            ).logits[:, -1]
        if step == 1 and direct is not None:
            following = direct.follow(cache, ids, mask, positions, logits_BV)
            decoding.tell(following is not None)
            if threads is not None:  # other steps come now: what was measured says nothing of them
                threads.begin()
        if poll is not None:
            poll()
        if threads is not None:
            threads.token()
        ids = pick(logits_BV, live)
        positions = positions[:, -1:] + 1
        over = [False] * len(live)
        for place, (index, token) in enumerate(zip(live, ids[:, 0].tolist(), strict=True)):
            written = answers[index]
            written.append(token)
            over[place] = token in ends or len(written) >= limits[index]
            if stop_loops and not over[place] and len(written) % _LOOKED_AT == 0:
                over[place] = repeats(written)
            if over[place]:
                yield index, written
        if all(over):
            return
        if any(over):
            kept = _fill_holes(over)
            live = [live[place] for place in kept]
            places = torch.tensor(kept, device=ids.device)
            if following is not None:
                following.keep(kept)
            else:
                cache.reorder_cache(cast(torch.LongTensor, places))
            ids, mask, positions = ids[places], mask[places], positions[places]
        if following is None:  # which has its own
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)


def _direct(model: Any, decoding: Decoding) -> Direct | None:
    """Return a model's weights for steps without it, where it may be decoded so."""
    if decoding.asked is Decoder.TRANSFORMERS or model.device.type != "cpu":
        return None
    from stratos.decode.direct import Direct

    return Direct(model) if Direct.can_decode(model) else None


def _prefixes(model: Any, prompts: Sequence[Sequence[int]]) -> Prefixes:
    from stratos.decode.prefix import Prefixes

    return Prefixes.of(model, prompts)


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
