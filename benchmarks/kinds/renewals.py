"""A student over five months of dated rows: eight renewals, each of which has to pass the gate.

    python benchmarks/kinds/renewals.py --wheels /tmp/wheels [--seeds 3] --keep

The rows are tweets of two campaigns of 2016 in the order of their time, in nine windows of equally
many: who wrote it? The first student learns rows of the first window. At the end of each later one
`stratos drift` compares its requests, with the answers of the student that serves, with the items
of that student's evaluation. Some rows of the window are labelled, a part to learn and a part to
test; the command trains a new student on all rows labelled so far, and `stratos gate` compares both
on all test rows. The new one serves only if the gate says "no worse". Of the probability of 5% that
any verdict is wrong each of the eight gates has an eighth.

What nobody labels tells afterwards what each student is worth: on the window that follows, and on
the first one, which tells what was forgotten. All is typed as a user types it, each seed draws
other rows.

Set before the measurement: no student that was replaced had more right of all windows so far and
the next one, by more than the gate's 2 points; the renewed student is better on later windows than
the first one, and no worse on the first window.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from label_sets import Row, dated_tweets
from record import arguments, finish

from stratos.models.kinds.base import Predictor, load_predictor

N_WINDOWS, N_FIRST, N_LEARNT, N_TESTED, N_LIVE = 9, 150, 60, 100, 200
ALPHA, DELTA = 0.05, 0.02


class Student:
    """A student of a run in a folder."""

    def __init__(self, folder: Path, learnt: Sequence[Row], tested: Sequence[Row]) -> None:
        """Train it on rows, by the command."""
        rows, test, self.run = folder / "rows.jsonl", folder / "test.jsonl", folder / "run"
        _write(rows, learnt)
        _write(test, tested)
        began = time.monotonic()
        done = typed(
            folder, "+task=classify", "task.path=rows.jsonl", "task.test_path=test.jsonl",
            "cloud=local", "logger=none", "deploy.load_seconds=1", "hydra.run.dir=run",
            f"evaluate.n_items={len(tested)}",
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stdout)
        self.minutes = (time.monotonic() - began) / 60
        self.predictor: Predictor = load_predictor(self.run / "bundle")

    def right(self, rows: Sequence[Row]) -> float:
        """Return the share of rows that it answers right."""
        texts, labels = zip(*rows, strict=True)
        answers = self.predictor.predict(texts)
        return float(np.mean([a.text == label for a, label in zip(answers, labels, strict=True)]))


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command of Stratos in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "stratos", *words], cwd=folder, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(folder),
    )  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "STRATOS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}


def _write(path: Path, rows: Sequence[Row]) -> None:
    lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def drifted(folder: Path, student: Student, requests: Sequence[Row]) -> bool:
    """Return whether the requests are unlike the test items of the student that answers them."""
    texts = [text for text, _ in requests]
    lines = (
        {"messages": [{"role": "user", "content": text},
                      {"role": "assistant", "content": answer.text}]}
        for text, answer in zip(texts, student.predictor.predict(texts), strict=True)
    )  # fmt: skip
    log = folder / "calls.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = typed(folder, "drift", log.name, "--run", str(student.run))
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout)
    return done.returncode == 1


def gated(folder: Path, new: Student, old: Student) -> dict[str, Any]:
    """Return the gate's exit status and counts: the old bundle answers the test rows of the new."""
    shutil.copytree(old.run / "bundle", folder / "old")
    level = f"{ALPHA / (N_WINDOWS - 1):g}"
    done = typed(folder, "gate", str(new.run), "--against", "old", "--alpha", level, "--json")
    if done.returncode not in (0, 1, 3):
        raise SystemExit(done.stdout)
    return {"exit": done.returncode, "printed": done.stdout.strip().splitlines()[-1]}


def renewals(windows: Sequence[Sequence[Row]], seed: int, place: Path) -> list[dict[str, Any]]:
    """Return what each renewal of one draw of rows was, and what its students are worth."""
    drawn = [random.Random(seed).sample(window, len(window)) for window in windows]
    taken = [N_FIRST if k == 0 else N_LEARNT for k in range(len(drawn))]
    unseen = [rows[n + N_TESTED :] for rows, n in zip(drawn, taken, strict=True)]
    learnt, tested = drawn[0][:N_FIRST], drawn[0][N_FIRST : N_FIRST + N_TESTED]
    (place / "0").mkdir()
    first = serving = Student(place / "0", learnt, tested)
    lines = []
    for k in range(1, len(drawn)):
        folder = place / str(k)
        folder.mkdir()
        is_drift = drifted(folder, serving, unseen[k][:N_LIVE])
        learnt = learnt + drawn[k][:N_LEARNT]
        tested = tested + drawn[k][N_LEARNT : N_LEARNT + N_TESTED]
        new = Student(folder, learnt, tested)
        gate = gated(folder, new, serving)
        old, serving = serving, new if gate["exit"] == 0 else serving
        known = [row for rows in unseen[: k + 2] for row in rows]
        later = unseen[k + 1] if k + 1 < len(unseen) else None
        students = {"first": first, "serving": serving, "newest": new}
        lines.append({
            "seed": seed, "renewal": k, "drift": is_drift, "gate": gate, "minutes": new.minutes,
            "n_learnt": len(learnt), "n_tested": len(tested), "n_known": len(known),
            "change": new.right(known) - old.right(known),
            "later": later and {name: one.right(later) for name, one in students.items()},
            "first_window": {name: one.right(unseen[0]) for name, one in students.items()},
        })  # fmt: skip
        print(json.dumps(lines[-1]), flush=True)
    return lines


def main() -> None:
    """Renew students of some draws, and say what that was worth."""
    parser = arguments(__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = dated_tweets(options.wheels)
    ends = [k * len(rows) // N_WINDOWS for k in range(N_WINDOWS + 1)]
    windows = [rows[a:b] for a, b in itertools.pairwise(ends)]
    lines: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as place:
            lines += renewals(windows, seed, Path(place))
    replaced = [line for line in lines if line["gate"]["exit"] == 0]
    later = [line["later"] for line in lines if line["later"]]
    first_window = [line["first_window"] for line in lines if line["renewal"] == N_WINDOWS - 1]
    result = {
        "n_seeds": options.seeds,
        "n": len(lines),
        "n_drifted": sum(line["drift"] for line in lines),
        "n_replaced": len(replaced),
        "n_undecided": sum(line["gate"]["exit"] == 3 for line in lines),
        "n_made_worse": sum(line["change"] < -DELTA for line in replaced),
        "least_change": min((line["change"] for line in replaced), default=None),
        "later": {who: float(np.mean([one[who] for one in later])) for who in later[0]},
        "first_window": {
            who: float(np.mean([one[who] for one in first_window])) for who in first_window[0]
        },
        "n_labels": N_LEARNT + N_TESTED,
        "median_minutes": float(np.median([line["minutes"] for line in lines])),
        "renewals": lines,
    }
    finish("kinds/renewals", result, options)


if __name__ == "__main__":
    main()
