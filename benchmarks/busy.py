"""Measure training and answering beside other work: with OpenMP's threads, and with processes.

    python benchmarks/busy.py                     # quiet, and beside 2 and 4 busy processes
    python benchmarks/busy.py --steps 100 --keep  # writes results/distillation/busy.json

Each arm trains the 1M student on the same Mahjong items for so many steps, in a process of its own,
and then answers questions with it. `before` has threads that spin 20,000 times at a barrier, one
for each core. `now` is what the command does: a process of one thread for each core where that is
no slower, else threads that sleep after 1,000 looks, in a number that is measured. `threads` has
the latter in any case; `one thread` and `libgomp` (its own defaults) stand beside them. The busy
processes do nothing but count; they are started and ended here. On a quiet machine `now` should be
no slower than `before`. Printed are wall and CPU seconds a step, and tokens of answers a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from record import keep

SPINNING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
CORES = len(os.sched_getaffinity(0))
ARMS: dict[str, tuple[dict[str, str], int | None, int | None]] = {
    "before": (SPINNING, CORES, 1),
    "now": (SLEEPING, None, None),
    "threads": (SLEEPING, None, 1),
    "one thread": (SLEEPING, 1, 1),
    "libgomp": ({}, CORES, 1),
}
"""Environment, `trainer.n_threads` and `trainer.n_processes`."""


def main() -> None:
    """Run every arm beside every number of busy processes, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, CORES, 2 * CORES])
    parser.add_argument("--arms", nargs="*", default=["before", "now", "one thread"], choices=ARMS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run(options)))
        return
    rows = []
    for n_busy in options.busy:
        with busy(n_busy):
            for number in range(options.runs):
                for arm in options.arms:  # in turn, so that what else happens meets all of them
                    row = {"arm": arm, "busy": n_busy, "run": number, **child(arm, options)}
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    show(rows, options)
    if options.keep:
        keep("distillation/busy", rows, seed=options.seed)


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Have so many processes that want a core."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def child(arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one arm in a process of its own."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
    }
    command = [sys.executable, __file__, "--child", arm, "--steps", str(options.steps)]
    command += ["--answers", str(options.answers), "--seed", str(options.seed)]
    done = subprocess.run(
        command,
        env={**environment, **ARMS[arm][0], "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and answer in this process."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stratos import config as c
    from stratos.core.context import Context
    from stratos.distill import distill
    from stratos.ledger import Ledger
    from stratos.models.decode.batched import complete
    from stratos.synthesize.injection import Injection
    from stratos.tasks.mahjong import MahjongTask

    _, n_threads, n_processes = ARMS[options.child]
    task, tokens = MahjongTask(), 4096
    items = list(task.reverse(options.steps * 40, options.seed))
    config: Any = SimpleNamespace(
        plain={},
        students=(c.StudentConfig("stratos_1m"),),
        strategies=(Injection(),),
        teachers=(),
        limits=c.LimitsConfig(train_hours=None),
        task=task,
        trainer=c.TrainerConfig(
            max_tokens=options.steps * tokens,
            batch_tokens=tokens,
            n_threads=n_threads,
            n_processes=n_processes,
        ),
        callbacks=c.CallbacksConfig(
            validate_every_steps=0, n_validation_items=1, n_final_validation_items=1
        ),
        evaluate=c.EvaluateConfig(),
        seed=options.seed,
    )
    plan: Any = SimpleNamespace(
        student="stratos_1m", strategy="injection", teacher="", prompt="", roles_of=lambda _: ()
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus: Any = SimpleNamespace(path=str(folder / "corpus.parquet"))
        table = {
            "question": [item.question for item in items],
            "completion": [task.completion(item) for item in items],
        }
        pq.write_table(pa.table(table), corpus.path)
        context = Context(folder, folder, Ledger(folder / "ledger.jsonl", None))
        student = distill(config, plan, corpus, context)
        model = AutoModelForCausalLM.from_pretrained(student.path, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(student.path)
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    chats = [task.student_messages(item) for item in task.items("validation", options.answers)]
    started, cpu = time.perf_counter(), time.process_time()
    answers = complete(
        model,
        tokenizer,
        chats,
        max_new_tokens=200,
        batch_size=32,
        choose_threads=n_threads is None,
    )
    seconds = time.perf_counter() - started
    written = sum(answer.output_tokens for answer in answers)
    return {
        "steps": student.steps,
        "threads": student.threads,
        "processes": student.processes,
        "seconds_per_step": round(student.seconds / student.steps, 4),
        "cpu_seconds_per_step": round(student.cpu_seconds / student.steps, 4),
        "expected_seconds": round(student.expected_seconds or 0.0, 2),
        "seconds": round(student.seconds, 2),
        "answer_tokens_per_s": round(written / seconds, 1),
        "answer_tokens_per_cpu_s": round(written / (time.process_time() - cpu), 1),
        "weights": student.weights_sha256[:12],
    }


def show(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print medians of all runs."""
    columns = ("seconds_per_step", "cpu_seconds_per_step", "answer_tokens_per_s")
    print(f"{'arm':<12}{'busy':>5}" + "".join(f"{name:>22}" for name in columns))
    for n_busy in options.busy:
        for arm in options.arms:
            some = [row for row in rows if (row["arm"], row["busy"]) == (arm, n_busy)]
            values = "".join(f"{median(row[name] for row in some):>22.3f}" for name in columns)
            print(f"{arm:<12}{n_busy:>5}{values}")


if __name__ == "__main__":
    main()
