"""Teacher signals for each learned position: hidden states, dense logits, top-k, sampled tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EMPTY = -1
"""Id of a slot of a sparse signal that holds nothing."""


@dataclass(frozen=True)
class LMHead:
    """A linear head: logits = softcap(scale * (hidden @ weight.T + bias)).

    weight_VH (V, H) and bias_V (V,). `scale` and `softcap` (cap * tanh(x / cap)) are what some
    model families put behind the projection.
    """

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @staticmethod
    def of(model: Any) -> LMHead:
        """Return the head of a Hugging Face causal language model."""
        linear, config = model.get_output_embeddings(), model.config
        scale = getattr(config, "logit_scale", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        softcap = getattr(config, "final_logit_softcapping", None)
        return LMHead(linear.weight, getattr(linear, "bias", None), scale, softcap)


@dataclass(frozen=True)
class Hidden:
    """The teacher's last hidden states and its head; logits exist only chunk by chunk.

    hidden_NH (N, H) or (..., H); rows_M: the learned places among them, None for all of them.
    layers_LNH: what each layer says at the same N places, 0 being the embedding, where a strategy
    matches them (`HiddenMatch`).
    """

    hidden_NH: Tensor
    head: LMHead
    rows_M: Tensor | None = None
    layers_LNH: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Dense:
    """Logits (or log-probabilities) of the learned places, (M, V)."""

    logits_MV: Tensor


@dataclass(frozen=True)
class TopK:
    """Log-probabilities of some tokens under the full softmax; the others share the rest.

    ids_MK, logprobs_MK (M, K), at the temperature of the objective. A slot with id -1 is empty.
    The probabilities are never renormalised: what they leave to 1 is the tail's. tail_M (M,) is
    the tail's log-probability, for where 1 minus a sum of rounded numbers is not exact enough.
    n_ids are the ids that mean something: a student's logits beyond them, which its embedding is
    padded with, are cut off. None takes all.
    """

    ids_MK: Tensor
    logprobs_MK: Tensor
    tail_M: Tensor | None = None
    n_ids: int | None = None

    @staticmethod
    def of(
        logits_MV: Tensor, k: int, targets_M: Tensor | None = None, temperature: float = 1.0
    ) -> TopK:
        """Keep the k likeliest tokens, and the target (M,) of each place where it is not one.

        With targets there are k + 1 slots; the last is empty where the target is among the first.
        """
        logits = logits_MV.float() / temperature
        top, ids = logits.topk(min(k, logits.shape[1]), dim=1)
        if targets_M is not None:
            target = targets_M[:, None]
            there = (ids == target).any(1, keepdim=True)
            ids = torch.cat([ids, torch.where(there, EMPTY, target)], 1)
            top = torch.cat([top, logits.gather(1, target)], 1)
        normalizer = logits.logsumexp(1, keepdim=True)
        # An empty slot points at the likeliest token, which is taken out of the tail anyway.
        listed = torch.where(ids == EMPTY, ids[:, :1], ids)
        tail = logits.scatter(1, listed, -torch.inf).logsumexp(1) - normalizer[:, 0]
        return TopK(ids, top - normalizer, tail)


@dataclass(frozen=True)
class Sampled:
    """Tokens drawn from the teacher, an unbiased estimate of its distribution.

    ids_MS, weights_MS (M, S): the expectation of the sum of the weights that fall on a token is
    its probability. Random sampling distillation, arXiv 2503.16870; top-k, renormalised or not,
    is biased. logprobs_MS, where there, makes the loss an estimate of the divergence; without it
    the loss is the cross-entropy with the teacher, which has the same gradient. n_ids as in `TopK`.
    """

    ids_MS: Tensor
    weights_MS: Tensor
    logprobs_MS: Tensor | None = None
    n_ids: int | None = None

    @staticmethod
    def of(
        logits_MV: Tensor,
        n: int,
        temperature: float = 1.0,
        power: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Sampled:
        """Draw n tokens a place from p^power, weighted by importance; power 1 draws from p."""
        logprobs = (logits_MV.float() / temperature).log_softmax(1)
        proposal = (logprobs * power).log_softmax(1)
        ids = torch.multinomial(proposal.exp(), n, replacement=True, generator=generator)
        picked = logprobs.gather(1, ids)
        weights = (picked - proposal.gather(1, ids)).exp() / n
        return Sampled(ids, weights, picked)


@dataclass(frozen=True)
class Shared:
    """A teacher with another vocabulary, seen through the tokens that both vocabularies have.

    student_ids_K, teacher_ids_K (K,): ids of the same text in each vocabulary. All other tokens
    of a side are one bucket, so that both sides are distributions over the same K + 1 outcomes.
    """

    teacher: Hidden | Dense
    student_ids_K: Tensor
    teacher_ids_K: Tensor


Signal = Hidden | Dense | TopK | Sampled | Shared


def dense_side(signal: Signal | None) -> Hidden | Dense | None:
    """Return the part of a signal that has logits of a whole vocabulary, if any."""
    if isinstance(signal, Shared):
        return signal.teacher
    return signal if isinstance(signal, Hidden | Dense) else None
