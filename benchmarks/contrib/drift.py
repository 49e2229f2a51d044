"""Drift: how often the check alarms although nothing has changed, and how much it takes to see.

    python benchmarks/contrib/drift.py [--checks 400] --keep

Questions and answers are Mahjong hands and what to wait for. Both samples of a check are drawn
alike, without a change for the false alarms, and with a part of the live ones spoilt for what is
found.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.contrib.drift.command import Response, shifts
from stratos.core.intervals import wilson
from stratos.tasks.mahjong import MahjongTask

ALPHA = 0.01
SIZES = ((200, 100), (400, 200))
"""Test items and live requests of a check."""
SHARES = (0.05, 0.1, 0.2)
CHANGES: dict[str, Callable[[Response], Response]] = {
    "": lambda request: request,
    "unread": lambda request: replace(request, answer="I do not know.", value=None),
    "reworded": lambda request: replace(
        request, question=f"Hello, please tell me: {request.question} Thank you."
    ),
}


@cache
def pool() -> list[Response]:
    """Return the questions with answers that all checks draw from, 3% of which cannot be read."""
    rng = random.Random(0)
    return [
        Response(item.question, item.answer, None if rng.random() < 0.03 else item.answer)
        for item in MahjongTask().items("train", 3000)
    ]


def alarms(size: tuple[int, int], seed: int, change: str, share: float) -> bool:
    """Return whether one check alarms."""
    n_before, n_now = size
    rng = random.Random(seed)
    both = rng.sample(pool(), n_before + n_now)
    spoil = CHANGES[change]
    now = [spoil(request) if rng.random() < share else request for request in both[n_before:]]
    return any(shift.is_shift for shift in shifts(both[:n_before], now, ALPHA, seed))


def measured(size: tuple[int, int], n_checks: int, change: str, share: float) -> dict[str, Any]:
    """Return how many checks alarm."""
    first_seed = 10_000 if change else 0
    n_alarms = sum(alarms(size, first_seed + i, change, share) for i in range(n_checks))
    interval = wilson(n_alarms, n_checks)
    return {
        "n_evaluated": size[0], "n_live": size[1], "change": change, "share": share,
        "n_checks": n_checks, "n_alarms": n_alarms, "low": interval.low, "high": interval.high,
    }  # fmt: skip


def main() -> None:
    """Count false alarms, and what is found."""
    parser = record.arguments(__doc__)
    parser.add_argument("--checks", type=int, default=400)
    options = parser.parse_args()
    rows = []
    for size in SIZES:
        rows.append(measured(size, options.checks, "", 0.0))
        rows += [
            measured(size, options.checks // 8, change, share)
            for change in ("unread", "reworded")
            for share in SHARES
        ]
    record.finish("drift", {"alpha": ALPHA, "rows": rows}, options, seed=0)


if __name__ == "__main__":
    main()
