"""What a request and a token cost `transformers serve` on a CPU, by the model's shape.

    python benchmarks/serving/cpu.py --keep

Llamas of several depths and widths with random weights are served one after the other, with and
without continuous batching, and asked for 16 and for 128 tokens. Least squares of the server's CPU
seconds gives what `stratos/estimate/constants.py` holds, in small operations of this machine
(`stratos.estimate.fleet`), so that another machine needs its own measurement of those alone:

    a request, one after another   request + tokens · (step + layer · L + weights / bandwidth)
    a step of n at once            step + layer · L + n · (sequence + row · L) + weights / bandwidth

CPU seconds of a server with one thread: other work on the machine shows in them far less than in
the clock, though it takes caches away.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

from stratos.config import StudentConfig
from stratos.core.machine import group_seconds
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.load_test import load_test
from stratos.deploy.server import HOST, free_port, serving
from stratos.estimate.fleet import measure

SHAPES = ((2, 128, 4), (4, 64, 2), (4, 128, 4), (6, 192, 6), (12, 256, 8), (24, 384, 6))
"""Blocks, width and heads."""

TOKENS = (16, 128)
IN_FLIGHT = (1, 4, 8)
N_REQUESTS = 8
BATCHING = ("--continuous-batching", "--cb-num-blocks", "64")
QUESTION = "How many of these numbers are even: 12, 7, 40, 3, 8, 95, 66, 1? Answer with a number."


def make(folder: Path, n_layers: int, hidden: int, n_heads: int) -> int:
    """Save a Llama with random weights that never ends by itself; return its parameters."""
    from stratos.distill.student_model import make_student, save_student

    student = StudentConfig(
        name="random",
        hidden_size=hidden,
        n_layers=n_layers,
        n_heads=n_heads,
        intermediate_size=3 * hidden,
    )
    model, tokenizer = make_student(student, None, [QUESTION] * 50, seed=0)
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None
    save_student(model, tokenizer, folder)
    return int(model.num_parameters())


def rows_of(folder: Path, shape: tuple[int, int, int], n_params: int) -> list[dict[str, Any]]:
    """Return a row for each engine, number of tokens and number in flight."""
    rows = []
    for batching in (False, True):
        port = free_port()
        arguments = serve_arguments(str(folder), HOST, port)
        arguments += BATCHING if batching else ()
        with serving(arguments, port=port, log_path=folder.parent / "server.log") as server:
            for tokens in TOKENS if not batching else TOKENS[1:]:
                for n in IN_FLIGHT if batching else IN_FLIGHT[:1]:
                    before = group_seconds(server.process.pid)
                    test = load_test(
                        server,
                        [[{"role": "user", "content": QUESTION}]] * N_REQUESTS,
                        max_tokens=tokens,
                        concurrency=n,
                        tick=lambda done, total: None,
                    )
                    seconds = group_seconds(server.process.pid) - before
                    given = np.mean([one.output_tokens for one in test.answers])
                    rows.append(
                        {
                            "batching": batching,
                            "n_layers": shape[0],
                            "hidden": shape[1],
                            "n_params": n_params,
                            "in_flight": n,
                            "tokens": round(float(given), 1),
                            # One more goes ahead of them, alone.
                            "cpu_s_per_request": round(seconds / (N_REQUESTS + 1), 5),
                            "wall_s_per_request": round(test.seconds / N_REQUESTS, 5),
                        }
                    )
                    print(rows[-1], flush=True)
    return rows


def fitted(rows: list[dict[str, Any]], bytes_per_s: float) -> dict[str, float]:
    """Return seconds of a request, a step, a block, a sequence and its block, by least squares."""
    alone = [row for row in rows if not row["batching"]]
    design = [[1.0, row["tokens"], row["tokens"] * row["n_layers"]] for row in alone]
    seconds = [
        row["cpu_s_per_request"] - row["tokens"] * 4 * row["n_params"] / bytes_per_s
        for row in alone
    ]
    request, step, layer = _solve(design, seconds)
    together = [row for row in rows if row["batching"]]
    design, steps = [], []
    for row in together:
        n, layers = row["in_flight"], row["n_layers"]
        design.append([1.0, layers, n, n * layers])
        steps.append(
            (row["cpu_s_per_request"] - request) * n / row["tokens"]
            - 4 * row["n_params"] / bytes_per_s
        )
    cb_step, cb_layer, sequence, row_s = _solve(design, steps)
    return {
        "request_s": request,
        "step_s": step,
        "layer_s": layer,
        "batching_step_s": cb_step,
        "batching_layer_s": cb_layer,
        "batching_sequence_s": sequence,
        "batching_row_s": row_s,
    }


def _solve(design: list[list[float]], seconds: list[float]) -> list[float]:
    """Return non-negative coefficients that minimise relative errors."""
    x, y = np.array(design), np.array(seconds)
    weight = 1.0 / y
    active = list(range(x.shape[1]))
    while True:
        found = np.linalg.lstsq(x[:, active] * weight[:, None], y * weight, rcond=None)[0]
        if (found >= 0).all():
            break
        active = [a for a, value in zip(active, found, strict=True) if value >= 0]
    result = np.zeros(x.shape[1])
    result[active] = found
    return result.tolist()


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description="CPU seconds of transformers serve.")
    parser.add_argument("--keep", action="store_true", help="keep the raw result")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    machine = measure()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, shape in enumerate(SHAPES):
            bundle = Path(folder) / f"bundle{i}"
            rows += rows_of(bundle, shape, make(bundle, *shape))
    seconds = fitted(rows, machine.bytes_per_s)
    figures = {
        "operation_s": machine.operation_s,
        "bytes_per_s": machine.bytes_per_s,
        "seconds": {name: float(f"{value:.3g}") for name, value in seconds.items()},
        "operations": {name: round(value / machine.operation_s) for name, value in seconds.items()},
        "rows": rows,
    }
    print(figures["seconds"], figures["operations"])
    if asked.keep:
        keep("serving/cpu", figures, seed=0)


if __name__ == "__main__":
    main()
