"""How often the load test is wrong about whether a server keeps up, by simulated servers.

    python benchmarks/serving/keeping_up.py --keep

Requests come at random moments (Poisson) to a server of some slots, which is asked for a share of
what it can do; answers take times of three kinds. The test looks after each part, as `deploy` does
after each `deploy.load_seconds`, and goes on while it is not sure.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.deploy.load_test import LOOKS, KeepingUp, keeping_up

PART_S = 15.0
SHARES = (0.7, 0.85, 0.95, 1.05, 1.1, 1.2, 1.4)
"""Of the capacity."""
SLOTS = (1, 4, 16)
REQUESTS = (10, 30, 100, 400)
"""Of a part."""
_SIGMA = math.sqrt(math.log(2))
TIMES: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda rng: rng.uniform(0.7, 1.3),
    "exponential": lambda rng: rng.expovariate(1.0),
    "lognormal": lambda rng: rng.lognormvariate(-(_SIGMA**2) / 2, _SIGMA),
}
"""Time of an answer over its mean: variation 0.17, 1 and 1."""


def test(slots: int, n: int, share: float, times: str, seed: int) -> tuple[KeepingUp, int]:
    """Return what a test of one simulated server shows, and its parts."""
    rng, rate = random.Random(f"{slots} {n} {share} {times} {seed}"), n / PART_S
    mean_s, free = share * slots / rate, [0.0] * slots
    spans: list[tuple[float, float]] = []
    for part in range(1, LOOKS + 1):
        until = part * PART_S
        for due in sorted(rng.uniform(until - PART_S, until) for _ in range(n)):
            end = max(due, heapq.heappop(free)) + mean_s * TIMES[times](rng)
            heapq.heappush(free, end)
            spans.append((due, end))
        seen = [(due, end if end <= until else math.inf) for due, end in spans]
        verdict = keeping_up(seen, rate, until, slots)
        if verdict.is_sure:
            break
    return verdict, part


def measured(n_seeds: int) -> list[dict[str, Any]]:
    """Return how many verdicts were right, and sure, by number of requests and share."""
    rows = []
    for n, share in itertools.product(REQUESTS, SHARES):
        right = sure = wrong = parts = total = 0
        for slots, times, seed in itertools.product(SLOTS, TIMES, range(n_seeds)):
            verdict, n_parts = test(slots, n, share, times, seed)
            is_right = verdict.keeps_up == (share < 1)
            total, parts = total + 1, parts + n_parts
            right, sure = right + is_right, sure + verdict.is_sure
            wrong += verdict.is_sure and not is_right
        row = {"requests": n, "share": share, "tests": total, "right": right, "sure": sure}
        rows.append({**row, "sure_and_wrong": wrong, "mean_parts": parts / total})
    return rows


def main() -> None:
    """Simulate, and keep what came."""
    parser = record.arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    record.finish("serving/keeping_up", measured(options.seeds), options, seed=0)


if __name__ == "__main__":
    main()
