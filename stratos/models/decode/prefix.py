"""Prefix caching: common prompt prefixes are computed once.

Prompts of several kinds may share a batch: those that begin alike form a group, and keys and values
of the group's beginning are computed for one row and copied to the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from stratos.models.decode.kv_cache import RoomyLayer, roomy_cache

_SHORTEST = 16
"""Tokens below which a common beginning is not worth a pass of its own."""
_SAME_GROUP = 0.5
"""Share of the longer of two neighbouring beginnings below which a new group starts."""


@dataclass(frozen=True)
class Prefixes:
    """The beginnings of a list of prompts."""

    lengths: tuple[int, ...]
    """Of each prompt, how many of its first tokens are computed already."""
    _caches: tuple[Any, ...]
    """Of each prompt, the cache of its group; None where it has none."""

    @classmethod
    def none(cls, n_prompts: int) -> Prefixes:
        """Return beginnings of which nothing is computed."""
        return cls((0,) * n_prompts, (None,) * n_prompts)

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]]) -> Prefixes:
        """Compute what groups of prompts have in common.

        Args:
            model: causal language model of transformers, in evaluation mode.
            prompts: token ids of each.
        """
        # Sliding windows and recurrent states cannot be continued behind padding.
        if not all(isinstance(layer, RoomyLayer) for layer in roomy_cache(model.config).layers):
            return cls.none(len(prompts))
        lengths = [0] * len(prompts)
        caches: list[Any] = [None] * len(prompts)
        for rows, n_tokens in _groups(prompts):
            cache = roomy_cache(model.config)
            ids = torch.tensor([list(prompts[rows[0]][:n_tokens])], device=model.device)
            arguments = {cache_argument(model): cache}
            with torch.inference_mode():
                model(input_ids=ids, use_cache=True, logits_to_keep=1, **arguments)
            for row in rows:
                lengths[row], caches[row] = n_tokens, cache
        return cls(tuple(lengths), tuple(caches))

    def start(self, model: Any, rows: Sequence[int]) -> tuple[Any, torch.Tensor]:
        """Return a cache for a batch of some prompts, and its mask (B, T), padded at the left.

        Args:
            model: as of `of`.
            rows: numbers of the prompts.
        """
        cache = roomy_cache(model.config)
        width = max((self.lengths[row] for row in rows), default=0)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            mask_BT[place, width - self.lengths[row] :] = 1
        if width:
            for index in range(_n_layers(self._caches)):
                cache.update(*self._states(rows, index, width), index)
        return cache, mask_BT.to(model.device)

    def _states(
        self, rows: Sequence[int], index: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of one layer for a batch, (B, heads, T, head size)."""
        layers = [None if (one := self._caches[row]) is None else one.layers[index] for row in rows]
        like = next(layer for layer in layers if layer is not None)
        keys, values = (
            states.new_zeros((len(rows), states.shape[1], width, states.shape[3]))
            for states in (like.keys, like.values)
        )
        for place, layer in enumerate(layers):
            if layer is not None:
                start = width - layer.keys.shape[2]
                keys[place, :, start:], values[place, :, start:] = layer.keys[0], layer.values[0]
        return keys, values


def cache_argument(model: Any) -> str:
    """Return what the model calls its cache: the name changed within transformers 5."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"


def _groups(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int]]:
    """Yield the prompts that begin alike, and in how many tokens.

    In the order of their tokens, prompts that begin alike are neighbours; a group ends where two
    neighbours share much less than those beside them. One token at least is left over in each.
    """
    order = sorted(range(len(prompts)), key=lambda row: list(prompts[row]))
    shared = [_n_shared(prompts[a], prompts[b]) for a, b in pairwise(order)]
    group, n_common = order[:1], 0
    for place, row in enumerate(order[1:]):
        n = shared[place]
        beside = max(shared[max(0, place - 1) : place + 2])
        if n < _SHORTEST or n < _SAME_GROUP * beside:
            if len(group) > 1:
                yield group, n_common
            group, n_common = [row], 0
        else:
            n_common = min(n_common or n, n)
            group.append(row)
    if len(group) > 1:
        yield group, n_common


def _n_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return in how many first tokens two prompts agree, short of the whole of either."""
    most = min(len(one), len(other)) - 1
    pairs = zip(one, other, strict=False)
    return min(most, next((n for n, (a, b) in enumerate(pairs) if a != b), most))


def _n_layers(caches: Sequence[Any]) -> int:
    return next(len(cache.layers) for cache in caches if cache is not None)
