"""Attention of documents behind a beginning that they share, on a CPU.

Each query sees the beginning, which is the same for all of them and takes one call, and causally
its own document. The two results are one softmax: they are added in proportion to what they sum up
to. Each backward pass is given what was read in all and the logarithm of the whole sum, so that it
works with the probabilities of the whole softmax (Liu et al., "Ring Attention", 2023). Nothing as
large as queries times keys is kept. M heads and documents together, heads first; G heads of keys;
T places of a document, n of the beginning, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

_MOST_SCORES = 2**22
"""Scores of short documents up to which their backward pass is made by products in bfloat16, for
which torch's own takes six times as long: 16 MiB."""

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def fits(states: Tensor) -> bool:
    """Return whether it is for documents of these states."""
    return states.device.type == "cpu" and states.dtype in (torch.float32, torch.bfloat16)


def forward(
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    before_key_GnD: Tensor,
    before_value_GnD: Tensor,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return what is attended to, (M, T, D), and the logarithm of each query's sum, (M, T)."""
    n_heads, _, width = before_key_GnD.shape
    own_1MTD, own_1MT = _flash(
        *(states[None] for states in (query_MTD, key_MTD, value_MTD)), is_causal=True, scale=scale
    )
    before_1GXD, before_1GX = _flash(
        *(query_MTD.reshape(1, n_heads, -1, width), before_key_GnD[None], before_value_GnD[None]),
        scale=scale,
    )
    own_MT, before_MT = own_1MT[0], before_1GX.reshape(own_1MT[0].shape)
    sum_MT = torch.logaddexp(own_MT, before_MT)
    out_MTD = own_1MTD[0] * (own_MT - sum_MT).exp_()[..., None]
    before_MTD = before_1GXD.reshape(out_MTD.shape)
    out_MTD = out_MTD.addcmul_(before_MTD, (before_MT - sum_MT).exp_()[..., None])
    return out_MTD.to(value_MTD.dtype), sum_MT


def backward(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    before_key_GnD: Tensor,
    before_value_GnD: Tensor,
    out_MTD: Tensor,
    sum_MT: Tensor,
    scale: float = 1.0,
) -> Gradients:
    """Return the gradients of query, key, value, and of the beginning's keys and values."""
    n_heads, _, width = before_key_GnD.shape
    saved = (grad_MTD, query_MTD, key_MTD, value_MTD, out_MTD, sum_MT)
    n_scores = len(query_MTD) * query_MTD.shape[1] ** 2
    if query_MTD.dtype == torch.bfloat16 and n_scores <= _MOST_SCORES:
        query_MTD_grad, key, value = _by_products(*saved, scale)
    else:
        states = (tensor[None] for tensor in saved)
        grads = _flash_backward(*states, 0.0, True, scale=scale)
        query_MTD_grad, key, value = (of_states[0] for of_states in grads)
    grad, queries, out = (
        tensor.reshape(1, n_heads, -1, width) for tensor in (grad_MTD, query_MTD, out_MTD)
    )
    before = before_key_GnD[None], before_value_GnD[None]
    sums = sum_MT.reshape(1, n_heads, -1)
    seen, *of_before = _flash_backward(grad, queries, *before, out, sums, 0.0, False, scale=scale)
    query_MTD_grad = query_MTD_grad + seen.reshape(query_MTD.shape)
    return query_MTD_grad, key, value, of_before[0][0], of_before[1][0]


def _by_products(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    out_MTD: Tensor,
    sum_MT: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value of the documents by themselves."""
    length = query_MTD.shape[1]
    hidden_TT = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores_MTT = torch.bmm(query_MTD.float().mul_(scale), key_MTD.float().mT)
    share_MTT = scores_MTT.sub_(sum_MT[..., None]).masked_fill_(hidden_TT, -torch.inf).exp_()
    along_MT1 = (grad_MTD.float() * out_MTD).sum(-1, keepdim=True)
    change_MTT = torch.bmm(grad_MTD, value_MTD.mT).float().sub_(along_MT1).mul_(share_MTT)
    change_MTT = change_MTT.mul_(scale).to(query_MTD.dtype)
    value = torch.bmm(share_MTT.to(query_MTD.dtype).mT, grad_MTD)
    return torch.bmm(change_MTT, key_MTD), torch.bmm(change_MTT.mT, query_MTD), value


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scale: float, *states: Tensor) -> Tensor:
        query, key, value, *before = states
        out_MTD, sum_MT = forward(query, key, value, before[0], before[1], scale)
        ctx.save_for_backward(*states, out_MTD, sum_MT)
        ctx.scale = scale
        return out_MTD

    @staticmethod
    def backward(ctx: Any, grad_MTD: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *before, out, sums = ctx.saved_tensors
        states = (query, key, value, before[0], before[1], out, sums)
        return None, *backward(grad_MTD.contiguous(), *states, ctx.scale)


def attend(
    query: Tensor, key: Tensor, value: Tensor, before: tuple[Tensor, Tensor], scale: float | None
) -> Tensor:
    """Attend to a beginning, (1, H, n, D), and causally; all else is (B, H, T, D)."""
    n_documents, n_heads, length, width = query.shape
    scale = width**-0.5 if scale is None else scale
    states = (tensor.transpose(0, 1).reshape(-1, length, width) for tensor in (query, key, value))
    out_MTD: Tensor = _Attend.apply(scale, *states, before[0][0], before[1][0])
    return out_MTD.view(n_heads, n_documents, length, width).transpose(0, 1)
