"""A preallocated KV cache for large batches; beginnings that texts share are computed once.

The dynamic cache of transformers copies every key and value at every token, which on a CPU costs
more than the model itself. Here tokens are written into room that was set aside, and a row that
is finished is overwritten by the last one, so that neither allocates.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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


@dataclass(frozen=True)
class Prefixes:
    """The beginnings of a list of prompts."""

    lengths: tuple[int, ...]
    """Of each prompt, how many of its first tokens are computed already."""
    _caches: tuple[Any, ...]
    """Of each prompt, the cache of its group; None where it has none."""

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]]) -> Prefixes:
        """Compute what groups of prompts have in common.

        Args:
            model: causal language model of transformers, in evaluation mode.
            prompts: token ids of each.
        """
        lengths = [0] * len(prompts)
        caches: list[Any] = [None] * len(prompts)
        # Sliding windows and recurrent states cannot be continued behind padding.
        layers = roomy_cache(model.config).layers
        is_plain = all(isinstance(layer, RoomyLayer) for layer in layers)
        for rows, n_tokens in alike(prompts) if is_plain else ():
            cache = roomy_cache(model.config)
            ids = torch.tensor([list(prompts[rows[0]][:n_tokens])], device=model.device)
            arguments = {cache_argument(model): cache}
            with torch.inference_mode():
                model(input_ids=ids, use_cache=True, logits_to_keep=1, **arguments)
            for row in rows:
                lengths[row], caches[row] = n_tokens, cache
        return cls(tuple(lengths), tuple(caches))

    def start(
        self, model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[int]
    ) -> tuple[Any, torch.Tensor, list[Sequence[int]]]:
        """Return a cache for a batch of some prompts, its mask (B, T), and what is left to read.

        Of each is left as much as of the one that most is left of: padding stands at the left
        alone. Between a beginning and what follows it, attention that counts places (windows, ALiBi
        of some classes) would count it.

        Args:
            model: as of `of`.
            prompts: all of them.
            rows: numbers of those of the batch.
        """
        cache = roomy_cache(model.config)
        n_left = max(len(prompts[row]) - self.lengths[row] for row in rows)
        n_known = [max(0, len(prompts[row]) - n_left) for row in rows]
        width = max(n_known)
        mask_BT = torch.arange(width) >= width - torch.tensor(n_known)[:, None]
        if width:
            for index in range(_n_layers(self._caches)):
                cache.update(*self._states(rows, n_known, index), index)
        rests = [prompts[row][n:] for row, n in zip(rows, n_known, strict=True)]
        return cache, mask_BT.long().to(model.device), rests

    def _states(
        self, rows: Sequence[int], n_known: Sequence[int], index: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of one layer for a batch, (B, heads, T, head size)."""
        like = next(cache.layers[index] for cache in self._caches if cache is not None)
        keys, values = (
            states.new_zeros((len(rows), states.shape[1], max(n_known), states.shape[3]))
            for states in (like.keys, like.values)
        )
        for position, (row, n) in enumerate(zip(rows, n_known, strict=True)):
            if n:
                layer = self._caches[row].layers[index]
                keys[position, :, -n:] = layer.keys[0, :, :n]
                values[position, :, -n:] = layer.values[0, :, :n]
        return keys, values


@dataclass(frozen=True)
class Beginning:
    """What the prompts of a model begin with alike, such as an instruction: computed once."""

    tokens: tuple[int, ...]
    _cache: Any

    @classmethod
    def shared_by(cls, model: Any, first: Sequence[int], second: Sequence[int]) -> Beginning:
        """Compute what two prompts begin with; nothing where it is short.

        Args:
            model: as of `Prefixes.of`.
            first: token ids.
            second: token ids.
        """
        prefixes = Prefixes.of(model, [first, second])
        return cls(tuple(first[: prefixes.lengths[0]]), prefixes._caches[0])

    def of(self, prompts: Sequence[Sequence[int]]) -> Prefixes:
        """Return what is computed of each prompt; nothing where it begins otherwise."""
        n = len(self.tokens)
        begin = [len(prompt) > n > 0 and (*prompt[:n],) == self.tokens for prompt in prompts]
        return Prefixes(
            tuple(n * begins for begins in begin),
            tuple(self._cache if begins else None for begins in begin),
        )


def cache_argument(model: Any) -> str:
    """Return what the model calls its cache: the name changed within transformers 5."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"


def _n_layers(caches: Sequence[Any]) -> int:
    return next(len(cache.layers) for cache in caches if cache is not None)


# Texts that begin alike: which of them share a beginning, so that most is computed once.

_SHORTEST = 16
"""Tokens below which a common beginning is not worth a pass of its own."""
_DEEPEST = 200
"""Groups within groups that are looked at."""

Group = tuple[list[int], int]
"""Which texts begin alike, and in how many tokens."""


def alike(texts: Sequence[Sequence[int]], cost: int = _SHORTEST) -> list[Group]:
    """Return the groups of texts whose beginnings, each computed once, save the most tokens.

    In the order of their tokens, texts that begin alike are neighbours. A run of them shares what
    all have in common, or is cut where neighbours share least and each part looked at for itself;
    texts that no part groups then share what all of the run have in common. One token at least of
    each text is left over.

    Args:
        texts: token ids of each.
        cost: of a beginning of its own, in tokens.
    """
    order = sorted(range(len(texts)), key=lambda text: list(texts[text]))
    shared = [n_shared(texts[a], texts[b]) for a, b in pairwise(order)]

    def best(first: int, last: int, depth: int) -> tuple[int, list[Group]]:
        """Return the tokens saved, and the groups, of a run."""
        if first == last:
            return 0, []
        least = min(shared[first:last])
        saved, groups = 0, list[Group]()
        if depth < _DEEPEST:
            cuts = [i for i in range(first, last) if shared[i] == least]
            ends = zip([first, *(i + 1 for i in cuts)], [*cuts, last], strict=True)
            parts = [best(*end, depth + 1) for end in ends]
            saved = sum(n for n, _ in parts)
            groups = [group for _, several in parts for group in several]
        of_all = (last - first) * least - cost
        if least >= _SHORTEST and of_all > 0 and of_all >= saved:
            return of_all, [(order[first : last + 1], least)]
        grouped = {text for texts_of_group, _ in groups for text in texts_of_group}
        single = [text for text in order[first : last + 1] if text not in grouped]
        of_single = (len(single) - 1) * least - cost
        if least >= _SHORTEST and of_single > 0:
            return saved + of_single, [*groups, (single, least)]
        return saved, groups

    return best(0, len(order) - 1, 0)[1] if order else []


def n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return in how many first tokens two texts agree, short of the whole of either."""
    most = min(len(first), len(second)) - 1
    pairs = zip(first, second, strict=False)
    return min(most, next((n for n, (a, b) in enumerate(pairs) if a != b), most))
