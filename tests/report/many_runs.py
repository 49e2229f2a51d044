"""A sweep of many runs whose records, configs and answers are of the usual size."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from stratos.records import save
from tests.report import factory


def make_sweep(folder: Path, n_runs: int, n_items: int, config: str) -> None:
    """Write the folders of runs that differ in student, rate and seed.

    Args:
        factory: makes records.
        folder: of the sweep.
        n_runs: how many.
        n_items: test items that each has answered.
        config: text of a composed config, as Hydra keeps it.
    """
    rng = random.Random(0)
    students = ["stratos_300k", "stratos_1m", "stratos_3m"]
    for number in range(n_runs):
        run, student = folder / str(number), students[number % 3]
        rate = 0.002 + 0.001 * (number // 3 % 20)
        factory.write_hydra(
            run, ["+task=mahjong", f"student={student}", f"trainer.lr_muon={rate:g}"]
        )
        (run / ".hydra" / "config.yaml").write_text(f"{config}\nlr_muon: {rate:g}\n")
        records = factory.make_records(run)
        usd = 1 + rng.random() * 9
        skill = min(0.99, 0.6 + 0.03 * usd + 0.1 * rng.random())
        records["plan"] = replace(records["plan"], usd=usd, student=student)
        records["distill"] = replace(records["distill"], validation_exact=skill)
        for stage, record in records.items():
            save(run / f"{stage}.json", stage, "f", record)
        lines = []
        for item in range(n_items):
            score = {"exact": float(rng.random() < skill), "f1": 1.0, "parsed": True}
            question = f"{item} 123m456p789s1122z"
            lines.append(
                json.dumps(
                    {
                        "id": str(item), "slice": "general", "question": question, "gold": "3s",
                        "messages": [{"role": "user", "content": question}], "text": "x" * 300,
                        "output_tokens": 100, "score": score, "logprob": -0.1,
                    }
                )
            )  # fmt: skip
        (run / "evaluate" / "answers.jsonl").write_text("\n".join(lines))
