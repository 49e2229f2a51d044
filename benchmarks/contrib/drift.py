"""Drift: how often the check alarms although nothing has changed, and how much it takes to see.

    python benchmarks/contrib/drift.py [--checks 400]

Questions and answers are Mahjong hands and what to wait for. Both samples of a check are drawn
alike, without a change for the false alarms, and with a part of the live ones spoilt for what is
found.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.contrib.drift.shifts import Asked, shifts
from stratos.core.intervals import wilson
from stratos.tasks.mahjong import MahjongTask

ALPHA = 0.01
SIZES = ((200, 100), (400, 200))
"""Test items and live requests of a check."""


@cache
def pool() -> list[Asked]:
    """Return the questions with answers that all checks draw from, 3% of which cannot be read."""
    task, rng = MahjongTask(), random.Random(0)
    items = task.items("train", 3000)
    return [
        Asked(one.question, one.answer, None if rng.random() < 0.03 else one.answer)
        for one in items
    ]


def unread(one: Asked) -> Asked:
    """Spoil the answer."""
    return replace(one, answer="I do not know.", value=None)


def longer(one: Asked) -> Asked:
    """Wrap the question in other words."""
    return replace(one, question=f"Hello, please tell me: {one.question} Thank you.")


CHANGES: dict[str, Callable[[Asked], Asked]] = {"unread": unread, "reworded": longer}
SHARES = (0.05, 0.1, 0.2)


def main() -> None:
    """Measure both, and keep them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checks", type=int, default=400)
    n = parser.parse_args().checks
    rows = []
    for n_before, n_now in SIZES:
        alarms = sum(_alarms(n_before, n_now, seed) for seed in range(n))
        found = wilson(alarms, n)
        rows.append({
            "n_evaluated": n_before, "n_live": n_now, "change": "", "share": 0.0, "n_checks": n,
            "n_alarms": alarms, "low": found.low, "high": found.high,
        })  # fmt: skip
        print(rows[-1], flush=True)
        for name, change in CHANGES.items():
            for share in SHARES:
                k = n // 8
                alarms = sum(_alarms(n_before, n_now, 10_000 + i, change, share) for i in range(k))
                found = wilson(alarms, k)
                rows.append({
                    "n_evaluated": n_before, "n_live": n_now, "change": name, "share": share,
                    "n_checks": k, "n_alarms": alarms, "low": found.low, "high": found.high,
                })  # fmt: skip
                print(rows[-1], flush=True)
    record.keep("drift", {"alpha": ALPHA, "rows": rows}, seed=0)


def _alarms(
    n_before: int,
    n_now: int,
    seed: int,
    change: Callable[[Asked], Asked] = lambda one: one,
    share: float = 0.0,
) -> bool:
    rng = random.Random(seed)
    both = rng.sample(pool(), n_before + n_now)
    now = [change(one) if rng.random() < share else one for one in both[n_before:]]
    return any(one.is_shift for one in shifts(both[:n_before], now, ALPHA, seed))


if __name__ == "__main__":
    main()
