"""A tagger on texts whose answer is JSON: invoices, addresses, and two generated sets.

    python benchmarks/kinds/extraction.py --invoices FOLDER --addresses FILE --labelled XML

`FOLDER` holds `train.jsonl`, `valid.jsonl`, `test.jsonl` and `schema.json`; validation and test
rows have layouts that training never shows. With `--part valid` the test rows stay unread. `FILE`
holds addresses as rows with `question` and `answer`; of the three random splits each is answered
once. With the same addresses tagged word by word (`labeled.xml` of usaddress) its features under
python-crfsuite are the peer: it learns from the tags, the tagger from values alone. What is left
out is not measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import extraction_texts
import record

from stratos.core.intervals import wilson
from stratos.models.kinds.tagger import TaggerFit, extraction_scores, fit_tagger
from stratos.models.kinds.tagger.fit import calibration_error
from stratos.tasks.answers import object_of, same

SEEDS = (0, 1, 2)
HELD_OUT = 0.3
"""Share of the addresses that a split tests."""


def main() -> None:
    """Measure what is there, and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--invoices", type=Path)
    parser.add_argument("--addresses", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--part", choices=["valid", "test"], default="test")
    options = parser.parse_args()
    record.commit()
    result: dict[str, Any] = {name: generated(name) for name in extraction_texts.SETS}
    if options.addresses:
        rows = read_rows(options.addresses)
        result["addresses"] = [addresses(rows, seed, options.labelled) for seed in SEEDS]
    if options.invoices:
        result["invoices"] = invoices(options.invoices, options.part)
    name = "kinds/extraction" if options.part == "test" else "kinds/extraction_valid"
    record.keep(name, result, seed=0)


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Return questions and answers."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["question"], row["answer"]) for row in rows]


def invoices(folder: Path, part: str) -> dict[str, Any]:
    """Learn from the training rows, and answer the validation or the test rows."""
    schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
    fit = fitted(read_rows(folder / "train.jsonl"), schema)
    return {"fit": described(fit), part: measured(fit, read_rows(folder / f"{part}.jsonl"))}


def generated(name: str) -> dict[str, Any]:
    """Learn from 300 generated requests, and answer 400 of known and of unseen templates."""
    rows = {
        part: [(text, json.dumps(answer, ensure_ascii=False)) for text, answer in some]
        for part, some in extraction_texts.drawn(name, 300, 400, seed=0).items()
    }
    fit = fitted(rows.pop("train"))
    return {"fit": described(fit)} | {part: measured(fit, some) for part, some in rows.items()}


def addresses(rows: Sequence[tuple[str, str]], seed: int, labelled: Path | None) -> dict[str, Any]:
    """Answer one random split, and let the peer answer it."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    n_test = round(HELD_OUT * len(order))
    test, train = order[:n_test], order[n_test:]
    fit = fitted([rows[k] for k in train])
    result = {"seed": seed, "fit": described(fit), "test": measured(fit, [rows[k] for k in test])}
    if labelled is not None:
        result["peer"] = peer(rows, train, test, labelled)
    print(result, flush=True)
    return result


def peer(
    rows: Sequence[tuple[str, str]], train: Sequence[int], test: Sequence[int], labelled: Path
) -> dict[str, Any]:
    """Train python-crfsuite on hand tags with the features of usaddress, and answer."""
    import xml.etree.ElementTree as ElementTree

    import pycrfsuite
    import usaddress

    tagged = [
        [((part.text or "").strip(), part.tag) for part in address]
        for address in ElementTree.parse(labelled).getroot()
    ]
    assert [" ".join(word for word, _ in words) for words in tagged] == [text for text, _ in rows]
    began = time.process_time()
    trainer = pycrfsuite.Trainer(verbose=False)
    for k in train:
        words = [word for word, _ in tagged[k]]
        trainer.append(usaddress.tokens2features(words), [tag for _, tag in tagged[k]])
    with tempfile.NamedTemporaryFile() as file:
        trainer.train(file.name)
        seconds = time.process_time() - began
        tagger = pycrfsuite.Tagger()
        tagger.open(file.name)
        right = []
        for k in test:
            words, answer = [word for word, _ in tagged[k]], dict[str, str]()
            tags = tagger.tag(usaddress.tokens2features(words))
            for word, tag in zip(words, tags, strict=True):
                answer[tag] = f"{answer.get(tag, '')} {word}".strip()
            right.append(same(answer, json.loads(rows[k][1])))
    return {**share(right), "fit_cpu_seconds": seconds}


def fitted(rows: Sequence[tuple[str, str]], schema: dict[str, Any] | None = None) -> TaggerFit:
    """Fit a tagger to questions and answers, as a run does."""
    with threadpool_limits(limits=1):
        return fit_tagger([text for text, _ in rows], [answer for _, answer in rows], schema=schema)


def described(fit: TaggerFit) -> dict[str, Any]:
    """Return what cross-validation shows."""
    return {
        "n_rows": fit.n_rows,
        "accuracy": fit.accuracy,
        "low": fit.low,
        "high": fit.high,
        "holds_out_layouts": fit.holds_out_layouts,
        "n_layouts": fit.n_layouts,
        "calibration_error": fit.calibration_error,
        "cpu_seconds": fit.cpu_seconds,
        "n_params": fit.tagger.n_params,
        "fields": [
            {"name": f.name, "method": f.method.value, **asdict(f.score)} for f in fit.fields
        ],
    }


def measured(fit: TaggerFit, rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Answer rows one at a time, and compare."""
    began = time.process_time()
    predictions = [fit.tagger.predict([text])[0] for text, _ in rows]
    seconds = time.process_time() - began
    golds = [json.loads(answer) for _, answer in rows]
    answers = [object_of(prediction.text) for prediction in predictions]
    right = [same(gold, answer) for gold, answer in zip(golds, answers, strict=True)]
    confidence = np.array([prediction.probability for prediction in predictions])
    scores = extraction_scores(golds, answers)
    return {
        **share(right),
        "calibration_error": calibration_error(confidence, np.array(right)),
        "mean_probability": float(confidence.mean()),
        "cpu_ms_per_answer": 1000 * seconds / len(rows),
        "fields": {name: asdict(score) for name, score in scores.items()},
    }


def share(right: Sequence[bool]) -> dict[str, Any]:
    """Return the share that is right with its interval."""
    interval = wilson(sum(right), len(right))
    return {"exact": interval.mean, "low": interval.low, "high": interval.high, "n": len(right)}


if __name__ == "__main__":
    main()
