"""Processes that train together: what they exchange, and the weights that FSDP2 has split."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn


def rank() -> int:
    """Return which process this is, from 0."""
    return distributed.get_rank() if _several() else 0


def gathered(value: Any) -> list[Any]:
    """Return the values of all processes, by rank; every process has to ask."""
    if not _several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def summed(*values: float) -> list[float]:
    """Return the sums of values over all processes; every process has to ask."""
    if not _several():
        return list(values)
    on_gpu = distributed.get_backend() == "nccl"
    total = torch.tensor(values, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    distributed.all_reduce(total)
    return cast("list[float]", total.tolist())


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def whole(weight: Any) -> Tensor:
    """Return a weight, gathered from all processes if FSDP2 has split it."""
    gathered: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return gathered


def best_weights(model: Any) -> dict[str, Tensor]:
    """Return what is trained of a model, by name; every process has to ask."""
    return {
        name: whole(weight.detach()).contiguous()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def whole_model(model: Any) -> Any:
    """Return a model that generates: the same one, or a copy of one that FSDP2 has split."""
    if not any(hasattr(weight, "full_tensor") for weight in model.parameters()):
        return model
    weights = {name: whole(weight.detach()) for name, weight in model.named_parameters()}
    copy = _plain_class(model)(model.config)
    copy.generation_config = model.generation_config
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            weight.copy_(weights[name])
    return copy.to(next(iter(weights.values())).device).eval()


def _plain_class(model: Any) -> type:
    """Return the class that FSDP2 has derived its own from."""
    from torch.distributed.fsdp import FSDPModule

    kind = type(model)
    return next(base for base in kind.__mro__ if not issubclass(base, FSDPModule))


def blocks(model: Any) -> list[Any]:
    """Return the transformer blocks of a model: the longest list of modules in it."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))
