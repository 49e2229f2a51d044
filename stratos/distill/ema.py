"""EMA: an exponential moving average of the weights, measured and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from typing_extensions import override

_EARLY = 10
"""The decay grows as (1 + step) / (10 + step) at first, so that random weights are forgotten."""


class Average(L.Callback):
    """Averages what is trained after every gradient step."""

    def __init__(self, decay: float) -> None:
        """Weigh the past with `decay`."""
        self._decay = decay
        self._mean: dict[str, torch.Tensor] = {}
        self._loaded: dict[str, torch.Tensor] = {}
        self._step = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"mean": {name: _whole(mean).cpu() for name, mean in self._mean.items()}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict["mean"]

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Begin with the weights, or with the average of a checkpoint."""
        self._step = trainer.global_step
        self._mean = {name: weight.detach().clone() for name, weight in _trained(module)}
        for name, mean in self._loaded.items():
            _assign(self._mean[name], mean)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Move the average towards the weights."""
        if trainer.global_step == self._step:
            return
        self._step = step = trainer.global_step
        decay = min(self._decay, (1 + step) / (_EARLY + step))
        for name, weight in _trained(module):
            self._mean[name].lerp_(weight, 1 - decay)

    @contextmanager
    def in_place(self, module: Any) -> Iterator[None]:
        """Put the average in the place of the weights, and these back."""
        weights = {name: weight.detach().clone() for name, weight in _trained(module)}
        self._put(module, self._mean)
        try:
            yield
        finally:
            self._put(module, weights)

    @torch.no_grad()
    def _put(self, module: Any, values: dict[str, torch.Tensor]) -> None:
        for name, weight in _trained(module):
            weight.copy_(values[name])


def _trained(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in module.model.named_parameters():
        if weight.requires_grad:
            yield name, weight


def _whole(weight: torch.Tensor) -> torch.Tensor:
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight


def _assign(target: Any, whole: torch.Tensor) -> None:
    """Set a tensor, sharded or not, from a whole one."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole, target.device_mesh, target.placements)
    target.copy_(whole)
