"""Gather the full weights of a sharded model."""

from __future__ import annotations

from typing import Any

from torch import Tensor


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
    import torch

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
    from torch.nn import ModuleList

    lists = [module for module in model.modules() if isinstance(module, ModuleList)]
    return list(max(lists, key=len, default=[]))
