"""What a large model's labels add to 500 of a user's own, by the command that a user types.

    python benchmarks/kinds/taught.py /data/real --teacher /data/real/recorded_teacher.py --keep

Real rows of `banking77/`: of its training rows 500 keep their label, spread evenly over the labels,
and the others have none. The teacher's answers to all of them were recorded, with their tokens and
milliseconds; `--teacher` is a program that serves them with a chat completions API. Its prices are
those that explain the recorded dollars of each answer. Test rows are read once.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from own_rows import Row, read, run

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

N_GOLD = 500
BUDGET_USD = 0.07
PRICES = {"input": 0.14, "cached_input": 0.0042, "output": 0.42}
"""Dollars of a million tokens."""


def named(rows: list[Row]) -> list[Row]:
    """Return rows with the names of labels as the teacher writes them."""
    return [{**row, "label": row["label"].replace("_", " ")} for row in rows]


def partly_labelled(rows: list[Row]) -> list[Row]:
    """Return rows of which some keep their label, as many of each label as of all others."""
    rows = random.Random(0).sample(rows, len(rows))
    places = defaultdict(list)
    for number, row in enumerate(rows):
        places[row["label"]].append(number)
    turns = [
        numbers[k] for k in range(len(rows)) for numbers in places.values() if k < len(numbers)
    ]
    gold = set(turns[:N_GOLD])
    return [row if k in gold else {"text": row["text"]} for k, row in enumerate(rows)]


def main() -> None:
    """Measure, print and perhaps keep."""
    parser = record.arguments(__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    options = parser.parse_args()
    folder = options.real / "banking77"
    train, test = (named(read(folder / f"{name}.jsonl")) for name in ("train", "test"))
    recordings = [str(folder / f"teacher_{name}.jsonl") for name in ("train", "test")]
    command = [sys.executable, str(options.teacher), *recordings, "--latency", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        prices = [f"teacher.usd_per_million_{name}_tokens={usd}" for name, usd in PRICES.items()]
        load_before = os.getloadavg()[0]
        more = [
            "task.unlabelled_path=rows.jsonl",
            "strategy.candidates.pseudo_labels.n_unlabelled=10000",
            "teacher=endpoint",
            f"teacher.base_url=http://127.0.0.1:{port}/v1",
            "teacher.model=recorded",
            "teacher.concurrency=64",
            *prices,
            f"limits.budget_usd={BUDGET_USD}",
        ]
        try:
            taught = run("classify", partly_labelled(train), test, more)
        finally:
            server.terminate()
    record.finish("kinds/taught", {**taught, "n_gold": N_GOLD, "load_before": load_before}, options)


if __name__ == "__main__":
    main()
