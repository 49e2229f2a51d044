"""Measure which share of a training step on a student's own texts is their generation, on a CPU.

    python benchmarks/on_policy.py --run outputs/my_run             # the student of a Mahjong run
    python benchmarks/on_policy.py --run outputs/my_run --repeats 5 --keep

The student of the run learns on with itself as the teacher: all steps are on its own texts. Both
decoders (`evaluate.decoder`) train in turns, on one thread. CPU time is taken between the starts of
the first and the last writing, so that both the texts and the steps that learn from them are whole.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

DECODERS = ("auto", "transformers")
BUFFER_STEPS = 4


def main() -> None:
    """Train by both decoders in turns, and print what a step takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="run folder of a Mahjong student")
    parser.add_argument("--writings", type=int, default=3, help="of four steps' texts each")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="of a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    rounds = [
        {decoder: trained(decoder, options) for decoder in DECODERS} for _ in range(options.repeats)
    ]
    found = {
        decoder: {
            name: statistics.median(one[decoder][name] for one in rounds)
            for name in ("cpu_s_per_step", "generation_share", "cpu_us_per_token")
        }
        for decoder in DECODERS
    }
    for decoder, one in found.items():
        print(
            f"{decoder:13} {one['cpu_s_per_step']:.2f} CPU s a step, {one['generation_share']:.0%} "
            f"of it generation, at {one['cpu_us_per_token']:.0f} µs a token"
        )
    ratio = statistics.median(
        one["transformers"]["cpu_s_per_step"] / one["auto"]["cpu_s_per_step"] for one in rounds
    )
    print(f"a step by transformers takes {ratio:.2f} times as long")
    if options.keep:
        from record import keep

        settings = {**vars(options), "run": options.run.name}
        keep("on_policy", {"settings": settings, "decoders": found, "ratio": ratio}, seed=0)


def trained(decoder: str, options: argparse.Namespace) -> dict[str, float]:
    """Train on own texts; return CPU seconds a step, generation's share, and that of a token."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stratos import config as c
    from stratos.core.context import Context
    from stratos.distill import data, distill
    from stratos.ledger import Ledger
    from stratos.synthesize.white_box import AlignmentOnPolicy
    from stratos.tasks.mahjong import MahjongTask
    from stratos.teachers.huggingface import HuggingFaceTeacher

    n_steps = BUFFER_STEPS * options.writings
    task, path = MahjongTask(), str(options.run / "distill" / "student")
    items = list(task.reverse(n_steps * options.batch_tokens // 100, 0))
    config: Any = SimpleNamespace(
        plain={},
        students=(c.StudentConfig("local", path=path),),
        strategies=(AlignmentOnPolicy(lmbda=1.0, buffer_steps=BUFFER_STEPS),),
        teachers=(HuggingFaceTeacher("expert", path=path, dtype="float32"),),
        limits=c.LimitsConfig(train_hours=None),
        task=task,
        trainer=c.TrainerConfig(
            max_tokens=n_steps * options.batch_tokens,
            batch_tokens=options.batch_tokens,
            n_threads=1,
        ),
        callbacks=c.CallbacksConfig(
            validate_every_steps=0, n_validation_items=1, n_final_validation_items=1
        ),
        evaluate=c.EvaluateConfig(decoder=decoder),
        seed=0,
    )
    plan: Any = SimpleNamespace(
        student="local",
        strategy="alignment_on_policy",
        teacher="expert",
        prompt="default",
        roles_of=lambda _: (),
    )
    writings: list[tuple[float, float, int]] = []
    plain = data.student_writer

    def timed(*arguments: Any) -> data.Writer:
        write = plain(*arguments)

        def written(prompts: Sequence[Any]) -> list[list[int]]:
            started = time.process_time()
            texts = write(prompts)
            seconds = time.process_time() - started
            writings.append((started, seconds, sum(map(len, texts))))
            return texts

        return written

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus: Any = SimpleNamespace(path=str(folder / "corpus.parquet"))
        table = {
            "question": [item.question for item in items],
            "completion": [task.completion(item) for item in items],
        }
        pq.write_table(pa.table(table), corpus.path)
        data.student_writer = timed
        try:
            distill(config, plan, corpus, Context(folder, folder, Ledger(folder / "ledger", None)))
        finally:
            data.student_writer = plain
    seconds = writings[-1][0] - writings[0][0]
    generation = sum(one[1] for one in writings[:-1])
    return {
        "cpu_s_per_step": seconds / (BUFFER_STEPS * (len(writings) - 1)),
        "generation_share": generation / seconds,
        "cpu_us_per_token": generation / sum(one[2] for one in writings[:-1]) * 1e6,
    }


if __name__ == "__main__":
    main()
