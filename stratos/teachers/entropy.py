"""The entropy of a local teacher's next token over its own answers, in nats.

Near zero, its distribution is its text and nothing else, so a student that is shown the
distribution learns what it would learn from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from stratos.tasks.base import Message


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

    from stratos.teachers.generate import prompt_tokens

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
