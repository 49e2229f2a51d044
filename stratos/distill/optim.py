"""One optimizer that combines Muon (2-D weights of the blocks) and AdamW (the rest).

Lightning allows clipping, accumulation and automatic optimization for one optimizer only, and Muon
takes 2-D parameters only; so the two are wrapped into one whose parameter groups they share.
Muon: K. Jordan et al., 2024; the scale that matches AdamW's updates: Moonlight, arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from stratos.distill.muon import StackedMuon


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW behind one `step`, one set of parameter groups and one state dict."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr_muon: float,
        lr_adamw: float,
        weight_decay: float,
        with_muon: bool = True,
    ) -> None:
        """Share the parameters out; learning rates are peaks that a schedule scales.

        Args:
            matrices: whose weights decay; Muon trains them, or AdamW does.
            others: trained by AdamW.
            lr_muon: of Muon.
            lr_adamw: of AdamW.
            weight_decay: of the matrices.
            with_muon: whether Muon trains them.
        """
        self._parts: list[torch.optim.Optimizer] = []
        matrices, others = list(matrices), list(others)
        by_adamw: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
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
            fused = not with_muon and _may_be_fused([*others, *matrices])
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
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and id(parameter) not in outside and ".lora_" not in name
            (matrices if inside else others).append(parameter)
    return matrices, others


def _embeddings(model: nn.Module) -> list[nn.Module]:
    parts = []
    for name in ("get_input_embeddings", "get_output_embeddings"):
        part = getattr(model, name, lambda: None)()
        if part is not None:
            parts.append(part)
    return parts
