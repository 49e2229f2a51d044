"""One optimizer that combines Muon (2-D weights of the blocks) and AdamW (the rest).

Lightning allows clipping, accumulation and automatic optimization for one optimizer only, and Muon
takes 2-D parameters only; so the two are wrapped into one whose parameter groups they share.
Muon: K. Jordan et al., 2024; the scale that matches AdamW's updates: Moonlight, arXiv 2502.16982.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

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
            for index, weight in enumerate(group["params"]):
                if weight.grad is not None:
                    alone = None if weight.numel() <= _SMALL else index
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


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW behind one `step`, one set of parameter groups and one state dict."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        lr_muon: float,
        lr_adamw: float,
        weight_decay: float,
        with_muon: bool = True,
    ) -> None:
        """Share the parameters out; learning rates are peaks that a schedule scales.

        Args:
            matrices: whose weights decay; Muon trains them, or AdamW does.
            rest: trained by AdamW.
            lr_muon: of Muon.
            lr_adamw: of AdamW.
            weight_decay: of the matrices.
            with_muon: whether Muon trains them.
        """
        self._parts: list[torch.optim.Optimizer] = []
        matrices, rest = list(matrices), list(rest)
        by_adamw: list[dict[str, Any]] = [{"params": rest, "weight_decay": 0.0}]
        if not with_muon:
            by_adamw.append({"params": matrices, "weight_decay": weight_decay})
        by_adamw = [group for group in by_adamw if group["params"]]
        if matrices and with_muon:
            self._parts.append(
                StackedMuon(
                    matrices,
                    lr=lr_muon,
                    weight_decay=weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if by_adamw:
            fused = not with_muon and _may_be_fused([*rest, *matrices])
            self._parts.append(
                torch.optim.AdamW(by_adamw, lr=lr_adamw, betas=(0.9, 0.95), fused=fused)
            )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let groups and states of the parts be the very objects of the whole."""
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[start:stop], self.state
            start = stop

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was loaded (called by `load_state_dict`)."""
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def _may_be_fused(weights: Iterable[nn.Parameter]) -> bool:
    """Return whether one kernel may make AdamW's whole step: a sixth of the time on a CPU.

    Of a student of 135M parameters the step is a quarter of a training on small batches.
    """
    return all(
        weight.is_floating_point()
        and weight.device.type in ("cpu", "cuda")
        and type(weight.data) is torch.Tensor
        for weight in weights
    )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the 2-D weights inside the blocks, and every other trainable parameter.

    The two factors of an adapter are no weight of their own, and belong to the others.
    """
    outside = {id(p) for part in _embeddings(model) for p in part.parameters()}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and id(parameter) not in outside and ".lora_" not in name
            (matrices if inside else rest).append(parameter)
    return matrices, rest


def _embeddings(model: nn.Module) -> list[nn.Module]:
    parts = []
    for name in ("get_input_embeddings", "get_output_embeddings"):
        part = getattr(model, name, lambda: None)()
        if part is not None:
            parts.append(part)
    return parts
