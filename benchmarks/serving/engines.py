"""What a bundle's server gives at 1, 2, 4, … requests in flight, by engine.

    python benchmarks/serving/engines.py outputs/…            folder of a run that has a bundle
    python benchmarks/serving/engines.py outputs/… --case sequential batching

Printed are requests and tokens per second of all requests together, the median latency, how many
answers equal those of the evaluation, and the server's CPU milliseconds per token, which another
process on the machine changes less than the clock. `--keep` keeps the figures as JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

from stratos.core.machine import group_seconds
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.load_test import load_test
from stratos.deploy.server import HOST, free_port, serving
from stratos.evaluate.answer_files import read_answers

CASES = {
    "sequential": (),
    "batching": ("--continuous-batching", "--cb-num-blocks", "512"),
    "batching, 64 blocks": ("--continuous-batching", "--cb-num-blocks", "64"),
    "batching, unbounded": ("--continuous-batching",),
}
IN_FLIGHT = (1, 2, 4, 8, 16)


def measure(run: Path, case: str, in_flight: tuple[int, ...], n_requests: int) -> list[dict]:
    """Return one row for each number of requests in flight."""
    kept = read_answers(run)[:n_requests]
    port, rows = free_port(), []
    arguments = [*serve_arguments(str(run / "bundle"), HOST, port), *CASES[case]]
    with serving(arguments, port=port, log_path=Path("/tmp/engines.log")) as server:
        for n in in_flight:
            cpu = group_seconds(server.process.pid)
            test = load_test(
                server,
                [answer.messages for answer in kept],
                max_tokens=768,
                concurrency=n,
                tick=lambda done, total: None,
            )
            cpu = group_seconds(server.process.pid) - cpu
            tokens = sum(answer.output_tokens for answer in test.answers)
            rows.append(
                {
                    "engine": case,
                    "in_flight": n,
                    "n_requests": len(kept),
                    "requests_per_s": round(test.requests_per_s, 3),
                    "tokens_per_s": round(test.tokens_per_s, 1),
                    "p50_ms": round(test.latency_ms(0.5), 1),
                    "p95_ms": round(test.latency_ms(0.95), 1),
                    "equal": sum(a.text == b.text for a, b in zip(test.answers, kept, strict=True)),
                    # One request goes ahead uncounted: its tokens are those of the mean.
                    "cpu_ms_per_token": round(1000 * cpu / (tokens * (1 + 1 / len(kept))), 3),
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure the engines, one after the other."""
    parser = argparse.ArgumentParser(description="Throughput of a bundle's server, by engine.")
    parser.add_argument("run", type=Path, help="folder of a run that has a bundle")
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES)[:2])
    parser.add_argument("--in-flight", nargs="+", type=int, default=list(IN_FLIGHT))
    parser.add_argument("--n-requests", type=int, default=24)
    parser.add_argument("--keep", action="store_true", help="keep the raw result")
    asked = parser.parse_args()
    rows = [
        row
        for case in asked.case
        for row in measure(asked.run, case, tuple(asked.in_flight), asked.n_requests)
    ]
    if asked.keep:
        keep("serving/engines", rows)


if __name__ == "__main__":
    main()
