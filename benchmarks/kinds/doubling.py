"""What twice the rows bring, beside what a learning curve said they would bring.

Of each set rows are drawn once and once more as many; the curve sees the first alone. What the
second half brings is measured on rows that neither has.

    python benchmarks/kinds/doubling.py --sets banking77=/data/banking77/train.jsonl --keep

A set is JSON lines with `text` and `label`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import arguments, finish

from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Tfidf
from stratos.probe.kind_probes import learning_curve

SIZES, SEEDS, MOST_TESTED = (150, 300, 500, 1_000), (0, 1, 2), 3_000
KIND = "linear"


def trials(name: str, path: Path) -> Iterator[dict[str, Any]]:
    """Yield what was said and what came, of each size and draw."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = sorted({row["text"]: row["label"] for row in rows}.items())
    for n in SIZES:
        for seed in SEEDS if 3 * n <= len(pairs) else ():
            drawn = random.Random(seed).sample(pairs, min(len(pairs), 2 * n + MOST_TESTED))
            studies = [Study(*zip(*drawn[:k], strict=True), [Tfidf()]) for k in (n, 2 * n)]
            tested, gold = zip(*drawn[2 * n :], strict=True)
            right = [
                np.mean(
                    [p.text == g for p, g in zip(s.fit(KIND).predict(tested), gold, strict=True)]
                )
                for s in studies
            ]
            curve = learning_curve(studies[0], KIND)
            interval = [curve.gain_low, curve.gain_high]
            gain, points = float(right[1] - right[0]), curve.points
            yield {
                "set": name,
                "n": n,
                "seed": seed,
                "said": interval,
                "gain": gain,
                "points": points,
            }


def main() -> None:
    """Measure the sets that were named, and say how often an interval held what came."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=FILE")
    options = parser.parse_args()
    sets = [each.partition("=") for each in options.sets]
    lines = [line for name, _, path in sets for line in trials(name, Path(path))]
    within = [line["said"][0] <= line["gain"] <= line["said"][1] for line in lines]
    result = {"kind": KIND, "trials": lines, "n": len(within), "n_within": sum(within)}
    finish("kinds/doubling", result, options)


if __name__ == "__main__":
    main()
