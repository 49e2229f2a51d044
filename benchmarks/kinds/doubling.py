"""Accuracy and what twice the rows bring, beside what was said of both before.

Of each set rows are drawn once and once more as many; the curve sees the first alone. What the
second half brings the chosen kind is measured on test rows, whose own error the interval does not
hold. `stratos look` and the probe show the interval from 150 rows on; 50 rows are tried, too.

    python benchmarks/kinds/doubling.py --wheels /tmp/wheels --real /data/real --keep

Set before the measurement: intervals hold in nine of ten trials from 200 rows on. The accuracy is
that of the chosen kind, by cross-validation of the same rows, as a plan has it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from label_sets import SETS, LabelSet, Remembered, Row
from next_rows import STUDENTS, TASKS
from record import arguments, finish

from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Features
from stratos.models.kinds.learnt_rows import blocks_of
from stratos.probe.kind_probes import learning_curve

SIZES, N_TEST, MOST_CHARACTERS = (50, 200, 500), 1_000, 1_000


def trials(
    name: str, rows: LabelSet, blocks: Sequence[Features], seeds: int
) -> list[dict[str, Any]]:
    """Return what was said and what came, of each size and draw."""
    train, test = (
        [(text[:MOST_CHARACTERS], label) for text, label in part]
        for part in (rows.train, rows.test)
    )
    test = random.Random(0).sample(test, min(N_TEST, len(test)))
    # Draws of one small part share their texts, which an encoder reads once.
    train = train[: 3 * max(SIZES)]
    found = []
    for n in SIZES:
        for seed in range(seeds) if 2 * n <= len(train) else ():
            drawn = random.Random(seed).sample(train, 2 * n)
            half, whole = (Study(*zip(*drawn[:k], strict=True), blocks, seed) for k in (n, 2 * n))
            choice = half.choose()
            kind = choice.kind
            curve = learning_curve(half, kind)
            before, after = (right(study, kind, test) for study in (half, whole))
            found.append(
                {
                    "set": name,
                    "n": n,
                    "seed": seed,
                    "kind": kind,
                    "predicted": [choice.low, choice.accuracy, choice.high],
                    "said": [curve.gain_low, curve.gain_high],
                    "gain": after - before,
                    "right": [before, after],
                    "points": curve.points,
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def right(study: Study, kind: str, test: Sequence[Row]) -> float:
    """Return the share of test rows that a kind has right, having learnt the rows of a study."""
    texts, labels = zip(*test, strict=True)
    answers = study.fit(kind).predict(texts)
    return float(np.mean([a.text == label for a, label in zip(answers, labels, strict=True)]))


def held(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how often an interval held what came, and how wide it was."""
    inside = [line["said"][0] <= line["gain"] <= line["said"][1] for line in lines]
    below = [line["gain"] < line["said"][0] for line in lines]
    widths = [line["said"][1] - line["said"][0] for line in lines]
    low, mean, high = np.transpose([line["predicted"] for line in lines])
    reached = np.array([line["right"][0] for line in lines])
    return {
        "n": len(lines),
        "n_within": sum(inside),
        "n_below": sum(below),
        "median_width": float(np.median(widths)),
        "median_gain": float(np.median([line["gain"] for line in lines])),
        "n_accuracy_within": int(((low <= reached) & (reached <= high)).sum()),
        "median_accuracy_width": float(np.median(high - low)),
        "mean_accuracy_above": float((mean - reached).mean()),
    }


def main() -> None:
    """Measure, and say of each size how often the interval held what came."""
    parser = arguments(__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    *fitted, encoder = blocks_of(STUDENTS)
    lines: list[dict[str, Any]] = []
    for name in options.tasks:
        rows = SETS[name](options.wheels, options.real)
        lines += trials(name, rows, [*fitted, Remembered(encoder)], options.seeds)
    sizes = {str(n): held([line for line in lines if line["n"] == n]) for n in SIZES}
    finish("kinds/doubling", {"sizes": sizes, "trials": lines}, options)


if __name__ == "__main__":
    main()
