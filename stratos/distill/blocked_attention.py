"""Causal attention of short documents in bfloat16 on a CPU, by batched matrix products.

PyTorch's flash attention for CPUs is made for float32: its backward pass in bfloat16 takes as long
there, on machines that multiply bfloat16 several times as fast. Here the queries are taken in
blocks: each multiplies with the keys up to its own end, so that about half of the products above
the diagonal are never made. Scores and their softmax are float32; the probabilities are kept in
bfloat16 for the backward pass, which takes T² / 2 numbers a head. So it is for documents up to
`LONGEST`.

Both passes are operators of their own, which `torch.compile` calls and does not look into: a loop
over blocks would be another graph for each length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

LONGEST = 1024
"""Tokens of a document from which on flash attention is faster, or memory matters."""
_BLOCK = 64
"""Queries of a block: fastest of 16 to 128 at documents of 64 to 1,000 tokens."""


def multiplies_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware; elsewhere it is only emulated."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


_IN_HARDWARE = multiplies_bfloat16()


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
    apart = (one.reshape(-1, *one.shape[-2:]) for one in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    out_MTD, _ = _forward(*apart, scale)
    return out_MTD.view(query.shape)


def _blocks(kept: Tensor, n: int, length: int) -> Iterator[tuple[int, int, Tensor]]:
    """Return first and end of each block of queries, and its part of `kept`, (n, queries, end)."""
    offset = 0
    for i, first in enumerate(range(0, length, _BLOCK)):
        end = min(first + _BLOCK, length)
        size = n * (end - first) * end
        yield first, end, kept[offset : offset + size].view(n, end - first, end)
        offset += n * _BLOCK * _BLOCK * (i + 1)


def _kept(query_MTD: Tensor) -> Tensor:
    """Make room for the probabilities of all blocks, as if the last were a whole one."""
    n_blocks = (query_MTD.shape[1] + _BLOCK - 1) // _BLOCK
    return query_MTD.new_empty(
        query_MTD.shape[0] * _BLOCK * _BLOCK * (n_blocks * (n_blocks + 1) // 2)
    )


@torch.library.custom_op("stratos::blocked_attention", mutates_args=())
def _forward(
    query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return what is attended to, (M, T, D), and the probabilities of all blocks."""
    n, length, _ = query_MTD.shape
    out_MTD, kept = torch.empty_like(query_MTD), _kept(query_MTD)
    above = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool).triu(1)
    with torch.autocast("cpu", enabled=False):
        wide_MTD, wide_MDT = query_MTD.float().mul_(scale), key_MTD.float().transpose(1, 2)
        for first, end, p_MQK in _blocks(kept, n, length):
            scores_MQK = torch.bmm(wide_MTD[:, first:end], wide_MDT[:, :, :end])
            rows = end - first
            scores_MQK[:, :, first:].masked_fill_(above[:rows, :rows], -torch.inf)
            p_MQK.copy_(torch.softmax(scores_MQK, -1))
            out_MTD[:, first:end] = torch.bmm(p_MQK, value_MTD[:, :end])
    return out_MTD, kept


@torch.library.custom_op("stratos::blocked_attention_backward", mutates_args=())
def _backward(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    kept: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value."""
    n, length, _ = query_MTD.shape
    grad_query_MTD = torch.empty_like(query_MTD)
    grad_key_MTD = torch.zeros_like(key_MTD, dtype=torch.float32)
    grad_value_MTD = torch.zeros_like(value_MTD, dtype=torch.float32)
    with torch.autocast("cpu", enabled=False):
        for first, end, p_MQK in _blocks(kept, n, length):
            of_block = grad_MTD[:, first:end].contiguous()
            grad_value_MTD[:, :end] += torch.bmm(p_MQK.transpose(1, 2), of_block)
            grad_MQK = torch.bmm(of_block, value_MTD[:, :end].transpose(1, 2)).float()
            grad_MQK.mul_(wide_MQK := p_MQK.float())
            grad_MQK.addcmul_(wide_MQK, grad_MQK.sum(-1, keepdim=True), value=-1)
            scores_MQK = grad_MQK.to(p_MQK.dtype)
            grad_query_MTD[:, first:end] = torch.bmm(scores_MQK, key_MTD[:, :end])
            grad_key_MTD[:, :end] += torch.bmm(scores_MQK.transpose(1, 2), query_MTD[:, first:end])
        grad_key = grad_key_MTD.mul_(scale).to(key_MTD.dtype)
    return grad_query_MTD.mul_(scale), grad_key, grad_value_MTD.to(value_MTD.dtype)


@_forward.register_fake
def _(query_MTD: Tensor, key_MTD: Tensor, value_MTD: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query_MTD), _kept(query_MTD)


@_backward.register_fake
def _(
    grad_MTD: Tensor,
    query_MTD: Tensor,
    key_MTD: Tensor,
    value_MTD: Tensor,
    kept: Tensor,
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
