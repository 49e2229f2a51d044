"""What a request and a token cost `transformers serve` on a CPU, by the model's shape.

    python benchmarks/serving/cpu.py --keep
    python benchmarks/serving/cpu.py --threads --keep     one thread and all, quiet and busy

Llamas of several depths and widths with random weights are served one after the other, with and
without continuous batching, and asked for 16 and for 128 tokens. Least squares of the server's CPU
seconds gives what `stratos/estimate/constants.py` holds, in small operations of this machine
(`stratos.estimate.fleet`), so that another machine needs its own measurement of those alone:

    a request, one after another   request + tokens · (step + layer · L + weights / bandwidth)
    a step of n at once            step + layer · L + n · (sequence + row · L) + weights / bandwidth

CPU seconds of a server with one thread: other work on the machine shows in them far less than in
the clock, though it takes caches away.

With `--threads`, Llamas answer one request at a time, with threads that wait as Stratos has them
wait. "Busy" is one process more that counts in a loop. What comes of it is
`stratos.deploy.bundle_server.ONE_THREAD_BYTES`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.config import StudentConfig
from stratos.core.machine import group_seconds
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.load_test import LoadTest, load_test
from stratos.deploy.server import HOST, Server, free_port, serving
from stratos.estimate.fleet import measure

SHAPES = ((2, 128, 4), (4, 64, 2), (4, 128, 4), (6, 192, 6), (12, 256, 8), (24, 384, 6))
"""Blocks, width and heads."""
THREADS_SHAPES = ((4, 128, 4), (12, 256, 8), (24, 384, 6), (16, 768, 12))
N_REQUESTS = 8
BATCHING = ("--continuous-batching", "--cb-num-blocks", "64")
CASES = ((False, 16, 1), (False, 128, 1), (True, 128, 1), (True, 128, 4), (True, 128, 8))
"""Whether batched, tokens, and requests in flight."""
QUESTION = "How many of these numbers are even: 12, 7, 40, 3, 8, 95, 66, 1? Answer with a number."


def make(folder: Path, n_layers: int, hidden: int, n_heads: int) -> int:
    """Save a Llama with random weights that never ends by itself; return its parameters."""
    from stratos.distill.tokenizer import make_student, save_student

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


def ask(server: Server, tokens: int, concurrency: int, n: int = N_REQUESTS) -> LoadTest:
    """Ask a server the question so many times."""
    return load_test(
        server,
        [[{"role": "user", "content": QUESTION}]] * n,
        max_tokens=tokens,
        concurrency=concurrency,
        tick=lambda done, total: None,
    )


def started(folder: Path, *more: str) -> Any:
    """Return a server of a model folder, as a context."""
    port = free_port()
    command = [*serve_arguments(str(folder), HOST, port), *more]
    return serving(command, port=port, log_path=folder.parent / "server.log")


def rows_of(folder: Path, n_layers: int, n_params: int) -> list[dict[str, Any]]:
    """Return a row for each engine, number of tokens and number in flight."""
    rows = []
    for is_batched, tokens, concurrency in CASES:
        with started(folder, *(BATCHING if is_batched else ())) as server:
            before = group_seconds(server.process.pid)
            test = ask(server, tokens, concurrency)
            seconds = group_seconds(server.process.pid) - before
        answered = np.mean([answer.output_tokens for answer in test.answers])
        rows.append(
            {
                "batching": is_batched,
                "n_layers": n_layers,
                "n_params": n_params,
                "in_flight": concurrency,
                "tokens": round(float(answered), 1),
                # One more goes ahead of them, alone.
                "cpu_s_per_request": round(seconds / (N_REQUESTS + 1), 5),
                "wall_s_per_request": round(test.seconds / N_REQUESTS, 5),
            }
        )
    return rows


def fitted(rows: list[dict[str, Any]], bytes_per_s: float) -> dict[str, float]:
    """Return seconds of a request, a step, a block, a sequence and its block, by least squares."""
    alone = [row for row in rows if not row["batching"]]
    request, step, layer = _solve(
        [[1.0, row["tokens"], row["tokens"] * row["n_layers"]] for row in alone],
        [
            row["cpu_s_per_request"] - row["tokens"] * 4 * row["n_params"] / bytes_per_s
            for row in alone
        ],
    )
    together = [row for row in rows if row["batching"]]
    cb_step, cb_layer, sequence, row_s = _solve(
        [
            [1.0, row["n_layers"], row["in_flight"], row["in_flight"] * row["n_layers"]]
            for row in together
        ],
        [
            (row["cpu_s_per_request"] - request) * row["in_flight"] / row["tokens"]
            - 4 * row["n_params"] / bytes_per_s
            for row in together
        ],
    )
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
    return nnls(x / y[:, None], np.ones(len(y)))[0].tolist()


def costs(folder: Path) -> dict[str, Any]:
    """Serve each shape, and fit."""
    os.environ["OMP_NUM_THREADS"] = "1"
    machine, rows = measure(), []
    for i, shape in enumerate(SHAPES):
        bundle = folder / f"bundle{i}"
        rows += rows_of(bundle, shape[0], make(bundle, *shape))
    seconds = fitted(rows, machine.bytes_per_s)
    return {
        "operation_s": machine.operation_s,
        "bytes_per_s": machine.bytes_per_s,
        "seconds": {name: float(f"{value:.3g}") for name, value in seconds.items()},
        "operations": {name: round(value / machine.operation_s) for name, value in seconds.items()},
        "rows": rows,
    }


def threads(folder: Path) -> dict[str, Any]:
    """Serve each shape on one thread and on all, beside nothing and beside a busy process."""
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"})
    most, rows = len(os.sched_getaffinity(0)), []

    def ms_per_token(bundle: Path, n_threads: int) -> float:
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        with started(bundle) as server:
            test = ask(server, tokens=64, concurrency=1, n=4)
        return 1000 * test.seconds / sum(answer.output_tokens for answer in test.answers)

    for i, shape in enumerate(THREADS_SHAPES):
        bundle = folder / f"bundle{i}"
        n_params = make(bundle, *shape)
        for is_busy in (False, True):
            counter = "while True: pass" if is_busy else ""
            with subprocess.Popen([sys.executable, "-c", counter]) as loop:
                alone, together = (ms_per_token(bundle, n) for n in (1, most))
                loop.kill()
            rows.append(
                {
                    "n_params": n_params,
                    "busy": is_busy,
                    "n_threads": most,
                    "one_thread_ms_per_token": round(alone, 3),
                    "all_threads_ms_per_token": round(together, 3),
                }
            )
    return {"rows": rows}


def main() -> None:
    """Measure costs, or threads."""
    parser = record.arguments(__doc__)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    name, measured = ("threads", threads) if options.threads else ("cpu", costs)
    with tempfile.TemporaryDirectory() as folder:
        result = measured(Path(folder))
    record.finish(f"serving/{name}", result, options, seed=0)


if __name__ == "__main__":
    main()
