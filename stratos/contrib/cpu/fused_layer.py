"""A whole block of a Llama or a Qwen2 on a CPU: one forward and one hand-written backward pass.

Beside its products, transformers' block passes over the row dozens of times: numbers are widened
and narrowed around every norm and rotation, and autograd keeps what lies between. Here queries,
keys and values are one product, and so are gate and up projection; documents are gathered into
their padded batches once; and what the backward pass needs is chosen. Weights stay what and where
they are. Outputs and gradients are those of transformers' block up to the order of sums
(tests/distill/test_fused_layer.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.activations import SiLUActivation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM

from stratos.contrib.cpu import attention as attended
from stratos.distill import packed
from stratos.distill.packed import Beginning, Documents

# Attention of a packed row's documents, from the product of queries, keys and values on.
#
# The padded batches of documents lie one behind the other in one buffer, within each the heads
# first: one gather takes the heads of a row there, and another one back. Dimensions: N tokens of
# the row, C heads of queries, keys and values together, H of queries, D width of a head, B
# documents of T places in a padded batch, M heads and documents together.

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
        if beginning:
            before = _before(saved, beginning, heads)
            out_MTD, sum_MT = attended.forward_behind(*half, *before)
            tensors: tuple[Tensor, ...] = (*half, out_MTD, sum_MT)
        elif attended.pays(value_MTD):
            out_MTD, saved_of_rows = attended.forward(query_MTD, key_MTD, value_MTD)
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
    of_beginnings: dict[int, list[list[Tensor]]] = defaultdict(list)
    batches = zip(saved, documents.gathers_BT, documents.padding, documents.beginnings, strict=True)
    for index, (part, gather_BT, padding, beginning) in reversed([*enumerate(batches)]):
        size, length = gather_BT.numel(), part.length
        grad = flat[heads.queries * part.start : heads.queries * (part.start + size)]
        if len(padding):  # no token reads there
            grad.view(heads.queries, size, width).index_fill_(1, padding, 0.0)
        grad_MTD = grad.view(-1, length, width)
        if beginning:
            query, key, value, out, sums = part.tensors
            states = (query, key, value, *_before(saved, beginning, heads), out, sums)
            grads_of = attended.backward_behind(grad_MTD, *states)
            of_rows, pieces = grads_of[:3], [n for _, n in beginning]
            keys_and_values = (of_before.split(pieces, 1) for of_before in grads_of[3:])
            for (batch, _), *of_piece in zip(beginning, *keys_and_values, strict=True):
                of_beginnings[batch].append(of_piece)
        elif len(part.tensors) == 4:
            of_rows = attended.backward(grad_MTD, *part.tensors)
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


def _positions(beginning: Beginning, length: int) -> slice:
    """Return the positions of a padded batch's places."""
    first = sum(n for _, n in beginning)
    return slice(first, first + length)


def _before(saved: list[SavedRows], beginning: Beginning, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return the keys and values of a beginning, each once, (G, n, D)."""
    times = heads.queries // heads.keys
    keys, values = zip(
        *([states[::times, :n] for states in saved[batch].tensors[1:3]] for batch, n in beginning),
        strict=True,
    )
    return (keys[0], values[0]) if len(keys) == 1 else (torch.cat(keys, 1), torch.cat(values, 1))


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


IN_FLOAT32 = False
"""Whether blocks run fused in float32, too: a step of the embedded students takes 4 to 7% longer,
and in bfloat16, where the casts are saved, 12% less (CPU seconds in turns on an EPYC core)."""
_BLOCKS = {LlamaForCausalLM: LlamaDecoderLayer, Qwen2ForCausalLM: Qwen2DecoderLayer}


def fits(model: Any) -> bool:
    """Return whether every block of a model may run fused: a plain one, on a CPU.

    Weights in bfloat16 are those of a model that is read from, and not trained.
    """
    block = _BLOCKS.get(type(model))
    return block is not None and all(
        type(layer) is block and _is_plain(layer) for layer in model.model.layers
    )


def _is_plain(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    dtype = attention.q_proj.weight.dtype
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    unbiased = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return (
        all(type(module) is nn.Linear for module in (*projections, *unbiased))
        and all(module.bias is None for module in unbiased)
        and len({module.bias is None for module in projections}) == 1
        and all(
            type(weight.data) is Tensor and weight.dtype == dtype and weight.device.type == "cpu"
            for weight in layer.parameters()
        )
        and dtype in (torch.float32, torch.bfloat16)
        and not any(_is_hooked(module) for module in layer.modules() if module is not layer)
        and isinstance(mlp.act_fn, SiLUActivation | nn.SiLU)
        and attention.attention_dropout == 0
        and getattr(attention, "sliding_window", None) is None
    )


def _is_hooked(module: nn.Module) -> bool:
    """Return whether somebody is told when a module runs: inside a fused block none does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)


def fuse(model: Any, on: bool) -> None:
    """Let the blocks of a model run fused where it fits, or as their class says again.

    Modules, parameters and hooks stay; what calls the blocks has to give `documents`.
    """
    if type(model) not in _BLOCKS:
        return
    # Who has put another attention in the place of ours is to get it.
    is_ours = ALL_ATTENTION_FUNCTIONS.get(packed.NAME) is packed.packed_attention
    is_fused = on and is_ours and fits(model)
    for layer in model.model.layers:
        layer.__dict__.pop("forward", None)
        if is_fused:
            layer.forward = partial(_run, layer)


@dataclass(frozen=True)
class _Block:
    """What of a block is no tensor."""

    heads: Heads
    eps: tuple[float, float]
    documents: Documents
    dtype: torch.dtype
    """Of the products."""


def _run(
    layer: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    documents: Documents,
    **more: Any,
) -> Tensor:
    is_half = torch.is_autocast_enabled("cpu")
    weights_dtype = layer.self_attn.q_proj.weight.dtype
    is_read = weights_dtype != torch.float32
    if torch.is_grad_enabled() if is_read else not is_half and not IN_FLOAT32:
        as_it_came = partial(type(layer).forward, layer, hidden_states, **more)
        out: Tensor = as_it_came(position_embeddings=position_embeddings, documents=documents)
        return out
    attention, mlp = layer.self_attn, layer.mlp
    width = attention.head_dim
    keys = attention.k_proj.out_features // width
    heads = Heads(attention.q_proj.out_features // width, keys, width, attention.scaling)
    norms = layer.input_layernorm, layer.post_attention_layernorm
    dtype = weights_dtype if is_read or not is_half else torch.get_autocast_dtype("cpu")
    block = _Block(heads, (norms[0].variance_epsilon, norms[1].variance_epsilon), documents, dtype)
    weights = (
        norms[0].weight,
        attention.q_proj.weight,
        attention.k_proj.weight,
        attention.v_proj.weight,
        attention.q_proj.bias,
        attention.k_proj.bias,
        attention.v_proj.bias,
        attention.o_proj.weight,
        norms[1].weight,
        mlp.gate_proj.weight,
        mlp.up_proj.weight,
        mlp.down_proj.weight,
    )
    cos_ND, sin_ND = (embedding[0, :, : width // 2].float() for embedding in position_embeddings)
    turns_TD = torch.complex(cos_ND, sin_ND).index_select(0, documents.longest_T)
    given = (hidden_states[0], turns_TD, block, *weights)
    if is_read:
        return _read(*given)[None]
    if layer.gradient_checkpointing and layer.training and torch.is_grad_enabled():
        out = checkpoint(_Fused.apply, *given, use_reentrant=False)
    else:
        out = _Fused.apply(*given)
    return out[None]


def _paired(weight: Tensor, width: int) -> Tensor:
    """Return rows of a projection so that those of numbers rotated together are neighbours."""
    half = width // 2
    return weight.unflatten(0, (-1, 2, half)).transpose(1, 2)


def _unpaired(rows: Tensor, width: int) -> Tensor:
    half = width // 2
    return rows.unflatten(0, (-1, half, 2)).transpose(1, 2)


def _joined(parts: tuple[Tensor, ...], width: int, dtype: torch.dtype) -> Tensor:
    """Return weights or biases of queries, keys and values as those of one product."""
    query, key, value = parts
    n = sum(len(part) for part in parts)
    joined = query.new_empty((n, *query.shape[1:]), dtype=dtype)
    places = joined.split([len(part) for part in parts])
    for columns, part in zip(places[:2], (query, key), strict=True):
        paired = _paired(part, width)
        columns.view(paired.shape).copy_(paired)
    places[2].copy_(value)
    return joined


def _apart(joined: Tensor, parts: tuple[Tensor, ...], width: int) -> list[Tensor]:
    """Return the gradients of the parts of a product, in float32."""
    query, key, value = joined.split([len(part) for part in parts])
    grads = []
    for grad, part in ((query, parts[0]), (key, parts[1])):
        grads.append(_unpaired(grad, width).float().reshape(part.shape))
    return [*grads, value.float()]


def _norm(x_NH: Tensor, weight_H: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the root mean square norm in `dtype`, and the factor of each row."""
    length_N1 = torch.linalg.vector_norm(x_NH, dim=1, keepdim=True, dtype=torch.float32)
    mean_N1 = length_N1.square_().div_(x_NH.shape[1])
    factor_N1 = mean_N1.add_(eps).rsqrt_()
    return (x_NH * factor_N1).mul_(weight_H).to(dtype), factor_N1


def _norm_backward(
    grad_NH: Tensor, x_NH: Tensor, weight_H: Tensor, factor_N1: Tensor, rest_NH: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x, that of the residual stream added, and of the weight."""
    wide_NH = grad_NH.float()
    product_NH = wide_NH * x_NH
    grad_weight_H = factor_N1[:, 0] @ product_NH
    along_N1 = (product_NH @ weight_H)[:, None].mul_(factor_N1.square()).div_(x_NH.shape[1])
    if wide_NH is grad_NH:
        wide_NH = grad_NH * weight_H
    else:
        wide_NH.mul_(weight_H)
    wide_NH.addcmul_(x_NH, along_N1, value=-1)
    return torch.addcmul(rest_NH, wide_NH, factor_N1), grad_weight_H


def _read(x_NH: Tensor, turns_TD: Tensor, block: _Block, *weights: Any) -> Tensor:
    """Return what a block gives whose weights are of the products' type; nothing is kept."""
    norm1, query, key, value, *biases, out, norm2, gate, up, down = weights
    heads, dtype = block.heads, block.dtype
    with torch.autocast("cpu", enabled=False):
        qkv = _joined((query, key, value), heads.width, dtype)
        bias = None if biases[0] is None else _joined(tuple(biases), heads.width, dtype)
        heads_NX = F.linear(_norm(x_NH, norm1, block.eps[0], dtype)[0], qkv, bias)
        read_NX, _ = forward(heads_NX, turns_TD, block.documents, heads)
        x_NH = x_NH + F.linear(read_NX, out)
        seen_NH, _ = _norm(x_NH, norm2, block.eps[1], dtype)
        inner_NI = F.silu(F.linear(seen_NH, gate), inplace=True).mul_(F.linear(seen_NH, up))
        return x_NH.add_(F.linear(inner_NI, down))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NH: Tensor, turns_TD: Tensor, block: _Block, *weights: Any) -> Tensor:
        norm1, query, key, value, *biases, out, norm2, gate, up, down = weights
        heads, dtype = block.heads, block.dtype
        with torch.autocast("cpu", enabled=False):
            qkv = _joined((query, key, value), heads.width, dtype)
            bias = None if biases[0] is None else _joined(tuple(biases), heads.width, dtype)
            up2 = torch.empty(len(gate) + len(up), gate.shape[1], dtype=dtype)
            up2[: len(gate)].copy_(gate)
            up2[len(gate) :].copy_(up)
            out, down = out.to(dtype), down.to(dtype)

            seen_NH, factor1_N1 = _norm(x_NH, norm1, block.eps[0], dtype)
            heads_NX = F.linear(seen_NH, qkv, bias)
            read_NX, saved = forward(heads_NX, turns_TD, block.documents, heads)
            x2_NH = x_NH + F.linear(read_NX, out)
            seen2_NH, factor2_N1 = _norm(x2_NH, norm2, block.eps[1], dtype)
            both_NI = F.linear(seen2_NH, up2)
            gate_NI, up_NI = both_NI.split((len(gate), len(up)), 1)
            y_NH = x2_NH + F.linear(F.silu(gate_NI).mul_(up_NI), down)
        ctx.block = block
        ctx.kept = [(part.start, part.length, len(part.tensors)) for part in saved]
        ctx.save_for_backward(
            *(x_NH, turns_TD, norm1, query, key, value, norm2, gate, up, qkv, out, up2, down),
            *(seen_NH, factor1_N1, read_NX, x2_NH, seen2_NH, factor2_N1, both_NI),
            *(tensor for part in saved for tensor in part.tensors),
        )
        ctx.has_bias = bias is not None
        return y_NH

    @staticmethod
    def backward(ctx: Any, grad_NH: Tensor) -> tuple[Any, ...]:
        # Asked for once: a block that is computed twice is computed again by this.
        (x_NH, turns_TD, norm1, query, key, value, norm2, gate, up, qkv, out, up2, down, *more) = (
            ctx.saved_tensors
        )
        seen_NH, factor1_N1, read_NX, x2_NH, seen2_NH, factor2_N1, both_NI, *more = more
        saved = []
        for start, length, n in ctx.kept:
            saved.append(SavedRows(start, length, tuple(more[:n])))
            del more[:n]
        block: _Block = ctx.block
        heads, dtype = block.heads, block.dtype
        sizes = (len(gate), len(up))
        half_NH = grad_NH.to(dtype)
        gate_NI, up_NI = both_NI.split(sizes, 1)
        # Again: kept, it and its product are a quarter of what a block keeps of a token.
        act_NI = F.silu(gate_NI)
        grad_down = half_NH.T @ (act_NI * up_NI)
        grad_inner_NI = half_NH @ down
        grad_both_NI = torch.empty_like(both_NI)
        grad_gate_NI, grad_up_NI = grad_both_NI.split(sizes, 1)
        torch.mul(grad_inner_NI, act_NI, out=grad_up_NI)
        grad_inner_NI.mul_(up_NI)
        torch.ops.aten.silu_backward.grad_input(grad_inner_NI, gate_NI, grad_input=grad_gate_NI)
        grad_up2 = grad_both_NI.T @ seen2_NH
        grad_x2_NH, grad_norm2 = _norm_backward(
            grad_both_NI @ up2, x2_NH, norm2, factor2_N1, grad_NH
        )
        half_NH = grad_x2_NH.to(dtype)
        grad_out = half_NH.T @ read_NX
        grad_heads_NX = backward(half_NH @ out, turns_TD, block.documents, heads, saved)
        grad_qkv = grad_heads_NX.T @ seen_NH
        grad_x_NH, grad_norm1 = _norm_backward(
            grad_heads_NX @ qkv, x_NH, norm1, factor1_N1, grad_x2_NH
        )
        parts = (query, key, value)
        biases: list[Tensor | None] = [None, None, None]
        if ctx.has_bias:
            ends = [part.new_empty(len(part)) for part in parts]
            biases = [*_apart(grad_heads_NX.sum(0, dtype=torch.float32), tuple(ends), heads.width)]
        grad_gate, grad_up = grad_up2.float().split(sizes)
        return (
            *(grad_x_NH, None, None, grad_norm1),
            *(*_apart(grad_qkv, parts, heads.width), *biases, grad_out.float()),
            *(grad_norm2, grad_gate, grad_up, grad_down.float()),
        )
