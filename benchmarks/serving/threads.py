"""How fast `transformers serve` is on one CPU thread and on all, on a quiet machine and a busy one.

    python benchmarks/serving/threads.py --keep

Llamas of several sizes with random weights answer one request at a time, with threads that wait as
Stratos has them wait. "Busy" is one process more that counts in a loop. What comes of it is
`stratos.deploy.bundle_server.ONE_THREAD_BYTES`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from cpu import QUESTION, make
from record import keep

from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.load_test import load_test
from stratos.deploy.server import HOST, free_port, serving

SHAPES = ((4, 128, 4), (12, 256, 8), (24, 384, 6), (16, 768, 12))
"""Blocks, width and heads."""
TOKENS = 64
N_REQUESTS = 4
LOOP = "while True: pass"


def ms_per_token(bundle: Path, n_threads: int) -> float:
    """Return milliseconds of a token of a server with so many threads."""
    port = free_port()
    chat = [{"role": "user", "content": QUESTION}]
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    with serving(
        serve_arguments(str(bundle), HOST, port), port=port, log_path=bundle / "server.log"
    ) as server:
        test = load_test(
            server,
            [chat] * N_REQUESTS,  # type: ignore[list-item]
            max_tokens=TOKENS,
            concurrency=1,
            tick=lambda done, total: None,
        )
    n_tokens = sum(answer.output_tokens for answer in test.answers)
    return round(1000 * test.seconds / n_tokens, 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Threads of transformers serve.")
    parser.add_argument("--keep", action="store_true", help="keep the raw result")
    asked = parser.parse_args()
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"})
    most = len(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, shape in enumerate(SHAPES):
            bundle = Path(folder) / f"bundle{i}"
            n_params = make(bundle, *shape)
            for busy in (False, True):
                loop = subprocess.Popen([sys.executable, "-c", LOOP]) if busy else None
                try:
                    found = {n: ms_per_token(bundle, n) for n in (1, most)}
                finally:
                    if loop:
                        loop.kill()
                rows.append(
                    {"n_params": n_params, "busy": busy, "n_threads": most}
                    | {"one_thread_ms_per_token": found[1], "all_threads_ms_per_token": found[most]}
                )
                print(rows[-1], flush=True)
    if asked.keep:
        keep("serving/threads", {"rows": rows}, seed=0)


if __name__ == "__main__":
    main()
