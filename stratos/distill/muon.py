"""Muon whose iteration takes all matrices of one shape at once.

Of a small student the products of Newton and Schulz take less than their calls: torch.optim.Muon
makes fifteen for each matrix. Groups and states are those of torch's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_SMALL = 2**18
"""Numbers of a matrix up to which it is stacked: the products of larger ones take all the time."""


class StackedMuon(torch.optim.Muon):
    """torch's Muon, with the scale that matches AdamW's updates (Moonlight, arXiv 2502.16982)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; torch makes it where weights are split over processes."""
        weights = [weight for group in self.param_groups for weight in group["params"]]
        if any(type(weight.data) is not Tensor for weight in weights):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for place, weight in enumerate(group["params"]):
                if weight.grad is not None:
                    alone = None if weight.numel() <= _SMALL else place
                    alike[weight.shape, weight.device, weight.dtype, alone].append(weight)
            for some in alike.values():
                self._update(some, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        momentum, lr = group["momentum"], float(group["lr"])
        buffers = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            buffers.append(state["momentum_buffer"])
        grads = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum) if group["nesterov"] else buffers
        update_NAB = orthogonalized(
            torch.stack(list(updates)), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        scale = 0.2 * max(weights[0].shape) ** 0.5
        for weight, update_AB in zip(weights, update_NAB, strict=True):
            weight.add_(update_AB, alpha=-lr * scale)


def orthogonalized(
    matrices_NAB: Tensor, coefficients: tuple[float, float, float], n_steps: int, eps: float
) -> Tensor:
    """Return about the nearest orthogonal matrix of each, in bfloat16, by Newton and Schulz."""
    a, b, c = coefficients
    x_NAB = matrices_NAB.bfloat16()
    is_tall = x_NAB.shape[1] > x_NAB.shape[2]
    if is_tall:
        x_NAB = x_NAB.mT
    norm_N11 = torch.linalg.vector_norm(x_NAB, dim=(1, 2), keepdim=True)
    x_NAB = x_NAB / norm_N11.clamp(min=eps)
    for _ in range(n_steps):
        gram_NAA = torch.bmm(x_NAB, x_NAB.mT)
        gram_NAA = torch.baddbmm(gram_NAA, gram_NAA, gram_NAA, beta=b, alpha=c)
        x_NAB = torch.baddbmm(x_NAB, gram_NAA, x_NAB, beta=a)
    return x_NAB.mT if is_tall else x_NAB
