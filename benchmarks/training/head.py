r"""Head plus loss, forward and backward, beside the peers: CPU seconds and peak memory.

    python benchmarks/training/head.py                       the case of the docs
    python benchmarks/training/head.py --vocab 152000 --masked 80 --dtype bfloat16

A first run makes a virtual environment for the peers (`--peers`), over the packages of this Python,
so that all use the same PyTorch. Every case is a process of its own, forked from one that has
imported everything, with one thread. Its CPU seconds (user and system) and the rise of its peak
resident memory are of one forward and backward pass over states and weights that are there already;
each is the least of `--runs`. Each peer has the loss that its own trainer calls.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
from itertools import product
from typing import Any

import peers
import record

BETA = {"forward_kl": 0.0, "jsd": 0.5}
"""As TRL, Liger and Stratos define the limits."""


def inputs(settings: argparse.Namespace) -> Any:
    """Make states, weights and labels of a case, the same for all."""
    import torch

    from stratos.distill.objectives.signals import TopK

    torch.manual_seed(0)
    x = argparse.Namespace(**vars(settings))
    dtype, n = getattr(torch, x.dtype), x.tokens

    def made(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape) * scale).to(dtype)

    x.student = made(2, n // 2, x.width).requires_grad_()
    x.teacher = made(2, n // 2, x.width)
    scale = 3 * x.width**-0.5
    x.weight = made(x.vocab, x.width, scale=scale).requires_grad_()
    x.teacher_weight = made(x.vocab, x.width, scale=scale)
    learned = torch.arange(n) % (n // 2) >= round(n // 2 * x.masked / 100)
    x.labels = torch.where(learned, torch.randint(x.vocab, (n,)), -100).view(2, n // 2)
    x.rows = learned.nonzero()[:, 0]
    if x.case == "stratos top-64":
        rows = x.teacher.flatten(0, 1)[x.rows]
        parts = [TopK.of(part @ x.teacher_weight.T, 64) for part in rows.split(32)]
        names = ("ids_MK", "logprobs_MK", "tail_M")
        x.cached = TopK(*(torch.cat([vars(part)[name] for part in parts]) for name in names))
    return x


def stratos(x: Any) -> Any:
    """Hidden states of both models, rows without a label dropped."""
    from stratos.distill.objectives.signals import Hidden, LMHead

    return of_signal(x, Hidden(x.teacher, LMHead(x.teacher_weight), x.rows))


def of_signal(x: Any, signal: Any) -> Any:
    """Our loss of a signal."""
    from stratos.distill.head import head_loss
    from stratos.distill.objectives.base import Objective
    from stratos.distill.objectives.signals import LMHead

    objective = Objective(x.objective)
    return head_loss(x.student, LMHead(x.weight), signal, objective, len(x.rows), x.rows).total


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

    states = (x.student, x.teacher, x.weight, x.teacher_weight)
    return _chunked_divergence_loss(*states, x.labels != -100, BETA[x.objective])[0]


def liger(x: Any) -> Any:
    """Liger's chunked loss in plain PyTorch; its fused kernel is for GPUs only."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    chunk = int(x.case.split()[1])
    loss = LigerFusedLinearJSDLoss(0.0, 1.0, BETA[x.objective], compiled=False, chunk_size=chunk)
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


CASES = {
    "stratos": stratos,
    "stratos top-64": lambda x: of_signal(x, x.cached),
    "trl GKD": trl_gkd,
    "trl chunked": trl_chunked,
    "liger 1024": liger,
    "liger 128": liger,
    "torchtune": torchtune,
    "modelopt": modelopt,
}
ONLY_KL = {"torchtune", "modelopt"}
MODULES = (
    "stratos.distill.head",
    "trl.experimental.gkd.gkd_trainer",
    "trl.trainer.distillation_trainer",
    "liger_kernel.chunked_loss",
    "torchtune.modules.loss",
    "modelopt.torch.distill.losses",
)


def measure(settings: argparse.Namespace) -> dict[str, float]:
    """Run one case in this process."""
    import torch

    x = inputs(settings)
    # What a first product or a first sort sets up is not the loss's.
    (torch.randn(8, 8, dtype=x.student.dtype) @ torch.randn(8, 8, dtype=x.student.dtype)).sum()
    before, start = peers.reset_peak(), peers.cpu_seconds()
    loss = CASES[x.case](x)
    loss.backward()
    return {
        "cpu_s": peers.cpu_seconds() - start,
        "mib": peers.peak_mib() - before,
        "loss": loss.item(),
        "gradient": x.student.grad.float().norm().item(),
    }


def compare(settings: dict[str, Any], runs: int) -> dict[str, Any]:
    """Run all cases of one setting in turn; return what they showed."""
    cases = [case for case in CASES if settings["objective"] != "jsd" or case not in ONLY_KL]
    results: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(runs):
        for case in cases:
            one_case = argparse.Namespace(**settings, case=case)
            results[case].append(peers.forked(measure, one_case, keeps=False))
    best = {
        case: {key: min(run[key] for run in rows) for key in rows[0]}
        for case, rows in results.items()
    }
    return {**settings, "best": best, "runs": results}


def main() -> None:
    """Measure what was asked for."""
    parser = peers.arguments(__doc__)
    parser.add_argument("--vocab", type=int, nargs="+", default=[50_000])
    parser.add_argument("--masked", type=int, nargs="+", default=[50])
    parser.add_argument("--objective", nargs="+", default=list(BETA))
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    options = peers.enter(parser)
    for module in MODULES:  # once, before the forks
        importlib.import_module(module)
    versions = {name: importlib.metadata.version(name) for name in ["torch", *peers.PEERS]}
    result = [
        compare(
            {"vocab": vocab, "masked": masked, "dtype": dtype, "tokens": options.tokens,
             "width": options.width, "objective": objective},
            options.runs,
        )
        for dtype, vocab, masked, objective in product(
            options.dtype, options.vocab, options.masked, options.objective
        )
    ]  # fmt: skip
    record.finish("distillation/head", result, options, seed=0, more={"peers": versions})


if __name__ == "__main__":
    main()
