"""Objectives on sparse (top-k) teacher signals, with gradients in place.

The K tokens that are given are outcomes of their own, all the others are one: the divergence is
taken over K + 1 outcomes. Its gradient at a given token is that token's, and the tail's gradient is
spread over the other tokens in proportion to the student's own probabilities there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stratos.distill.objectives.kernels import FLOOR, TINY, Scratch, softmax_

Kernel = Callable[[Tensor, Tensor, Scratch], Tensor]


def with_tail(
    logprobs_RK: Tensor, empty_RK: Tensor, tail_R: Tensor | None, cut_R: Tensor
) -> Tensor:
    """Return (R, K + 1): the log-probabilities, and that of all tokens that are not given.

    The tail is what is left to 1 where nothing else is told, or a given token was cut off.
    """
    logprobs_RK = logprobs_RK.float().masked_fill(empty_RK, FLOOR)
    rest_R = 1 - logprobs_RK.double().exp().sum(1)
    rest_R = rest_R.clamp_(min=TINY).log_().float()
    if tail_R is not None:
        rest_R = torch.where(cut_R, rest_R, tail_R.float())
    return torch.cat([logprobs_RK, rest_R[:, None]], 1).clamp_(min=FLOOR)


def top_k_(
    student_RV: Tensor,
    ids_RK: Tensor,
    logprobs_RK: Tensor,
    tail_R: Tensor | None,
    kernel: Kernel,
) -> Tensor:
    """Apply a dense kernel to K tokens and a tail; ids outside the vocabulary are empty slots."""
    cut_RK = ids_RK >= student_RV.shape[1]
    empty_RK = (ids_RK < 0) | cut_RK
    buckets_p = with_tail(logprobs_RK, empty_RK, tail_R, cut_RK.any(1))
    # An empty slot points at the first given token: it reads what is masked and adds 0.
    first_R1 = ids_RK.gather(1, (~empty_RK).to(torch.uint8).argmax(1, keepdim=True))
    first_R1 = first_R1.clamp(0, student_RV.shape[1] - 1)
    ids_RK = torch.where(empty_RK, first_R1, ids_RK)
    return _buckets_(student_RV, ids_RK, empty_RK, buckets_p, kernel)


def shared_(
    student_RV: Tensor,
    student_ids_K: Tensor,
    teacher_RU: Tensor,
    teacher_ids_K: Tensor,
    kernel: Kernel,
) -> Tensor:
    """Apply a dense kernel to the tokens that two vocabularies share, and a tail on each side."""
    picked_RK = teacher_RU.index_select(1, teacher_ids_K)
    normalizer_R1 = softmax_(teacher_RU, teacher_RU)
    tail_R1 = teacher_RU.index_fill_(1, teacher_ids_K, 0).sum(1, keepdim=True)
    buckets_p = torch.cat([picked_RK - normalizer_R1, tail_R1.clamp_(min=TINY).log_()], 1)
    ids_RK = student_ids_K.expand(len(student_RV), -1)
    return _buckets_(student_RV, ids_RK, None, buckets_p, kernel)


def _buckets_(
    student_RV: Tensor,
    ids_RK: Tensor,
    empty_RK: Tensor | None,
    buckets_p: Tensor,
    kernel: Kernel,
) -> Tensor:
    picked_RK = student_RV.gather(1, ids_RK)
    normalizer_R1 = softmax_(student_RV, student_RV)
    given_RK = picked_RK - normalizer_R1
    if empty_RK is not None:
        given_RK.masked_fill_(empty_RK, FLOOR)
    tail_R1 = student_RV.scatter_(1, ids_RK, 0.0).sum(1, keepdim=True).clamp_(min=TINY)
    buckets_q = torch.cat([given_RK, tail_R1.log()], 1)
    loss_R = kernel(buckets_q, buckets_p, Scratch())
    student_RV.mul_(buckets_q[:, -1:] / tail_R1)
    student_RV.scatter_add_(1, ids_RK, buckets_q[:, :-1])
    return loss_R


def sampled_(
    student_RV: Tensor, ids_RS: Tensor, weights_RS: Tensor, logprobs_RS: Tensor | None
) -> Tensor:
    """Estimate the forward KL from drawn tokens: sum of w (log p - log q) over them."""
    weights_RS = weights_RS.float()
    picked_RS = student_RV.gather(1, ids_RS)
    log_q_RS = picked_RS - softmax_(student_RV, student_RV)
    student_RV.mul_(weights_RS.sum(1, keepdim=True))
    student_RV.scatter_add_(1, ids_RS, -weights_RS)
    gap_RS = -log_q_RS if logprobs_RS is None else logprobs_RS.float() - log_q_RS
    return gap_RS.mul_(weights_RS).sum(1)
