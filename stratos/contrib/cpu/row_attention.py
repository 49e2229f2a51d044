"""Attention of a packed row's documents, from the product of queries, keys and values on.

The padded batches of documents lie one behind the other in one buffer, within each the heads first:
one gather takes the heads of a row there, and another one back. Dimensions: N tokens of the row, C
heads of queries, keys and values together, H of queries, D width of a head, B documents of T places
in a padded batch, M heads and documents together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from stratos.contrib.cpu import beginning_attention, blocked_attention
from stratos.distill.packed import Documents

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Heads:
    """The heads of a block."""

    queries: int
    keys: int
    """As many as there are of values."""
    width: int
    scale: float
    """Of the scores."""

    @property
    def all(self) -> int:
        """Return the number of queries, keys and values."""
        return self.queries + 2 * self.keys


@dataclass(frozen=True)
class SavedRows:
    """What the backward pass needs of one padded batch."""

    start: int
    length: int
    tensors: tuple[Tensor, ...]


def forward(
    heads_NX: Tensor, turns_TD: Tensor, documents: Documents, heads: Heads
) -> tuple[Tensor, list[SavedRows]]:
    """Rotate queries and keys by their positions, and attend causally within each document.

    Args:
        heads_NX: (N, C * D); of queries and keys, the two numbers that are rotated together lie
            side by side.
        turns_TD: (T, D / 2), complex; of each position.
        documents: of the row.
        heads: their numbers and width.

    Returns:
        (N, H * D), and what `backward` needs.
    """
    n, width = len(heads_NX), heads.width
    flat = heads_NX.view(-1, width).index_select(0, documents.gather_index(heads.all))
    outs, saved, start = [], list[SavedRows](), 0
    for gather_BT, beginning in zip(documents.gathers_BT, documents.beginnings, strict=True):
        size, length = gather_BT.numel(), gather_BT.shape[1]
        turns = turns_TD[_positions(beginning, length)]
        states = flat[heads.all * start : heads.all * (start + size)]
        turned, value = states.split(((heads.queries + heads.keys) * size, heads.keys * size))
        wide = turned.to(torch.float32, copy=True)
        query, key = wide.split((heads.queries * size, heads.keys * size))
        _turn_(query, turns * heads.scale)
        _turn_(key, turns)
        query_MTD, key_MTD, value_MTD = (
            tensor.view(-1, length, width)
            for tensor in (query, _repeated(key, heads), _repeated(value, heads))
        )
        half = query_MTD.to(value.dtype), key_MTD.to(value.dtype), value_MTD
        if beginning is not None:
            before = _before(saved, beginning, heads)
            out_MTD, sum_MT = beginning_attention.forward(*half, *before)
            tensors: tuple[Tensor, ...] = (*half, out_MTD, sum_MT)
        elif blocked_attention.pays(value_MTD):
            out_MTD, saved_of_rows = blocked_attention.forward(query_MTD, key_MTD, value_MTD)
            tensors = (*half, saved_of_rows)
        else:
            out_1MTD, saved_of_rows = _flash(
                *(tensor[None] for tensor in half), is_causal=True, scale=1.0
            )
            out_MTD = out_1MTD[0]
            tensors = (*half, out_MTD, saved_of_rows)
        outs.append(out_MTD.reshape(-1, width))
        saved.append(SavedRows(start, length, tensors))
        start += size
    out = torch.cat(outs) if len(outs) > 1 else outs[0]
    return out.index_select(0, documents.scatter_index(heads.queries)).view(n, -1), saved


def backward(
    grad_NX: Tensor, turns_TD: Tensor, documents: Documents, heads: Heads, saved: list[SavedRows]
) -> Tensor:
    """Return the gradient of `heads_NX`, given that of what was attended to."""
    n, width = len(grad_NX), heads.width
    flat = grad_NX.view(-1, width).index_select(0, documents.gather_index(heads.queries))
    grads: list[Tensor] = []
    of_beginnings: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    batches = zip(saved, documents.gathers_BT, documents.padding, documents.beginnings, strict=True)
    for index, (part, gather_BT, padding, beginning) in reversed([*enumerate(batches)]):
        size, length = gather_BT.numel(), part.length
        grad = flat[heads.queries * part.start : heads.queries * (part.start + size)]
        if len(padding):  # no token reads there
            grad.view(heads.queries, size, width).index_fill_(1, padding, 0.0)
        grad_MTD = grad.view(-1, length, width)
        if beginning is not None:
            query, key, value, out, sums = part.tensors
            states = (query, key, value, *_before(saved, beginning, heads), out, sums)
            grads_of = beginning_attention.backward(grad_MTD, *states)
            of_rows, of_beginning = grads_of[:3], grads_of[3:]
            of_beginnings[beginning[0]].append(of_beginning)
        elif len(part.tensors) == 4:
            of_rows = blocked_attention.backward(grad_MTD, *part.tensors)
        else:
            *inputs, out, summed = part.tensors
            given = (each[None] for each in (grad_MTD, *inputs, out))
            of_rows = _flash_backward(*given, summed, 0.0, True, scale=1.0)
        query, key, value = (each.reshape(-1, width).float() for each in of_rows)
        key, value = _summed(key, heads), _summed(value, heads)
        for of_documents in of_beginnings[index]:
            for grad, more in zip((key, value), of_documents, strict=True):
                grad.view(heads.keys, length, width)[:, : more.shape[1]] += more
        turns = turns_TD[_positions(beginning, length)].conj().resolve_conj()
        _turn_(query, turns * heads.scale)
        _turn_(key, turns)
        grads = [*(each.to(grad_NX.dtype) for each in (query, key, value)), *grads]
    flat = torch.cat(grads)
    grad = flat.index_select(0, documents.scatter_index(heads.all)).view(n, -1)
    grad[n - documents.n_behind :] = 0.0
    return grad


def _positions(beginning: tuple[int, int] | None, length: int) -> slice:
    """Return the positions of a padded batch's places."""
    first = 0 if beginning is None else beginning[1]
    return slice(first, first + length)


def _before(
    saved: list[SavedRows], beginning: tuple[int, int], heads: Heads
) -> tuple[Tensor, Tensor]:
    """Return the keys and values of a beginning, each once, (G, n, D)."""
    batch, n = beginning
    times = heads.queries // heads.keys
    key_GTD, value_GTD = (states[::times, :n] for states in saved[batch].tensors[1:3])
    return key_GTD, value_GTD


def _turn_(states: Tensor, turns_TD: Tensor) -> None:
    """Rotate states, (… * T, D), in place."""
    length, half = turns_TD.shape
    torch.view_as_complex(states.view(-1, length, half, 2)).mul_(turns_TD)


def _repeated(states: Tensor, heads: Heads) -> Tensor:
    """Return keys or values once for each head of queries."""
    times = heads.queries // heads.keys
    if times == 1:
        return states
    return states.view(heads.keys, 1, -1).expand(-1, times, -1).reshape(-1, heads.width)


def _summed(grads: Tensor, heads: Heads) -> Tensor:
    """Return the gradients of keys or values, given those once for each head of queries."""
    times = heads.queries // heads.keys
    if times == 1:
        return grads
    return grads.view(heads.keys, times, -1).sum(1).view(-1, heads.width)
