"""Fit the estimate's constants to the tables and write them into the package.

`python benchmarks/estimate/fit.py` writes stratos/estimate/fitted.toml; with `--check` it prints
what it would write, and fails where that is not what is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fitting import fit_inference, fit_training
from measured_rows import inference_rows, training_rows
from unseen import serving_errors, training_errors

from stratos.estimate.fitted import FITTED_TOML, Errors, read_fitted

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
# Errors of predictions whose rows no fit had seen; stratos/estimate/fitted.py says what
# each means.
# `known`: quantiles of measured over predicted seconds, models held out. `unseen`: half width of
# the interval as a logarithm, and mean absolute percentage error, by what was held out. The time to
# first token is that of a server that is not saturated.
"""


def error_section(name: str, errors: Errors) -> str:
    """Return the tables of one quantity's errors."""
    lines = [f"[errors.{name}]", f"within = {errors.within:.3f}", "", f"[errors.{name}.unseen]"]
    lines += [
        f"{f} = [{error.between:.3f}, {error.mape:.3f}]" for f, error in errors.unseen.items()
    ]
    for error in errors.known:
        of = error.setting
        lines += [
            "",
            f"[[errors.{name}.known]]",
            f'engine = "{of.engine}"',
            f'gpu = "{of.gpu}"',
            f"bits = {of.bits}",
            f"low = {error.low:.3f}",
            f"high = {error.high:.3f}",
            f"mape = {error.mape:.3f}",
        ]
    return "\n".join([*lines, ""])


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
    errors = {"training": training_errors(training), **serving_errors(inference)}
    text += "\n".join(error_section(name, of) for name, of in errors.items())
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
