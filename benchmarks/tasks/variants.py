"""Variants of GSM8K's training rows: how many rows give some, how fast, and what they look like.

    python benchmarks/tasks/variants.py --data gsm8k --show 40 > read_me.txt
    python benchmarks/tasks/variants.py --data gsm8k --read 40 --right 40 --sensible 39

Every training row is traced once, and `--n` variants are drawn. With `--show`, as many of the first
5,000 are printed, chosen by the seed, for somebody to read; what the reader found goes into the
second command: how many were read, of how many the solution is right, and how many are problems
that somebody could pose. The data are `train.jsonl` and `test.jsonl` of
github.com/openai/grade-school-math in one folder.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.contrib.variants.exchanged import Exchanged, form_of
from stratos.tasks.math import MathTask

_SHOWN_OF = 5000
_NO_VARIANT = "row without a variant: "


def task_of(folder: Path, n: int) -> MathTask:
    """Return the task of the files of a folder, with `n` variants alone."""
    return MathTask(
        str(folder / "train.jsonl"),
        test_path=str(folder / "test.jsonl"),
        split_answer="####",
        validation_share=0.07,
        n_drawn=n,
        drawn_from="exchanged",
    )


def show(task: MathTask, n: int, seed: int) -> None:
    """Print variants to read."""
    made = list(islice(task.reverse(_SHOWN_OF, seed), _SHOWN_OF))
    for number, item in enumerate(random.Random(seed).sample(made, n), start=1):
        print(f"{number}. {item.question}\n{item.rationale}\n=> {item.answer}\n")


def measured(task: MathTask, seed: int) -> dict[str, object]:
    """Draw all variants; return how many rows give some, and the time that it takes."""
    _ = task.n_train
    started = time.process_time()
    n_made = sum(1 for _ in task.reverse(task.n_drawn, seed))
    cpu_s = time.process_time() - started
    alone = Exchanged(task.verify, frozenset(form_of(one.question) for one in task.held_out()))
    rows = task.items("train", task.n_train, seed)
    n_with = sum(1 for row in rows for _ in alone.draw([row], 1, seed))
    without = {reason.removeprefix(_NO_VARIANT): n for reason, n in alone.left_out.items()}
    without["no other numbers fit"] = len(rows) - n_with - sum(without.values())
    return {
        "n_rows": len(rows),
        "n_rows_with_variants": n_with,
        "rows_without": dict(sorted(without.items(), key=lambda one: -one[1])),
        "n_made": n_made,
        "cpu_s": round(cpu_s, 2),
        "made_per_cpu_s": round(n_made / cpu_s, 1),
    }


def main() -> None:
    """Show variants, or measure and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=0)
    for name in ("read", "right", "sensible"):
        parser.add_argument(f"--{name}", type=int, default=0)
    given = parser.parse_args()
    task = task_of(given.data, given.n)
    if given.show:
        show(task, given.show, given.seed)
        return
    read = {"n": given.read, "n_right": given.right, "n_sensible": given.sensible}
    record.keep("gsm8k_variants", measured(task, given.seed) | {"read": read}, seed=given.seed)


if __name__ == "__main__":
    main()
