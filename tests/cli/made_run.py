"""A folder of a run as its stages leave it."""

from __future__ import annotations

import json
from pathlib import Path

from stratos.evaluate.answers import answers_path
from stratos.records import save
from tests.report import factory

STAGES = ["probe", "plan", "synthesize", "distill", "evaluate", "deploy"]


def make_run(folder: Path, *overrides: str, right: int = 0) -> Path:
    (folder / "evaluate").mkdir(parents=True)
    factory.write_hydra(folder, list(overrides), STAGES)
    config = folder / ".hydra" / "config.yaml"
    config.write_text(
        config.read_text() + "task: {name: mahjong, api_key: hidden-key-1234}\n"
        f"seed: {len(overrides)}\n"
        f"student: {{candidates: {{one: {{runs: [{{accuracy: 0.{len(overrides)}}}]}}}}}}\n"
    )
    for stage, record in factory.make_records(folder).items():
        save(folder / f"{stage}.json", stage, "mark", record)
    lines = [
        json.dumps({
            "id": str(i), "slice": "all", "question": f"q{i}", "gold": "g", "messages": [],
            "text": "t", "output_tokens": 1, "logprob": -0.1,
            "score": {"exact": float(i < right), "f1": 0.0, "parsed": True},
        })
        for i in range(100)
    ]  # fmt: skip
    answers_path(folder).write_text("\n".join(lines))
    return folder
