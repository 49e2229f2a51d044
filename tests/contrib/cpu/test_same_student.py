"""The student of a seed is the same bit for bit as it was when these digests were taken."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

DIGESTS = {
    "2.13.0+cpu AVX512 AuthenticAMD 26 2": {
        "fp32": "c98c6b5f80bac33b7b0ca12c927ffd094bcb7e7faf174444abf69f55101e37b9",
        "bf16": "d7c7ee7b58949d9c12a4700050883726f0fcf087c21b397c41143a7411f8a387",
    }
}
"""Of the weights, by torch's build and the processor, which decide how sums are rounded."""


def build() -> str:
    """Return torch's version, the instructions that it uses, and the processor's model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in facts.items()}
    model = (named.get(name, "") for name in ("vendor_id", "cpu family", "model"))
    capability = torch.backends.cpu.get_cpu_capability()
    return " ".join([torch.__version__, capability, *model] if lines else [platform.processor()])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_seed_gives_the_same_student(run_distill, tmp_path, precision):
    """Two processes, and in bfloat16 fused blocks."""
    if build() not in DIGESTS:
        pytest.skip(f"no digest is known of {build()}")
    settings = {"max_tokens": 20_000, "accelerator": "cpu", "n_processes": 2, "n_threads": 1}
    student = run_distill(tmp_path, precision=precision, **settings)
    assert student.weights_sha256 == DIGESTS[build()][precision]
