r"""Packed rows of documents of unequal lengths: CPU seconds beside those of equal lengths.

    python benchmarks/distillation/heavy_tail.py --keep

Forward and backward passes of the 1M student over rows of about 4,096 tokens, on one thread. Each
corpus is compared with one of as many tokens whose documents all have its mean length: what is
above 1 is padding, more calls, and the attention of long documents itself, which grows with the
square of their length. Rows are those of the training's own loader, which puts documents of like
length together, and for `one long` a row that it cannot cut so: 154 documents of 20 tokens and one
of 1,000. `padded` is what the same rows would take as one batch padded to its longest document.
Ratios are medians over pairs of runs that follow each other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
ROW_TOKENS, ROWS, LONGEST = 4096, 24, 1024


def lengths_of(name: str) -> Any:
    """Return the documents' lengths in tokens."""
    import numpy as np

    rng, n_tokens = np.random.default_rng(0), ROW_TOKENS * ROWS
    if name == "one long":
        return np.tile([20] * 154 + [1000], ROWS)
    draw = {
        "lognormal, σ = 1": lambda n: rng.lognormal(4.0, 1.0, n),
        "Pareto, α = 1.5": lambda n: 20 * (1 + rng.pareto(1.5, n)),
    }[name]
    lengths = np.clip(draw(n_tokens), 8, LONGEST).astype(int)
    return lengths[: int(np.searchsorted(np.cumsum(lengths), n_tokens))]


CORPORA = ("one long", "lognormal, σ = 1", "Pareto, α = 1.5")


def rows_of(lengths: Any, name: str) -> list[Any]:
    """Return the rows of a corpus of random tokens."""
    import numpy as np

    from stratos.distill.data import Encoded, PackedLoader

    rng = np.random.default_rng(1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(5, 60, int(starts[-1])).astype(np.int32)
    data = Encoded(tokens, starts, np.minimum(10, lengths // 2))
    loader = PackedLoader(data, ROW_TOKENS, int(starts[-1]), 0)
    if name == "one long":
        return [loader.batch(np.arange(155 * row, 155 * (row + 1))) for row in range(ROWS)]
    return [loader.row(step) for step in range(loader.n_steps)]


def seconds(module: Any, rows: list[Any], dtype: str) -> float:
    """Return the CPU seconds of the passes over all rows."""
    import torch

    started = time.process_time()
    for row in rows:
        precision: Any = contextlib.nullcontext()
        if dtype == "bfloat16":
            precision = torch.autocast("cpu", torch.bfloat16)
        with precision:
            loss = module.loss(row)
        loss.backward()
        module.zero_grad(set_to_none=True)
    return time.process_time() - started


def main() -> None:
    """Measure the corpora and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    import numpy as np
    import torch
    import yaml
    from record import keep

    from stratos.config import StudentConfig, TrainerConfig
    from stratos.distill.module import StudentModule
    from stratos.distill.student_model import make_student
    from stratos.tasks.mahjong import MahjongTask

    torch.set_num_threads(1)
    plain = yaml.safe_load((ROOT / "conf" / "student" / "stratos_1m.yaml").read_text())
    plain.pop("runs", None)
    student = StudentConfig(**{**plain, "context_length": LONGEST})
    model, _ = make_student(student, MahjongTask().vocabulary(), [], 0)
    module = StudentModule(model, TrainerConfig(), 1)
    module.on_fit_start()
    found = []
    for name in CORPORA:
        lengths = lengths_of(name)
        mean = round(float(lengths.mean()))
        equal = np.full(int(lengths.sum()) // mean, mean)
        both = rows_of(lengths, name), rows_of(equal, "equal")
        n_tokens = [sum(row.tokens_1N.numel() for row in rows) for rows in both]
        padded = sum(int(row.document_ids_D.size * longest(row)) for row in both[0])
        for dtype in ("float32", "bfloat16"):
            for rows in both:
                seconds(module, rows[:3], dtype)
            runs = [[seconds(module, rows, dtype) for rows in both] for _ in range(options.runs)]
            times = [a / n_tokens[0] / (b / n_tokens[1]) for a, b in runs]
            one = {
                "corpus": name,
                "dtype": dtype,
                "documents": len(lengths),
                "tokens": n_tokens[0],
                "mean_length": mean,
                "longest": int(lengths.max()),
                "padded_places_per_token": padded / n_tokens[0],
                "seconds": runs,
                "times_equal_lengths": median(times),
            }
            found.append(one)
            print({name: value for name, value in one.items() if name != "seconds"}, flush=True)
    if options.keep:
        keep("distillation/heavy_tail", found, seed=0)


def longest(row: Any) -> int:
    """Return the length of the longest document of a row."""
    return int(row.positions_1N.max()) + 1


if __name__ == "__main__":
    main()
