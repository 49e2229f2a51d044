"""Liger's fused kernel instead of ours, on a GPU where it is equal and faster.

Whether it is equal and faster is tried on the first batch of each shape, not assumed: it depends on
the GPU, the widths and the versions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from stratos.distill.objectives.base import Objective
from stratos.distill.objectives.signals import Hidden, LMHead, Signal

_log = logging.getLogger(__name__)
_BETA = {"forward_kl": 0.0, "reverse_kl": 1.0}
_TRIALS: dict[tuple[object, ...], bool] = {}
RUNS = 3
"""Runs of each side in a trial: the first compiles, the fastest of the others counts."""

Run = Callable[[Tensor, LMHead], Tensor]


def fits(hidden: Tensor, head: LMHead, signal: Signal | None, objective: Objective) -> bool:
    """Return whether Liger has a kernel for this: bare heads of one width, a member of the JSD."""
    if hidden.device.type != "cuda" or find_spec("liger_kernel") is None:
        return False
    if not isinstance(signal, Hidden) or objective.cross_entropy:
        return False
    bare = all(
        side.bias_V is None and side.scale == 1 and side.softcap is None
        for side in (head, signal.head)
    )
    tensors = (hidden, head.weight_VH, signal.hidden_NH, signal.head.weight_VH)
    return (
        bare
        and len({tensor.dtype for tensor in tensors}) == 1
        and not torch.is_autocast_enabled("cuda")
        and head.weight_VH.shape[0] == signal.head.weight_VH.shape[0]
        and (objective.divergence == "jsd" or objective.divergence in _BETA)
    )


def liger_loss(
    hidden: Tensor,
    head: LMHead,
    signal: Hidden,
    objective: Objective,
    n_tokens: float | Tensor,
    rows_M: Tensor | None,
) -> Tensor:
    """Return the same scalar as `head_loss` for what `fits`."""
    from liger_kernel.transformers import LigerFusedLinearJSD

    def learned(states: Tensor, rows: Tensor | None) -> Tensor:
        flat = states.flatten(0, -2)
        return flat if rows is None else flat.index_select(0, rows)

    ours = learned(hidden, rows_M)
    if not len(ours):
        return hidden.sum() * 0 + head.weight_VH.sum() * 0
    beta = _BETA.get(objective.divergence, objective.beta)
    kernel = LigerFusedLinearJSD(jsd_beta=beta, temperature=objective.temperature)
    theirs = learned(signal.hidden_NH, signal.rows_M)
    mean = kernel(ours, head.weight_VH, theirs, signal.head.weight_VH, None)
    count = n_tokens.clamp(min=1) if isinstance(n_tokens, Tensor) else (n_tokens or 1)
    return mean * (len(ours) * objective.temperature**2 / count)


def is_better(
    key: tuple[object, ...], hidden: Tensor, head: LMHead, ours: Run, theirs: Run
) -> bool:
    """Return whether `theirs` equals `ours` on this batch and is faster; tried once for a key."""
    if key not in _TRIALS:
        _TRIALS[key] = _trial(hidden, head, ours, theirs)
        _log.info("Liger's kernel %s for %s", "is taken" if _TRIALS[key] else "is left", key)
    return _TRIALS[key]


def _trial(hidden: Tensor, head: LMHead, ours: Run, theirs: Run) -> bool:
    medians = []
    for run in (ours, theirs):
        seconds = []
        for _ in range(RUNS):
            leaf = hidden.detach().clone().requires_grad_()
            weight = head.weight_VH.detach().clone().requires_grad_(head.weight_VH.requires_grad)
            _wait(hidden.device)
            start = time.perf_counter()
            loss = run(leaf, LMHead(weight))
            loss.backward()
            _wait(hidden.device)
            seconds.append(time.perf_counter() - start)
        values = (loss.detach(), leaf.grad, weight.grad)
        medians.append((min(seconds[1:]), [value for value in values if value is not None]))
    (our_seconds, our_values), (their_seconds, their_values) = medians
    tolerance = 1e-4 if hidden.dtype == torch.float32 else 3e-2
    equal = all(
        bool((a.float() - b.float()).norm() <= tolerance * a.float().norm())
        for a, b in zip(our_values, their_values, strict=True)
    )
    return equal and their_seconds < our_seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
