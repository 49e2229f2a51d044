"""How close a student comes to its teacher, from the logits of both at the same places."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def top1_agreement(
    teacher_MV: Tensor,
    student_MU: Tensor,
    teacher_texts_V: Tensor | None = None,
    student_texts_U: Tensor | None = None,
) -> Tensor:
    """Return (M,): whether both find the same token likeliest.

    Unlike vocabularies give the text of each of their tokens as a number (`numbered_texts`), and
    the likeliest tokens agree where they are the same text.
    """
    teacher_M, student_M = teacher_MV.argmax(1), student_MU.argmax(1)
    if teacher_texts_V is not None and student_texts_U is not None:
        teacher_M, student_M = teacher_texts_V[teacher_M], student_texts_U[student_M]
    return teacher_M == student_M


def forward_kl(teacher_MV: Tensor, student_MV: Tensor) -> Tensor:
    """Return (M,): KL(teacher || student) in nats, from logits or log-probabilities."""
    p, q = teacher_MV.float().log_softmax(1), student_MV.float().log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


def entropy(logits_MV: Tensor) -> Tensor:
    """Return (M,): the entropy in nats."""
    p = logits_MV.float().log_softmax(1)
    return -(p.exp() * p).sum(1)


def surprise(logits_MV: Tensor, targets_M: Tensor) -> Tensor:
    """Return (M,): -log of the probability of the text's own token, in nats."""
    return -logits_MV.float().log_softmax(1).gather(1, targets_M[:, None])[:, 0]


def outcomes(logits_MV: Tensor, ids_K: Tensor) -> Tensor:
    """Return (M, K + 1): log-probabilities of some tokens, and of all the others together."""
    p = logits_MV.float().log_softmax(1)
    rest = p.index_fill(1, ids_K, -torch.inf).logsumexp(1, keepdim=True)
    # Where the tokens are the whole vocabulary the others have no probability at all.
    return torch.cat([p.index_select(1, ids_K), rest.clamp(min=-100)], 1)


def perplexity(nats: float, n: int) -> float:
    """Return e to the mean surprise of n tokens, or n bytes: these make tokenizers comparable."""
    return math.exp(nats / n)


def numbered_texts(tokenizers: list[Any]) -> list[Tensor]:
    """Return a number for each id of each tokenizer: the same for tokens of the same text.

    Ends of a text are alike; other special tokens, and ids that no token has, are like no other.
    """
    numbers: dict[Any, int] = {}
    found = []
    for place, tokenizer in enumerate(tokenizers):
        special = set(tokenizer.all_special_ids)
        vocabulary = tokenizer.get_vocab()
        ids = torch.empty(max(vocabulary.values()) + 1, dtype=torch.int64)
        tokens = {id_: token for token, id_ in vocabulary.items()}
        for id_ in range(len(ids)):
            text: Any = (place, id_)
            if id_ == tokenizer.eos_token_id:
                text = "end of a text", None
            elif id_ in tokens and id_ not in special:
                text = tokenizer.convert_tokens_to_string(["a", tokens[id_]])[1:]
                if "�" in text:  # a part of a character, spelled alike by all byte-level ones
                    text = tokens[id_], "bytes"
            ids[id_] = numbers.setdefault(text, len(numbers))
        found.append(ids)
    return found
