"""Time to first token under load: the queue model beside a CPU server that streams its answers.

    python benchmarks/serving/first_token.py --keep

`transformers serve` answers with a small random model, one after another and four at once. For each
load the answers are timed first without a queue (closed loop with all slots busy), then requests
come at random moments (open loop). The model is given the seconds of the former alone:

    time to first token = first token without a queue + C · θ       (stratos/estimate/queueing.py)

`replayed` is a queue of as many slots with the moments of the very requests, and the seconds that
an answer took while they came: what of the difference is chance of the moments, and the machine.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from cpu import QUESTION, make
from record import keep

from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.deploy.load_test import LoadTest, OpenLoop, load_test, open_loop
from stratos.deploy.server import HOST, Server, free_port, serving
from stratos.estimate.queueing import busy_probability, wait_of_waiting
from stratos.records import ServingSetting

SETTINGS = (Transformers().setting(), TransformersBatching().setting(4))
SHARES = (0.3, 0.5, 0.7)
"""Of the capacity that the closed loop showed."""

MAX_TOKENS, CONTEXT = 24, 512
N_CLOSED, N_OPEN = 24, 100
CHATS: list[list[Any]] = [[{"role": "user", "content": QUESTION}]]


def first_ms(test: LoadTest) -> list[float]:
    """Return milliseconds to the first token of each answer."""
    return [1000 * one.first_token for one in test.answers if one.first_token is not None]


def predicted_ms(busy: LoadTest, requests_per_s: float, slots: int) -> float:
    """Return the mean time to first token that the queue model expects under a rate."""
    utilisation = requests_per_s / busy.requests_per_s
    mean = busy.mean_seconds
    square = mean**2 * (1 + busy.variation**2)
    wait = busy_probability(slots, utilisation) * wait_of_waiting(slots, utilisation, mean, square)
    return fmean(first_ms(busy)) + 1000 * float(wait)


def replayed_ms(test: OpenLoop, first_alone_ms: float, slots: int) -> float:
    """Return the mean time to first token of a queue with these moments and these answers."""
    free, found = [0.0] * slots, []
    for one in sorted(test.answers, key=lambda answer: answer.due):
        # After the first token nothing waits any more: what follows is the answer's own pace.
        answer_s = first_alone_ms / 1000 + one.seconds - (one.first_token or 0.0)
        start = max(heapq.heappop(free), one.due)
        heapq.heappush(free, start + answer_s)
        found.append(1000 * (start - one.due) + first_alone_ms)
    return fmean(found)


def under_load(server: Server, run: ServingSetting, share: float, seed: int) -> dict[str, Any]:
    """Return a line: predicted and measured at a share of the capacity."""
    busy = load_test(
        server,
        CHATS * N_CLOSED,
        max_tokens=MAX_TOKENS,
        concurrency=run.slots,
        tick=lambda done, total: None,
        stream=True,
    )
    rate = share * busy.requests_per_s
    test: OpenLoop = open_loop(
        server,
        CHATS,
        requests_per_s=rate,
        n_requests=N_OPEN,
        max_tokens=MAX_TOKENS,
        seed=seed,
        tick=lambda done, total: None,
        stream=True,
    )
    first, first_alone = first_ms(test), fmean(first_ms(busy))
    own = [one.seconds - (one.first_token or 0.0) for one in test.answers]
    return {
        "engine": run.engine,
        "slots": run.slots,
        "share": share,
        "requests_per_s": round(rate, 3),
        "capacity_per_s": round(busy.requests_per_s, 3),
        "answer_ms": round(1000 * busy.mean_seconds, 1),
        "variation": round(busy.variation, 3),
        "first_token_without_queue_ms": round(first_alone, 1),
        "answer_under_load_ms": round(first_alone + 1000 * fmean(own), 1),
        "predicted_ms": round(predicted_ms(busy, rate, run.slots), 1),
        "replayed_ms": round(replayed_ms(test, first_alone, run.slots), 1),
        "measured_ms": round(fmean(first), 1),
        # Waits of neighbours are alike: the error of the mean is larger than this.
        "least_error_ms": round(stdev(first) / len(first) ** 0.5, 1),
        "n_requests": len(first),
        "kept_up": test.kept_up,
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time to first token under load on a CPU.")
    parser.add_argument("--keep", action="store_true", help="keep the raw result")
    parser.add_argument("--rounds", type=int, default=3, help="times that each load is measured")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        make(bundle, 4, 128, 4)
        for run in SETTINGS:
            port = free_port()
            arguments = serve_arguments(str(bundle), HOST, port, run, context=CONTEXT)
            with serving(arguments, port=port, log_path=Path(folder) / "server.log") as server:
                for seed in range(asked.rounds):
                    for share in SHARES:
                        rows.append({"round": seed, **under_load(server, run, share, seed)})
                        print(rows[-1], flush=True)
    if asked.keep:
        keep("serving/first_token", rows, seed=0)


if __name__ == "__main__":
    main()
