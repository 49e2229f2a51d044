"""A preallocated KV cache for large batches, from which finished rows are removed in place.

The dynamic cache of transformers copies every key and value at every token, which on a CPU costs
more than the model itself. Here tokens are written into room that was set aside, and a row that
is finished is overwritten by the last one, so that neither allocates.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from typing_extensions import override

_ROOM = 128
"""Tokens by which a full buffer grows."""


class RoomyLayer(DynamicLayer):
    """One layer of full attention whose keys and values lie in buffers with room to grow.

    `keys` and `values` are views of the part in use, of shape (batch, heads, tokens, head size),
    as everything that reads the cache of transformers expects.
    """

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Start empty, with the type and device of the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys, self._values = key_states[:, :, :0], value_states[:, :, :0]
        self._use(len(key_states), 0)
        self.is_initialized = True

    @override
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n_old = self._n_tokens
        n_new = n_old + key_states.shape[2]
        if n_new > self._keys.shape[2]:
            self._keys = _grown(self._keys[: self._n_rows], n_old, n_new)
            self._values = _grown(self._values[: self._n_rows], n_old, n_new)
        self._keys[: self._n_rows, :, n_old:n_new] = key_states
        self._values[: self._n_rows, :, n_old:n_new] = value_states
        return self._use(self._n_rows, n_new)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows `beam_idx`, in that order.

        Rows that only move forwards (`beam_idx[i] >= i`) move within the buffer: each is read
        before it is overwritten. Any other order is gathered into a new buffer.
        """
        rows: list[int] = beam_idx.tolist()
        if any(source < target for target, source in enumerate(rows)):
            self._keys = self._keys[beam_idx.to(self.device)]
            self._values = self._values[beam_idx.to(self.device)]
        else:
            for target, source in enumerate(rows):
                if source != target:
                    for buffer in (self._keys, self._values):
                        buffer[target, :, : self._n_tokens] = buffer[source, :, : self._n_tokens]
        self._use(len(rows), self._n_tokens)

    def _use(self, n_rows: int, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._n_rows, self._n_tokens = n_rows, n_tokens
        self.keys = keys = self._keys[:n_rows, :, :n_tokens]
        self.values = values = self._values[:n_rows, :, :n_tokens]
        return keys, values


def _grown(buffer: torch.Tensor, n_old: int, n_new: int) -> torch.Tensor:
    """Copy `n_old` tokens into a buffer that holds `n_new`, rounded up to whole blocks."""
    capacity = -(-n_new // _ROOM) * _ROOM
    grown = buffer.new_empty((*buffer.shape[:2], capacity, buffer.shape[3]))
    grown[:, :, :n_old] = buffer[:, :, :n_old]
    return grown


def roomy_cache(config: Any) -> DynamicCache:
    """Return an empty cache for a model's config.

    Layers of plain full attention get room to grow; any other kind (sliding window, linear
    attention) keeps the layer that transformers has for it.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    if cache.layer_class_to_replicate is DynamicLayer:  # layers that are made when first met
        cache.layer_class_to_replicate = RoomyLayer
    return cache
