"""What a user's own rows give, by the command that a user types: accuracy and seconds.

    python benchmarks/kinds/own_rows.py ../shared/real --keep
    python benchmarks/kinds/own_rows.py ../shared/real --strangers   # texts that no label has

Real rows (`banking77/`, `invoices/`); the test rows are files of their own, which nothing else
reads. Seconds are by the clock from the start of the command: to the first accuracy on the screen,
and to the end, when the student was served and tried under load. CPU seconds are of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import commit, keep, load

from stratos.api import Run

ROOT = Path(__file__).parents[2]
N_CONFUSED, PER_LABEL = 10, 30
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write the question and answer of rows."""
    kept = [{k: v for k, v in row.items() if k in ("text", "label", "question", "answer")}
            for row in rows]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return path


def sets(real: Path) -> dict[str, tuple[str, list[Row], list[Row]]]:
    """Return name to task, rows and test rows."""
    train, test = (read(real / "banking77" / f"{name}.jsonl") for name in ("train", "test"))
    draw = random.Random(0)
    labels = sorted({row["label"] for row in train})
    by_label = {one: [row for row in train if row["label"] == one] for one in labels}
    confused = [one for one in labels if "card" in one][:N_CONFUSED]
    few = [row for one in confused for row in draw.sample(by_label[one], PER_LABEL)]
    some = [row for one in labels for row in draw.sample(by_label[one], 13)]
    of_confused = [row for row in test if row["label"] in confused]
    invoices = read(real / "invoices" / "train.jsonl")
    draw.shuffle(invoices)
    return {
        "banking77, ten labels on cards": ("classify", few, of_confused),
        "banking77, 13 rows a label": ("classify", some, test),
        "banking77, all rows": ("classify", train, test),
        "invoices of known layouts": ("jsonl", invoices[:300], invoices[300:700]),
    }


def run(task: str, rows: list[Row], test: list[Row], more: Sequence[str] = ()) -> Row:
    """Type the command, with more words where it has some, and return what it came to."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path, tested = write(place / "rows.jsonl", rows), write(place / "test.jsonl", test)
        command = [sys.executable, "-m", "stratos", f"+task={task}", f"task.path={path}"]
        command += [f"task.test_path={tested}", "cloud=local", "hydra.run.dir=run"]
        command += [f"evaluate.n_items={len(test)}", *more]
        environ = {**os.environ, "STRATOS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
        before, began, first = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0.0
        with subprocess.Popen(
            command, cwd=place, env=environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                print(f"{time.monotonic() - began:7.1f} s  {line}", end="")
                if line.startswith("tried ") and not first:
                    first = time.monotonic() - began
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            raise SystemExit(f"the command failed with code {process.returncode}")
        return {
            "n_rows": len(rows),
            "first_accuracy_s": first,
            "served_s": took,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            **figures(place / "run"),
        }


def figures(run: Path) -> Row:
    """Return what the records of a run say."""
    records = {
        stage: json.loads((run / f"{stage}.json").read_text())["record"]
        for stage in ("plan", "evaluate", "deploy")
    }
    scores = {one["role"]: one for one in records["evaluate"]["scores"]}
    right = {
        role: next(row for row in one["slices"] if row["slice"] == "all")
        for role, one in scores.items()
    }
    return {
        "student": records["plan"]["student"],
        "predicted": records["plan"]["accuracy"],
        "measured": right["student"]["exact"],
        "n_test": right["student"]["n_items"],
        "calibration_error": scores["student"]["calibration_error"],
        "free": {role: one["exact"]["mean"] for role, one in right.items() if role != "student"},
        "usd": Run(run).cost_usd,
        "latency_p95_ms": records["deploy"]["latency_p95_ms"],
        "bundle_bytes": records["deploy"]["bundle_bytes"],
    }


def strangers(real: Path) -> dict[str, list[str]]:
    """Return texts that belong to none of ten labels on cards: other labels, invoices, letters."""
    draw = random.Random(0)
    test = read(real / "banking77" / "test.jsonl")
    few = {row["label"] for row in sets(real)["banking77, ten labels on cards"][1]}
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 7))) for _ in range(1_000)]
    return {
        "other labels": draw.sample([row["text"] for row in test if row["label"] not in few], 300),
        "invoices": [row["question"] for row in read(real / "invoices" / "test.jsonl")[:100]],
        "random letters": [" ".join(words[k : k + 5]) for k in range(0, 1_000, 5)],
    }


def unlike(real: Path, n_labels: int) -> None:
    """Print what students make of texts that belong to none of some labels on cards."""
    from omegaconf import DictConfig, OmegaConf
    from sklearn.metrics import roc_auc_score

    from stratos.config import StudentConfig
    from stratos.core.extensions import shipped_choices
    from stratos.models.kinds.classifier import Familiarity, similarities_to
    from stratos.models.kinds.cross_validation import Study, calibration_error
    from stratos.models.kinds.learnt_rows import blocks_of

    _, few, test = sets(real)["banking77, ten labels on cards"]
    names = sorted({row["label"] for row in few})[:n_labels]
    few, test = ([row for row in rows if row["label"] in names] for rows in (few, test))
    texts, gold = [row["text"] for row in test], np.array([row["label"] for row in test])
    kinds = ("linear", "static", "encoder")
    students = []
    for kind in kinds:
        file = OmegaConf.load(shipped_choices("student")[kind])
        assert isinstance(file, DictConfig)
        path, package = file.get("path"), file.get("package")
        students.append(StudentConfig(kind, kind, path, package=package))
    study = Study([r["text"] for r in few], [r["label"] for r in few], blocks_of(students))
    for kind in kinds:
        after = study.fit(kind)
        before = replace(after, familiarity=Familiarity(-2.0, -1.0))
        sure = [model.probabilities(texts) for model in (before, after)]
        right = np.array(after.labels)[sure[0].argmax(axis=1)] == gold
        errors = [calibration_error(p.max(axis=1), right) for p in sure]
        own = after.blocks[0].transform(texts)
        began = time.process_time()
        for k in range(100):
            near = similarities_to(after.centroids, own[k : k + 1])
            after.familiarity.shares(near)
        ms = 10 * (time.process_time() - began)
        print(f"{kind}, {n_labels} labels: right {right.mean():.1%}, calibration error "
              f"{errors[0]:.4f} -> {errors[1]:.4f}, {ms:.2f} ms a text")  # fmt: skip
        of_own = similarities_to(after.centroids, own)
        for name, others in strangers(real).items():
            far = similarities_to(after.centroids, after.blocks[0].transform(others))
            auc = roc_auc_score([1] * len(of_own) + [0] * len(far), [*of_own, *far])
            p, q = (m.probabilities(others).max(axis=1).mean() for m in (before, after))
            print(f"  {name}: AUC {auc:.3f}, probability {p:.2f} -> {q:.2f}")


def main() -> None:
    """Measure all sets, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--strangers", action="store_true")
    args = parser.parse_args()
    if args.strangers:
        unlike(args.real, 10)
        unlike(args.real, 2)
        return
    if args.keep:
        commit()
    found = []
    for name, (task, rows, test) in sets(args.real).items():
        if args.only and not any(part in name for part in args.only):
            continue
        load_before = os.getloadavg()[0]
        found.append(
            {"set": name, "task": task, "load_before": load_before, **run(task, rows, test)}
        )
        print(json.dumps(found[-1], indent=1))
    if args.keep:
        measured = {row["set"]: row for row in found}
        before = load("kinds/own_rows")["result"] if args.only else []
        keep("kinds/own_rows", [measured.pop(row["set"], row) for row in before] or found, seed=0)


if __name__ == "__main__":
    main()
