"""Objectives as functions of logits: differentiable, masked, normalised by the caller's count.

All take the student's logits (..., V) in any floating type, reduce in float32, drop the places
where `mask` (...) is false before anything is computed, and return a scalar: the sum over the
places that are left, divided by `n_tokens`. Give the count of the whole accumulated batch (of all
micro-batches, and of all processes), so that every token weighs the same however batches are cut;
without it the places of this call are counted. No place at all gives 0 with a gradient of 0.

Where the logits would not fit in memory take `stratos.distill.head.head_loss`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stratos.distill.kernels import Scratch, block_rows
from stratos.distill.objectives import (
    Dense,
    Hidden,
    Objective,
    Sampled,
    Signal,
    TopK,
    dense_side,
)


def logits_loss(
    student: Tensor,
    signal: Signal | None,
    objective: Objective,
    n_tokens: int | None = None,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    block: int | None = None,
) -> Tensor:
    """Return the objective of logits that are there already.

    Args:
        student: logits (..., V).
        signal: Dense logits of M = all places, before masking, in the same order; or a sparse
            signal of M places. Dense logits of another width are cut to the part that is shared.
        objective: what to compute.
        n_tokens: count to divide by; None for the places of this call.
        mask: (...), true where a place counts.
        targets: (...), the text's next tokens, for cross-entropy.
        block: places that are computed at once; the result does not depend on it.

    Raises:
        ConfigError: the signal does not go with the objective.
    """
    objective.check_signal(signal)
    flat_NV = student.reshape(-1, student.shape[-1])
    rows_M = None if mask is None else mask.reshape(-1).nonzero()[:, 0]
    flat_targets = None if targets is None else targets.reshape(-1)
    count = n_tokens if n_tokens is not None else len(flat_NV if rows_M is None else rows_M)
    return _LogitsLoss.apply(flat_NV, signal, objective, count, rows_M, flat_targets, block)


class _LogitsLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_NV: Tensor,
        signal: Signal | None,
        objective: Objective,
        n_tokens: int,
        rows_M: Tensor | None,
        targets_N: Tensor | None,
        block: int | None,
    ) -> Tensor:
        given = dense_side(signal)
        assert not isinstance(given, Hidden), "hidden states need a head: stratos.distill.head"
        teacher_NU = None if given is None else given.logits_MV.flatten(0, -2)
        n_student, n_teacher = objective.widths(
            student_NV.shape[1], signal, 0 if teacher_NU is None else teacher_NU.shape[1]
        )
        if rows_M is None:
            rows_M = torch.arange(len(student_NV), device=student_NV.device)
        gradient_NV = torch.zeros_like(student_NV)
        total = torch.zeros((), dtype=torch.float32, device=student_NV.device)
        step, scratch = block or block_rows(n_student, student_NV.device), Scratch()
        for rows in rows_M.split(step) if len(rows_M) else ():
            student_RV = student_NV[rows, :n_student].float()
            divergence_R, entropy_R = objective.block_(
                student_RV,
                None if teacher_NU is None else teacher_NU[rows, :n_teacher].float(),
                signal,
                rows,
                None if targets_N is None else targets_N[rows],
                scratch,
            )
            total += objective.weigh(divergence_R.sum(), entropy_R.sum())
            gradient_NV[rows, :n_student] = student_RV.to(gradient_NV.dtype)
        ctx.gradient, ctx.n_tokens = gradient_NV, max(1, n_tokens)
        return total / ctx.n_tokens

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient * (grad / ctx.n_tokens).to(ctx.gradient.dtype), *[None] * 6


def cross_entropy(
    student: Tensor, targets: Tensor, n_tokens: int | None = None, mask: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of targets (...) under student logits (..., V)."""
    objective = Objective(cross_entropy=1.0)
    return logits_loss(student, None, objective, n_tokens, mask, targets)


def divergence(
    name: str,
    student: Tensor,
    teacher: Tensor,
    n_tokens: int | None = None,
    mask: Tensor | None = None,
    **settings: float,
) -> Tensor:
    """Return a divergence of logits (..., V) and (..., U), with settings of its objective."""
    return logits_loss(student, Dense(teacher), Objective(name, **settings), n_tokens, mask)


def top_k(
    student: Tensor,
    signal: TopK,
    n_tokens: int | None = None,
    mask: Tensor | None = None,
    objective: Objective | None = None,
) -> Tensor:
    """Return a divergence (forward KL by default) over K given tokens and a tail bucket."""
    return logits_loss(student, signal, objective or Objective(), n_tokens, mask)


def sampled(
    student: Tensor,
    signal: Sampled,
    n_tokens: int | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return the estimate of the forward KL from tokens drawn from the teacher."""
    objective = Objective(temperature=temperature)
    return logits_loss(student, signal, objective, n_tokens, mask)
