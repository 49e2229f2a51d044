"""How often the rule for formats is wrong, exactly: all outcomes, by their probability.

    python benchmarks/serving/format_rule.py --keep

A format truly loses a share of the items; besides, `CHURN` of them change each way. The evaluation
had `RIGHT` of them right, and the limit is `deploy.max_loss_points=1`.
"""

from __future__ import annotations

import sys
from itertools import product
from math import exp, lgamma, log
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.evaluate.format_verdict import Verdict, verdict
from stratos.evaluate.metrics import difference_interval
from stratos.records import Export, Interval

ITEMS = (8, 100, 400, 1000)
LOSSES = (0.0, 1.0, 2.0, 5.0)
"""True points."""
CHURN = 0.005
RIGHT = 0.9
MOST = 1.0
"""`deploy.max_loss_points`."""
TINY = 1e-7
"""Probability of an outcome that is left out."""


def probability(lost: int, won: int, n: int, p_lost: float, p_won: float) -> float:
    """Return the multinomial probability of so many items lost and won."""
    same = n - lost - won
    ways = lgamma(n + 1) - lgamma(lost + 1) - lgamma(won + 1) - lgamma(same + 1)
    return exp(ways + lost * log(p_lost) + won * log(p_won) + same * log(1 - p_lost - p_won))


def judged(lost: int, won: int, n: int) -> Verdict:
    """Return the verdict of the product for one outcome."""
    low, high = difference_interval(lost, won, n)
    right = Interval(RIGHT, RIGHT, RIGHT)
    loss = Interval(100 * (lost - won) / n, 100 * low, 100 * high)
    return verdict(Export("x", 0, n, 0, right, right, loss, 1.0, 0.0, 0.0, 0.0, 1, 0.0, MOST), MOST)


def main() -> None:
    """Work out the probabilities, and keep them."""
    options = record.arguments(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    for n, points in product(ITEMS, LOSSES):
        p_lost = CHURN + points / 100
        verdicts, below = dict.fromkeys(Verdict, 0.0), 0.0
        for lost in range(min(n, round(n * p_lost * 3) + 20) + 1):
            for won in range(min(n - lost, round(n * CHURN * 3) + 20) + 1):
                if (p := probability(lost, won, n, p_lost, CHURN)) > TINY:
                    verdicts[judged(lost, won, n)] += p
                    below += p * (100 * (lost - won) / n <= MOST)
        shares = {verdict.name.lower(): p for verdict, p in verdicts.items()}
        rows.append({"items": n, "points": points, "estimate_within": below, **shares})
    record.finish("serving/format_rule", rows, options)


if __name__ == "__main__":
    main()
