"""The cases of head.py: Stratos and its peers, each with the loss that its own trainer calls.

Each takes the inputs of a case and returns its loss, without backward.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = ["trl", "liger-kernel", "torchtune", "nvidia-modelopt"]
BARE = [*PEERS, "torchao<0.14", "triton"]
"""Installed without what they require, which is there or is for GPUs."""
WHOLE = ["datasets", "accelerate", "omegaconf", "scipy", "sentencepiece", "tiktoken"]
BETA = {"forward_kl": 0.0, "jsd": 0.5}
"""As TRL, Liger and Stratos define the limits."""


def enter_peers(folder: Path) -> None:
    """Make the environment where it is missing, and go on as its Python."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        overlay = folder / "lib" / version / "site-packages" / "overlay.pth"
        overlay.write_text(sysconfig.get_path("purelib") + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", *BARE], check=True)
        subprocess.run([*pip, *WHOLE], check=True)
        (folder / "ready").touch()
    if Path(sys.prefix) != folder:
        os.execv(python, [str(python), *sys.argv])


def stratos(x: Any) -> Any:
    """Hidden states of both models, rows without a label dropped."""
    from stratos.distill.head import head_loss
    from stratos.distill.objectives.base import Objective
    from stratos.distill.objectives.signals import Hidden, LMHead

    signal = Hidden(x.teacher, LMHead(x.teacher_weight), x.rows)
    head = LMHead(x.weight)
    return head_loss(x.student, head, signal, Objective(x.objective), len(x.rows), x.rows).total


def stratos_top_64(x: Any) -> Any:
    """The teacher's 64 likeliest tokens from a cache."""
    from stratos.distill.head import head_loss
    from stratos.distill.objectives.base import Objective
    from stratos.distill.objectives.signals import LMHead

    head = LMHead(x.weight)
    return head_loss(x.student, head, x.cached, Objective(x.objective), len(x.rows), x.rows).total


def both_logits(x: Any) -> tuple[Any, Any]:
    """Multiply as a model does that returns logits, the teacher without gradients."""
    import torch

    with torch.no_grad():
        teacher = x.teacher @ x.teacher_weight.T
    return x.student @ x.weight.T, teacher


def trl_gkd(x: Any) -> Any:
    """TRL's GKDTrainer."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    logits, teacher = both_logits(x)
    return GKDTrainer.generalized_jsd_loss(logits, teacher, x.labels, BETA[x.objective])


def trl_chunked(x: Any) -> Any:
    """TRL's DistillationTrainer."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    mask = x.labels != -100
    return _chunked_divergence_loss(
        x.student, x.teacher, x.weight, x.teacher_weight, mask, BETA[x.objective]
    )[0]


def liger(x: Any) -> Any:
    """Liger's chunked loss in plain PyTorch; its fused kernel is for GPUs only."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(0.0, 1.0, BETA[x.objective], compiled=False, chunk_size=x.chunk)
    flat = (x.student.flatten(0, 1), x.weight, x.teacher.flatten(0, 1), x.teacher_weight)
    return loss(*flat, x.labels.flatten())


def torchtune(x: Any) -> Any:
    """Its loss over chunks of logits that are all there."""
    from torchtune.modules.loss import ForwardKLWithChunkedOutputLoss

    logits, teacher = (side.chunk(8, dim=1) for side in both_logits(x))
    return ForwardKLWithChunkedOutputLoss()(list(logits), list(teacher), x.labels)


def modelopt(x: Any) -> Any:
    """NVIDIA's loss, with the mask that it leaves to the caller."""
    from modelopt.torch.distill.losses import LogitsDistillationLoss

    loss = LogitsDistillationLoss(reduction="none")(*both_logits(x))
    mask = x.labels != -100
    return loss[mask].sum() / mask.sum()


ONLY_KL = {"torchtune", "modelopt"}
CASES: dict[str, Callable[[Any], Any]] = {
    "stratos": stratos,
    "stratos top-64": stratos_top_64,
    "trl GKD": trl_gkd,
    "trl chunked": trl_chunked,
    "liger 1024": liger,
    "liger 128": liger,
    "torchtune": torchtune,
    "modelopt": modelopt,
}
