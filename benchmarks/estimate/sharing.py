"""Answers that share a processor: the 95th percentile under random arrivals, by simulation.

    python benchmarks/estimate/sharing.py            writes stratos/estimate/sharing.toml

An engine whose step takes as much longer as there are sequences in it answers few at once faster
than many. With c slots, an answer among n takes S(n) of what one takes with all slots busy,

    S(n) = r + (1 - r) · (n - 1) / (c - 1)

Requests come as a Poisson process that keeps the share ρ of c / S(c) busy; those that find all
slots busy wait in order. Work is lognormal, as `queueing` has it. The table has the percentile over
S(c) for each c, r and ρ.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Sequence
from pathlib import Path

from stratos.estimate.queueing import spread

SLOTS = (2, 4, 8, 16, 32, 64)
RATIOS = (0.06, 0.125, 0.2, 0.3, 0.45, 0.65, 1.0)
BUSY = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
N_REQUESTS = 60_000
FILE = Path(__file__).parents[2] / "stratos" / "estimate" / "sharing.toml"


def p95(slots: int, ratio: float, busy: float, n: int = N_REQUESTS, seed: int = 0) -> float:
    """Return the 95th percentile of wait and answer, over an answer with all slots busy."""
    return p95_by_size(slots, ratio, busy, (1.0,), (1.0,), n, seed)[0]


def p95_by_size(
    slots: int,
    ratio: float,
    busy: float,
    sizes: Sequence[float],
    weights: Sequence[float],
    n: int = N_REQUESTS,
    seed: int = 0,
) -> list[float]:
    """Return the same for each of several sizes on one server, in seconds.

    Args:
        slots: answers at once.
        ratio: r of every size.
        busy: share ρ of what it answers at most.
        sizes: seconds of an answer with all slots busy.
        weights: share of each size in the requests; they add up to 1.
        n: requests that are answered; the first tenth of each size is left out.
        seed: of arrivals and work.
    """
    rng, sigma = random.Random(seed), spread()
    rate = busy * slots / sum(w * size for w, size in zip(weights, sizes, strict=True))

    def slow(n: int) -> float:
        return ratio + (1 - ratio) * (n - 1) / (slots - 1)

    # All that are answered advance alike: one clock of work for all, and a heap of its ends.
    now = work = 0.0
    arrival, arrived = rng.expovariate(rate), 0
    answered: list[tuple[float, float, int]] = []
    waiting: list[tuple[float, int]] = []
    seconds: list[list[float]] = [[] for _ in sizes]
    while sum(map(len, seconds)) < n:
        end = now + (answered[0][0] - work) * slow(len(answered)) if answered else math.inf
        if arrival < end and arrived < n:
            if answered:
                work += (arrival - now) / slow(len(answered))
            now = arrival
            size = rng.choices(range(len(sizes)), weights)[0] if len(sizes) > 1 else 0
            waiting.append((now, size))
            arrived += 1
            arrival = now + rng.expovariate(rate)
        else:
            work, began, size = heapq.heappop(answered)
            now = end
            seconds[size].append(now - began)
        if waiting and len(answered) < slots:
            began, size = waiting.pop(0)
            needed = sizes[size] * rng.lognormvariate(-(sigma**2) / 2, sigma)
            heapq.heappush(answered, (work + needed, began, size))
    late = [sorted(times[len(times) // 10 :]) for times in seconds]
    return [times[int(0.95 * len(times))] for times in late]


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    lines = [
        "# Written by benchmarks/estimate/sharing.py: 95th percentile over an answer with all",
        "# slots busy. A row for each of `ratios`, a column for each of `busy`.",
        f"ratios = {list(RATIOS)}",
        f"busy = {list(BUSY)}",
    ]
    for slots in SLOTS:
        lines.append(f"\n[slots.{slots}]\np95 = [")
        for ratio in RATIOS:
            row = [round(p95(slots, ratio, busy), 3) for busy in BUSY]
            print(slots, ratio, row, flush=True)
            lines.append(f"  {row},")
        lines.append("]")
    FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
