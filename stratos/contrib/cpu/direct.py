"""The decode steps of a small Llama on a CPU, without the calls that its modules make.

A step of a student is little arithmetic and many calls: transformers takes ten times as long for
one row as the products themselves. Here the model reads the prompts, and its keys and values are
taken over; every further token is a dozen operations a layer on weights that were put together.

Every batch is checked: its second token is computed both ways, and where the logits are not the
same (but for rounding), transformers goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stratos.models.decode.decoder import Call, FastBatch, FastDecoder, fill_holes

MOST_PARAMETERS = 20_000_000
"""Larger models have their weights once: what calls cost is little beside their arithmetic."""
_SAME = 1e-3
"""Difference of two logits, as a part of the largest, that rounding alone does not make."""
_ROOM = 32
"""Tokens by which a full buffer grows: little more than is read, so that it stays in the cache."""
_ODD = 16
"""Keeps rows off multiples of large powers of two, which share few places of a CPU's cache."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a layer for rows from the left, (in, out), with its norms multiplied in."""

    to_qkv: Tensor
    from_heads: Tensor
    to_gate_up: Tensor
    down: Tensor


class Direct:
    """A model's weights as its decode steps read them: a copy, of the time when it was made."""

    def __init__(self, model: Any) -> None:
        """Put the weights of a model together.

        Args:
            model: one that `can_decode` takes.
        """
        config, body = model.config, model.model
        attention = body.layers[0].self_attn
        self.n_heads: int = config.num_attention_heads
        self.n_kv_heads: int = config.num_key_value_heads
        self.head_dim: int = attention.head_dim
        self.hidden_size: int = config.hidden_size
        self.width: int = config.intermediate_size
        self.embedding_VH = body.embed_tokens.weight.detach()
        self.layers = [self._layer(layer) for layer in body.layers]
        self.head_HV = _from_left(model.lm_head.weight, body.norm.weight)
        self.frequencies = body.rotary_emb.inv_freq.float()
        self.eps = torch.full((1,), config.rms_norm_eps)
        self.mean = torch.full((self.hidden_size, 1), 1 / self.hidden_size)

    @staticmethod
    def can_decode(model: Any) -> bool:
        """Return whether a model's steps are those of this module, as far as its config says."""
        from transformers import LlamaForCausalLM

        if type(model) is not LlamaForCausalLM or torch.is_autocast_enabled("cpu"):
            return False
        weights = list(model.parameters())
        config: Any = model.config
        return (
            all(weight.dtype is torch.float32 and weight.device.type == "cpu" for weight in weights)
            and sum(weight.numel() for weight in weights) <= MOST_PARAMETERS
            and config.hidden_act == "silu"
            and not (config.attention_bias or config.mlp_bias)
            and config.rope_parameters["rope_type"] == "default"
        )

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        queries = attention.q_proj.weight * attention.scaling
        qkv = [
            _in_pairs(queries, self.n_heads),
            _in_pairs(attention.k_proj.weight, self.n_kv_heads),
            attention.v_proj.weight,
        ]
        gate_up = [mlp.gate_proj.weight, mlp.up_proj.weight]
        return _Layer(
            to_qkv=_from_left(torch.cat(qkv), layer.input_layernorm.weight),
            from_heads=_from_left(attention.o_proj.weight),
            to_gate_up=_from_left(torch.cat(gate_up), layer.post_attention_layernorm.weight),
            down=_from_left(mlp.down_proj.weight),
        )

    def normed(self, x_BH: Tensor) -> Tensor:
        """Return rows divided by their root mean square; the norm's weights are in the next."""
        return x_BH * torch.addmm(self.eps, x_BH.square(), self.mean).rsqrt_()

    def rotations(self, positions_B: Tensor) -> Tensor:
        """Return the rotary embedding of positions as complex numbers, (B, 1, D/2)."""
        angles = positions_B[:, None, None] * self.frequencies
        return torch.polar(torch.ones_like(angles), angles)


class DirectDecoder(FastDecoder):
    """Decodes the batches of one call by torch, one behind the other."""

    def __init__(self, model: Any, call: Call) -> None:
        """Put the weights of a model together.

        Args:
            model: one that `Direct.can_decode` takes.
            call: what its batches share.
        """
        self._weights, self._call = Direct(model), call

    def take(
        self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, positions_B1: Tensor, logits_BV: Tensor
    ) -> FastBatch | None:
        """Take a batch over; see `FastDecoder`."""
        batch = DirectBatch(self._weights, cache, mask_BT, self._call)
        if not agree(batch.step(ids_B1, positions_B1), logits_BV):
            return None
        cache.layers.clear()  # what it holds is held by the batch now
        return batch

    def finish(self) -> None:
        """Do nothing: every batch is decoded to its end at once."""


def agree(own_BV: Tensor, logits_BV: Tensor) -> bool:
    """Return whether logits are those of transformers but for rounding; no if any is NaN."""
    return bool((own_BV - logits_BV).abs().max() <= _SAME * logits_BV.abs().max())


class DirectBatch(FastBatch):
    """A batch of which transformers has read the prompts: its keys, values and mask.

    Tokens lie as in the cache of transformers, padded at the left. Keys are stored (head size,
    tokens), so that the product with a query reads them in order.
    """

    def __init__(self, weights: Direct, cache: Any, mask_BT: Tensor, call: Call) -> None:
        """Take over what a cache holds, without its last token.

        Args:
            weights: of the model.
            cache: of transformers.
            mask_BT: of all tokens in the cache.
            call: what the batches share.
        """
        self._weights, self._call = weights, call
        self._n_rows, self._n = mask_BT.shape[0], mask_BT.shape[1] - 1
        self._hidden: Tensor | None = None
        if not bool(mask_BT.all()):
            self._hidden = torch.zeros(mask_BT.shape).masked_fill_(mask_BT == 0, -torch.inf)
        shape = len(weights.layers), self._n_rows, weights.n_kv_heads, weights.head_dim
        self._room = 0
        self._keys, self._values = torch.empty(*shape, 0), torch.empty(*shape[:3], 0, shape[3])
        n, self._n = self._n, 0
        self._make_room(n + 1)
        self._n = n
        for index, layer in enumerate(cache.layers):
            keys, values = layer.keys[:, :, :n], layer.values[:, :, :n]
            halves = keys.unflatten(-1, (2, weights.head_dim // 2)).transpose(-1, -2).flatten(-2)
            self._keys[index, ..., :n] = halves.transpose(-1, -2)
            self._values[index, ..., :n, :] = values

    def step(self, ids_B1: Tensor, positions_B1: Tensor) -> Tensor:
        """Return the logits (B, V) of the tokens behind these."""
        weights, B = self._weights, self._n_rows
        H, G, D = weights.n_heads, weights.n_kv_heads, weights.head_dim
        if self._n + 1 > self._room:
            self._make_room(self._n + 1)
        last, n = self._n, self._n + 1
        hidden = self._hidden_until(n)
        rotations = weights.rotations(positions_B1[:, 0])
        x_BH = weights.embedding_VH[ids_B1[:, 0]]
        for index, layer in enumerate(weights.layers):
            qkv = torch.mm(weights.normed(x_BH), layer.to_qkv)
            pairs = torch.view_as_complex(qkv[:, : (H + G) * D].view(B, H + G, D // 2, 2))
            turned = torch.view_as_real(pairs * rotations).view(B, H + G, D)
            keys, values = self._keys[index, :B], self._values[index, :B]
            keys[..., last] = turned[:, H:]
            values[:, :, last] = qkv[:, (H + G) * D :].view(B, G, D)
            scores = torch.matmul(turned[:, :H].view(B, G, H // G, D), keys[..., :n])
            if hidden is not None:
                scores += hidden
            heads = torch.matmul(scores.softmax(-1), values[:, :, :n]).view(B, H * D)
            x_BH = torch.addmm(x_BH, heads, layer.from_heads)
            gate_up = torch.mm(weights.normed(x_BH), layer.to_gate_up)
            gated = F.silu(gate_up[:, : weights.width]).mul_(gate_up[:, weights.width :])
            x_BH = torch.addmm(x_BH, gated, layer.down)
        self._n = n
        return torch.mm(weights.normed(x_BH), weights.head_HV)

    def decode(self, prompts: list[int], ids_B1: Tensor, positions_B1: Tensor) -> None:
        """Decode all rows to their ends."""
        call = self._call
        while True:
            logits_BV = self.step(ids_B1, positions_B1)
            if call.poll is not None:
                call.poll()
            if call.threads is not None:
                call.threads.token()
            ids_B1, positions_B1 = call.pick(logits_BV, prompts), positions_B1 + 1
            over = [
                call.answers.add(prompt, token)
                for prompt, token in zip(prompts, ids_B1[:, 0].tolist(), strict=True)
            ]
            if all(over):
                return
            if any(over):
                staying = fill_holes(over)
                self.keep(staying)
                prompts = [prompts[index] for index in staying]
                ids_B1, positions_B1 = ids_B1[staying], positions_B1[staying]

    def keep(self, places: list[int]) -> None:
        """Keep rows, in this order: each comes from its own place or from one behind it."""
        for target, source in enumerate(places):
            if source != target:
                assert source > target, "rows move forwards alone"
                for buffer in (self._keys[..., : self._n], self._values[..., : self._n, :]):
                    buffer[:, target] = buffer[:, source]
        self._n_rows = len(places)
        if self._hidden is not None:
            self._hidden = self._hidden[places]

    def _hidden_until(self, n: int) -> Tensor | None:
        """Return what is added to scores, (B, 1, 1, n): minus infinity at padding."""
        if self._hidden is None:
            return None
        if n > self._hidden.shape[1]:
            self._hidden = F.pad(self._hidden, (0, n + _ROOM - self._hidden.shape[1]))
        return self._hidden[:, None, None, :n]

    def _make_room(self, n: int) -> None:
        """Copy keys and values into buffers for n tokens and some more."""
        self._room = -(-n // _ROOM) * _ROOM + _ODD
        rows, used = self._n_rows, self._n
        layers, _, heads, size, _ = self._keys.shape
        keys = self._keys.new_empty((layers, rows, heads, size, self._room))
        values = self._values.new_empty((layers, rows, heads, self._room, size))
        keys[..., :used] = self._keys[:, :rows, ..., :used]
        values[..., :used, :] = self._values[:, :rows, :, :used]
        self._keys, self._values = keys, values


def _from_left(weight: Tensor, norm: Tensor | None = None) -> Tensor:
    """Return a weight (out, in) as (in, out), with the norm of what it reads multiplied in."""
    weight = weight.detach() if norm is None else weight.detach() * norm.detach()
    return weight.t().contiguous()


def _in_pairs(weight: Tensor, n_heads: int) -> Tensor:
    """Put what is rotated together side by side: 0 and d/2, 1 and d/2 + 1, and so on."""
    halves = weight.view(n_heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)
