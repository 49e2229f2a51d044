"""aiconfigurator (PyPI, Apache-2.0) on the same rows of the inference table, beside ours.

    python benchmarks/estimate/peers.py --install      once: a virtual environment of its own
    python benchmarks/estimate/peers.py

It predicts from tables of measured operators per GPU and engine version; the versions that it ships
are newer than those of the rows, and it is asked for the batch of the row as in its command
`aiconfigurator cli estimate`. Ours is shown twice: with the rows' own model held out, and with
their GPU held out. Its package carries end-to-end measurements of its own; they are not read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from fitting import fit_inference, serving_ratios
from heldout import held_out, line
from measured_rows import ServeRow, cache_bytes, inference_rows

Array = NDArray[np.float64]

PACKAGE = "aiconfigurator==0.12.0"
VENV = Path("/tmp/aiconf-venv")

PRECISION = {16: ("bfloat16", "bfloat16"), 8: ("fp8", "fp8"), 4: ("nvfp4", "fp8")}
"""Bits of a weight to its names of the products' and the attention's precision."""

CHILD = """
import json, logging, sys, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
from aiconfigurator.cli.api import cli_estimate
for text in sys.stdin:
    asked = json.loads(text)
    try:
        found = cli_estimate(**asked)
        answer = {"ttft_ms": float(found.ttft), "tpot_ms": float(found.tpot)}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:200]}
    print("answer", json.dumps(answer), flush=True)
"""


def install() -> Path:
    """Create the virtual environment, if it is not there, and return its Python."""
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return python


def question(row: ServeRow) -> dict[str, object]:
    """Return the row as arguments of aiconfigurator's `cli_estimate`."""
    gemm, attention = PRECISION[row.weight_bits]
    size = "8B" if row.card.n_layers == 32 else "70B"
    return {
        "model_path": f"meta-llama/Meta-Llama-3.1-{size}",
        "system_name": f"{row.device.name.lower()}_sxm",
        "backend_name": row.backend,
        "isl": row.prompt,
        "osl": row.answer,
        "batch_size": row.batch,
        "tp_size": row.tensor_parallel,
        "gemm_quant_mode": gemm,
        "kvcache_quant_mode": "fp8" if cache_bytes(row) == 1 else "bfloat16",
        "fmha_quant_mode": attention if cache_bytes(row) == 1 else "bfloat16",
    }


def ask(python: Path, rows: Sequence[ServeRow]) -> list[dict[str, float | str]]:
    """Return its answers, one a row."""
    asked = "".join(json.dumps(question(row)) + "\n" for row in rows)
    run = subprocess.run(
        [python, "-c", CHILD], input=asked, capture_output=True, text=True, check=False
    )
    answers = [
        json.loads(text.removeprefix("answer "))
        for text in run.stdout.splitlines()
        if text.startswith("answer ")
    ]
    if len(answers) != len(rows):
        sys.exit(f"{PACKAGE} answered {len(answers)} of {len(rows)} rows:\n{run.stderr[-2000:]}")
    return answers


def ours(rows: Sequence[ServeRow], split: str) -> Array:
    """Return our ratios, each row predicted by a fit that saw nothing of its model or GPU."""

    def key(row: ServeRow) -> str:
        return row.card.name if split == "model" else row.device.name

    ratios = np.empty((len(rows), 2))
    for value, rows_in, rows_out in held_out(rows, key):
        ratios[[key(row) == value for row in rows]] = serving_ratios(
            rows_out, fit_inference(rows_in)
        )
    return ratios


def main() -> None:
    """Print both errors on the rows that aiconfigurator has an answer for."""
    parser = argparse.ArgumentParser(description="aiconfigurator beside the estimate.")
    parser.add_argument("--install", action="store_true", help=f"create {VENV} first")
    python = install() if parser.parse_args().install else VENV / "bin" / "python"
    if not python.exists():
        sys.exit(f"{VENV} is not there: add --install")
    rows = inference_rows()
    answers = ask(python, rows)
    answered = np.array(["error" not in answer for answer in answers])
    print(f"{PACKAGE} has an answer for {answered.sum()} of {len(rows)} rows")
    for reason in sorted({str(answer["error"]) for answer in answers if "error" in answer})[:5]:
        print(f"  {reason}")
    if not answered.any():
        return
    measured = np.array([(row.ttft_ms, row.tpot_ms) for row in rows])
    theirs = np.full((len(rows), 2), np.nan)
    for i, answer in enumerate(answers):
        if answered[i]:
            theirs[i] = answer["ttft_ms"], answer["tpot_ms"]
    ratios = {
        "aiconfigurator": theirs / measured,
        "ours, model held out": ours(rows, "model"),
        "ours, GPU held out": ours(rows, "GPU"),
    }
    groups = {
        "all": answered,
        **{
            f"{model.rpartition('/')[2]}, {gpu}": answered
            & np.array([row.card.name == model and row.device.name == gpu for row in rows])
            for model, gpu in sorted({(row.card.name, row.device.name) for row in rows})
        },
    }
    for i, title in enumerate(("Time to first token", "Time per output token")):
        print(title)
        for group, chosen in groups.items():
            if chosen.any():
                print(f"  {group}")
                for name, ratio in ratios.items():
                    print(line(name, ratio[chosen, i], measured[chosen, i]))


if __name__ == "__main__":
    main()
