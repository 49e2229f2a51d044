"""Fit the estimate's constants to the tables and write them into the package.

`python benchmarks/estimate/fit.py` writes stratos/estimate/fitted.toml; with `--check` it prints
what it would write, and fails where that is not what is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from fitting import fit_inference, fit_training
from heldout import inference_splits, training_splits
from rows import ServeRow, inference_rows, training_rows

from stratos.estimate.fitted import FITTED_TOML, read_fitted

Array = NDArray[np.float64]

HEADER = """\
# Constants of the estimate, fitted by benchmarks/estimate/fit.py; docs/estimate.md says what each
# means. Sources: llm-foundry's published table of training throughput (scripts/train/benchmarking,
# {n_training} rows, Apache-2.0) and public measurements of dense models collected by aiconfigurator
# ({n_inference} rows, Apache-2.0). The script writes this file: change it there.
date = "{date}"
script = "benchmarks/estimate/fit.py"
campaign_fewer = {fewer:.3g}
"""

ERRORS = """
# Where measured seconds that a fit had not seen lay, over its predictions: 2.5% quantile, 97.5%
# quantile, mean absolute percentage error. By GPU: models or sizes that the fit had not seen.
# `other`: GPUs that it had not seen.
"""


def queues(row: ServeRow) -> bool:
    """Return whether the row's time to first token is that of a queue at the load generator."""
    return row.lab and row.batch >= 64


def figures(ratios: Array) -> str:
    """Return the errors of predicted over measured as a TOML array."""
    low, high = np.quantile(1 / ratios, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}, {np.abs(ratios - 1).mean():.3f}]"


def error_section(name: str, known: Mapping[str, Array], unseen: Array) -> str:
    """Return one table of errors."""
    lines = [f"{gpu} = {figures(ratios)}" for gpu, ratios in sorted(known.items())]
    return "\n".join([f"[errors.{name}]", *lines, f"other = {figures(unseen)}", ""])


def fitted_toml(date: str) -> str:
    """Fit, predict what was held out, and return the file's text."""
    training, inference = training_rows(), inference_rows()
    fit, serve = fit_training(training), fit_inference(inference)
    text = HEADER.format(
        n_training=len(training),
        n_inference=len(inference),
        date=date,
        fewer=serve.campaign.fewer,
    )
    for name, section in (("training", fit), ("inference", serve.inference)):
        text += f"\n[{name}]\n"
        text += "".join(f"{key} = {value:.3g}\n" for key, value in vars(section).items())
    text += ERRORS
    splits = training_splits(training)
    text += error_section(
        "training",
        {gpu: 1 / pair[0] for gpu, pair in splits["bf16, size never seen"].items()},
        np.concatenate([1 / pair[0] for pair in splits["bf16, GPU never seen"].values()]),
    )
    calm = [row for row in inference if not queues(row)]
    for quantity, rows in (("first_token", calm), ("output_token", inference)):
        by_model: dict[str, list[Array]] = {}
        by_gpu: list[Array] = []
        for split, found in inference_splits(rows)[quantity].items():
            for gpu, (ratios, _) in found.items():
                if split.startswith("model"):
                    by_model.setdefault(gpu, []).append(ratios)
                else:
                    by_gpu.append(ratios)
        known = {gpu: np.concatenate(parts) for gpu, parts in by_model.items()}
        text += "\n" + error_section(quantity, known, np.concatenate(by_gpu))
    return text


def main() -> None:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description="Fit the constants of the estimate.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        FITTED_TOML.write_text(fitted_toml(time.strftime("%Y-%m-%d")), encoding="utf-8")
        print(FITTED_TOML.read_text(encoding="utf-8"))
        return
    there = FITTED_TOML.read_text(encoding="utf-8")
    text = fitted_toml(read_fitted(there).date)
    print(text)
    if text != there:
        sys.exit(f"{FITTED_TOML} is not what the tables give now: run this without --check.")


if __name__ == "__main__":
    main()
