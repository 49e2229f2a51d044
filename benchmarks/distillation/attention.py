"""Own kernels beside PyTorch's on one thread: causal attention in bfloat16, and the ranks of ULD.

    python benchmarks/distillation/attention.py --keep

Attention: forward and backward pass of documents of one length, CPU milliseconds, and how far
output and gradients are from those in float64, in per cent (`torch.nn.functional`'s
scaled_dot_product_attention, which takes flash attention there, beside
`stratos.contrib.cpu.blocked_attention`). `universal_logit`: CPU milliseconds a position at a
vocabulary of 50,000, beside two calls of torch.sort, which is what it took before, and beside
`forward_kl`. Each figure is the least of `--runs`; both sides are measured in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from record import keep
from torch import Tensor
from torch.nn import functional as F

from stratos.contrib.cpu.blocked_attention import attend
from stratos.core.machine import multiplies_bf16
from stratos.distill.objectives.kernels import Scratch, forward_kl_, universal_logit_

SHAPES = ((60, 4, 64, 32), (21, 4, 200, 32), (8, 4, 500, 32), (4, 4, 1000, 32), (8, 6, 500, 64))
"""Documents, heads, tokens of a document, width of a head."""
VOCABULARY, ROWS = 50_000, 8


def milliseconds(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the least CPU milliseconds of each, in turn."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(runs + 1):  # the first run sets up allocators
        for name, call in calls.items():
            started = time.process_time()
            call()
            least[name] = min(least[name], 1000 * (time.process_time() - started))
    return least


def flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend by PyTorch's own."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def attention(shape: tuple[int, ...], runs: int) -> dict[str, Any]:
    """Measure one shape."""
    torch.manual_seed(0)
    *inputs, grad = (torch.randn(shape).bfloat16() for _ in range(4))

    def passed(of: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [one.clone().to(dtype).requires_grad_() for one in inputs]
        out = of(*leaves)
        out.backward(grad.to(dtype))
        grads = [leaf.grad.double() for leaf in leaves if leaf.grad is not None]
        return [out.detach().double(), *grads]

    sides = {"flash": flash, "blocked": attend}
    exact = passed(flash, torch.float64)
    off = {
        name: max(
            float((a - b).norm() / b.norm())
            for a, b in zip(passed(of, torch.bfloat16), exact, strict=True)
        )
        for name, of in sides.items()
    }

    leaves = [one.clone().requires_grad_() for one in inputs]

    def once(of: Callable[..., Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(of(*leaves), leaves, grad)

    return {
        "shape": shape,
        "ms": milliseconds({name: once(of) for name, of in sides.items()}, runs),
        "off_percent": {name: 100 * value for name, value in off.items()},
    }


def ranks(runs: int) -> dict[str, float]:
    """Measure `universal_logit`, milliseconds a position."""
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(ROWS, VOCABULARY) for _ in range(2))
    scratch = Scratch()

    def sorts() -> object:
        return [torch.softmax(one, 1).sort(1, descending=True) for one in (student, teacher)]

    found = milliseconds(
        {
            "universal_logit": lambda: universal_logit_(student.clone(), teacher.clone(), scratch),
            "torch.sort twice": sorts,
            "forward_kl": lambda: forward_kl_(student.clone(), teacher.clone(), scratch),
        },
        runs,
    )
    return {name: value / ROWS for name, value in found.items()}


def main() -> None:
    """Measure all, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "multiplies_bfloat16": multiplies_bf16(),
        "attention": [attention(shape, options.runs) for shape in SHAPES],
        "ranks": ranks(options.runs),
    }
    for row in found["attention"]:
        print(row)
    print(found["ranks"])
    if options.keep:
        keep("distillation/attention", found, seed=0)


if __name__ == "__main__":
    main()
