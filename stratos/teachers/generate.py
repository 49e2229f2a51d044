"""Batched generation with a local model, with prefix caching.

The chats of one task begin alike: system message and few-shot examples. Keys and values of that
prefix are computed for one row and copied to the others, and rows leave the batch as they end
(`stratos.models.decode.batched`).

An answer is the likeliest one or drawn. What is drawn depends on the prompt, the temperature and
the number of the sample, not on the batch that it happens to be in: every row has a generator of
its own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stratos.models.decode.decoder import repeats
from stratos.tasks.base import Message
from stratos.teachers.base import LENGTH, REPETITION, STOP, Answer, Keep, Question

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
