"""Attention of short documents on a CPU: alone in bfloat16, or behind a beginning that they share.

`attend` takes the queries of a document in blocks. PyTorch's flash attention for CPUs is made for
float32: its backward pass in bfloat16 takes as long there, on machines that multiply bfloat16
several times as fast. Here each block multiplies with the keys up to its own end, so that half of
the products above the diagonal are never made. Scores and their softmax are float32; the
probabilities are kept in bfloat16 for the backward pass, which takes T² / 2 numbers a head. So it
is for documents up to `LONGEST`. Both passes are operators of their own, which `torch.compile`
calls and does not look into: a loop over blocks would be another graph for each length.

With `attend_behind` each query sees the beginning, which is the same for all of them and takes one
call, and causally its own document. The two results are one softmax: they are added in proportion
to what they sum up to. Each backward pass is given what was read in all and the logarithm of the
whole sum, so that it works with the probabilities of the whole softmax (Liu et al., "Ring
Attention", 2023). Nothing as large as queries times keys is kept.

M heads and documents together, heads first; G heads of keys; T places of a document, n of the
beginning, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stratos.core.machine import multiplies_bf16

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

_MOST_SCORES = 2**22
"""Scores of short documents up to which their backward pass is made by products in bfloat16, for
which torch's own takes six times as long: 16 MiB."""

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def fits(states: Tensor) -> bool:
    """Return whether it is for documents of these states."""
    return states.device.type == "cpu" and states.dtype in (torch.float32, torch.bfloat16)


def forward_behind(
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


def backward_behind(
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
    # In float32 (0.7 to 1.2 times the time): torch sums over queries in the type of its inputs,
    # and those over many documents would lose what each of them adds.
    grad, queries, out = (
        tensor.reshape(1, n_heads, -1, width).float() for tensor in (grad_MTD, query_MTD, out_MTD)
    )
    before = (states[None].float() for states in (before_key_GnD, before_value_GnD))
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
        out_MTD, sum_MT = forward_behind(query, key, value, before[0], before[1], scale)
        ctx.save_for_backward(*states, out_MTD, sum_MT)
        ctx.scale = scale
        return out_MTD

    @staticmethod
    def backward(ctx: Any, grad_MTD: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *before, out, sums = ctx.saved_tensors
        states = (query, key, value, before[0], before[1], out, sums)
        return None, *backward_behind(grad_MTD.contiguous(), *states, ctx.scale)


def attend_behind(
    query: Tensor, key: Tensor, value: Tensor, before: tuple[Tensor, Tensor], scale: float | None
) -> Tensor:
    """Attend to a beginning, (1, H, n, D), and causally; all else is (B, H, T, D)."""
    n_documents, n_heads, length, width = query.shape
    scale = width**-0.5 if scale is None else scale
    states = (tensor.transpose(0, 1).reshape(-1, length, width) for tensor in (query, key, value))
    out_MTD: Tensor = _Attend.apply(scale, *states, before[0][0], before[1][0])
    return out_MTD.view(n_heads, n_documents, length, width).transpose(0, 1)


LONGEST = 1024
"""Tokens of a document from which on flash attention is faster, or memory matters."""
_BLOCK = 64
"""Queries of a block: fastest of 16 to 128 at documents of 64 to 1,000 tokens."""

_CACHED = 2**18
"""Scores that are worked on at once, 1 MiB: all of them, for a whole row, leave the caches."""
_IN_HARDWARE = multiplies_bf16()
"""Asked here, once: `torch.compile` traces `pays`."""


def pays(states: Tensor) -> bool:
    """Return whether documents of these states, (…, T, D), gain from it."""
    return (
        _IN_HARDWARE
        and states.device.type == "cpu"
        and states.dtype == torch.bfloat16
        and states.shape[-2] <= LONGEST
    )


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """Attend causally; all are (B, H, T, D) in bfloat16 on a CPU, and so is what is returned."""
    apart = (tensor.reshape(-1, *tensor.shape[-2:]) for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    out_MTD, _ = _forward(*apart, scale)
    return out_MTD.view(query.shape)


def _blocks(softmax: Tensor, n: int, length: int) -> Iterator[tuple[int, int, Tensor]]:
    """Return first and end of each block of queries, and its part of `softmax`."""
    offset = 0
    for i, first in enumerate(range(0, length, _BLOCK)):
        end = min(first + _BLOCK, length)
        size = n * (end - first) * end
        yield first, end, softmax[offset : offset + size].view(n, end - first, end)
        offset += n * _BLOCK * _BLOCK * (i + 1)


def _kept(query_MTD: Tensor) -> Tensor:
    """Make room for the probabilities of all blocks, as if the last were a whole one."""
    n_blocks = (query_MTD.shape[1] + _BLOCK - 1) // _BLOCK
    return query_MTD.new_empty(
        query_MTD.shape[0] * _BLOCK * _BLOCK * (n_blocks * (n_blocks + 1) // 2)
    )


def _chunks(n: int, several: int) -> Iterator[tuple[int, int]]:
    """Yield first and end of heads and documents that are worked on at once.

    So many of them as the caches hold, and powers of two: kernels are compiled for each new number.
    """
    low, size = 0, 1 << several.bit_length() - 1
    while low < n:
        while size > n - low:
            size //= 2
        yield low, low + size
        low += size


def forward(query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is attended to, (M, T, D), and the probabilities of all blocks.

    Queries and keys are float32 and scaled; what is returned is of the values' type.
    """
    n, length, _ = value_MTD.shape
    out_MTD, saved = torch.empty_like(value_MTD), _kept(value_MTD)
    above = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool).triu(1)
    several = max(1, _CACHED // (_BLOCK * length))
    scores, softmax = query_MTD.new_empty(2, several * _BLOCK * length).unbind()
    blocks = list(_blocks(saved, n, length))
    for low, high in _chunks(n, several):
        key_MDT, some_MTD = key_MTD[low:high].transpose(1, 2), value_MTD[low:high]
        for first, end, p_MQK in blocks:
            p_MQK = p_MQK[low:high]
            size, rows = p_MQK.numel(), end - first
            scores_MQK, softmax_MQK = (
                buffer[:size].view(p_MQK.shape) for buffer in (scores, softmax)
            )
            torch.bmm(query_MTD[low:high, first:end], key_MDT[:, :, :end], out=scores_MQK)
            scores_MQK[:, :, first:].masked_fill_(above[:rows, :rows], -torch.inf)
            torch.softmax(scores_MQK, -1, out=softmax_MQK)
            p_MQK.copy_(softmax_MQK)
            out_MTD[low:high, first:end] = torch.bmm(p_MQK, some_MTD[:, :end])
    return out_MTD, saved


def backward(
    grad_MTD: Tensor, query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor, saved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value in float32; all that is given is of one type."""
    n, length, _ = query_MTD.shape
    grad_query_MTD = torch.empty_like(query_MTD, dtype=torch.float32)
    grad_key_MTD = torch.zeros_like(key_MTD, dtype=torch.float32)
    grad_value_MTD = torch.zeros_like(value_MTD, dtype=torch.float32)
    several = max(1, _CACHED // (_BLOCK * length))
    half = query_MTD.new_empty(several * _BLOCK * length)
    wide, widest = half.new_empty((2, half.numel()), dtype=torch.float32).unbind()
    blocks = list(_blocks(saved, n, length))
    for low, high in _chunks(n, several):
        query, key, value, grad = (
            tensor[low:high] for tensor in (query_MTD, key_MTD, value_MTD, grad_MTD)
        )
        for first, end, p_MQK in blocks:
            p_MQK = p_MQK[low:high]
            half_MQK, wide_MQK, grad_MQK = (
                tensor[: p_MQK.numel()].view(p_MQK.shape) for tensor in (half, wide, widest)
            )
            of_block = grad[:, first:end].contiguous()
            grad_value_MTD[low:high, :end] += torch.bmm(p_MQK.transpose(1, 2), of_block)
            torch.bmm(of_block, value[:, :end].transpose(1, 2), out=half_MQK)
            wide_MQK.copy_(p_MQK)
            grad_MQK.copy_(half_MQK).mul_(wide_MQK)
            grad_MQK.addcmul_(wide_MQK, grad_MQK.sum(-1, keepdim=True), value=-1)
            half_MQK.copy_(grad_MQK)
            grad_query_MTD[low:high, first:end] = torch.bmm(half_MQK, key[:, :end])
            grad_key_MTD[low:high, :end] += torch.bmm(half_MQK.transpose(1, 2), query[:, first:end])
    return grad_query_MTD, grad_key_MTD, grad_value_MTD


@torch.library.custom_op("stratos::blocked_attention", mutates_args=())
def _forward(
    query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return what is attended to, (M, T, D), and the probabilities of all blocks."""
    with torch.autocast("cpu", enabled=False):
        return forward(query_MTD.float().mul_(scale), key_MTD.float(), value_MTD)


@torch.library.custom_op("stratos::blocked_attention_backward", mutates_args=())
def _backward(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    saved: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value."""
    with torch.autocast("cpu", enabled=False):
        *both, grad_value = backward(grad_MTD, query_MTD, key_MTD, value_MTD, saved)
        grad_query, grad_key = (grad.mul_(scale).to(query_MTD.dtype) for grad in both)
    return grad_query, grad_key, grad_value.to(value_MTD.dtype)


@_forward.register_fake
def _(query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query_MTD), _kept(query_MTD)


@_backward.register_fake
def _(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    saved: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query_MTD), torch.empty_like(key_MTD), torch.empty_like(value_MTD)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *states, scale = inputs
    ctx.save_for_backward(*states, output[1])
    ctx.scale = scale
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_MTD: Tensor, _kept: None) -> tuple[Tensor | None, ...]:
    return *_backward(grad_MTD.contiguous(), *ctx.saved_tensors, ctx.scale), None


_forward.register_autograd(_gradients, setup_context=_keep)
