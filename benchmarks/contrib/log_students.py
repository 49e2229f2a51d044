"""Logs: a student from what the filters leave, beside one from the raw log.

    python benchmarks/contrib/log_students.py [--rows 3000] [--tokens 150000] [--seeds 0 1]

The log is that of `logs.py filters`: 3,000 rows, of which each of nine kinds of corruption spoils a
share. Of its workload of labels a student learns twice by the commands that a user types, with
`task.answers=verify` and with `trust`. Both answer the same fresh requests, whose right answers are
known, since they are made as those of the log are and nothing is spoilt in them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import logs
import record

from stratos import records
from stratos.contrib.logs.messages import LogTask
from stratos.core.intervals import wilson
from stratos.evaluate.answers import ask_folder
from stratos.tasks.base import Item
from stratos.tasks.split import content_id

N_TEST = 1000
TEST_SEED = 1_000
SHARE = 0.04
"""Of the rows that are spoilt in one way."""
LONGEST = 16
"""Tokens of an answer: a label has fewer."""
ANSWERS = ("verify", "trust")


def learn(log: Path, folder: Path, answers: str, seed: int, tokens: int) -> dict[str, Any]:
    """Learn from a log by the command; return the student's folder and what it took."""
    started = time.perf_counter()
    command = [
        sys.executable, "-m", "stratos", "+task=logs", f"task.path={log}",
        f"task.answers={answers}", "teacher=logged_model", "student=stratos_300k", "cloud=local",
        "stages=[probe,plan,synthesize,distill]", f"trainer.max_tokens={tokens}", f"seed={seed}",
        f"hydra.run.dir={folder}", "paths.cache_dir=" + str(folder / "cache"),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    student = records.load(folder / "distill.json", None, records.Student)
    corpus = records.load(folder / "synthesize.json", None, records.Corpus)
    assert student is not None and corpus is not None
    return {
        "path": student.path,
        "n_items": corpus.n_items,
        "train_tokens": student.train_tokens,
        "seconds": round(time.perf_counter() - started, 1),
    }


def fresh_items() -> list[Item]:
    """Return requests that no log has, with their right answers."""
    rng = random.Random(TEST_SEED)
    items = []
    for k in range(N_TEST):
        made = logs.opinion(rng, k, 100)
        asked = made["request"]["messages"][1]["content"]
        label = logs.answer_of(made)["content"]
        items.append(Item(content_id(asked), "first turn", asked, label))
    return items


def of_labels(row: dict[str, Any]) -> bool:
    """Return whether a row of the log is of the workload of labels."""
    return bool(row["request"]["messages"][0]["content"] == logs.SORT)


def measured(n: int, seed: int, tokens: int) -> dict[str, Any]:
    """Learn from one log both ways, and compare the students."""
    rows, spoilt = logs.spoilt_rows(n, SHARE, seed)
    kept = [(row, spoilt.get(k)) for k, row in enumerate(rows) if of_labels(row)]
    items = fresh_items()
    right: dict[str, list[bool]] = {}
    found: dict[str, Any] = {"seed": seed, "rows": len(kept)}
    found["spoilt"] = sum(kind is not None for _, kind in kept)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log.jsonl"
        log.write_text("".join(f"{json.dumps(row)}\n" for row, _ in kept))
        task = LogTask(str(log))
        found["left_out"] = len(task.doubtful)
        for answers in ANSWERS:
            made = learn(log, Path(name) / answers, answers, seed, tokens)
            told = ask_folder(task, made.pop("path"), items, max_new_tokens=LONGEST, batch_size=64)
            right[answers] = [score.exact >= 1 for score in told.scores]
            share = wilson(sum(right[answers]), N_TEST)
            found[answers] = {**made, "right": [share.mean, share.low, share.high]}
    pairs = list(zip(*(right[answers] for answers in ANSWERS), strict=True))
    only = pairs.count((True, False)), pairs.count((False, True))
    found |= {"only_filtered": only[0], "only_raw": only[1]}  # few different requests: no p-value
    return found


def main() -> None:
    """Measure, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    found = []
    for seed in arguments.seeds:
        found.append(measured(arguments.rows, seed, arguments.tokens))
        print(json.dumps(found[-1], indent=1), flush=True)
    record.keep(
        f"logs/students_{arguments.tokens // 1000}k",
        {"share": SHARE, "n_test": N_TEST, "runs": found},
        more={"student": "stratos_300k"},
    )


if __name__ == "__main__":
    main()
