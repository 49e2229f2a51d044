"""How far predictions lie from measurements that the fit has not seen.

    python benchmarks/estimate/heldout.py
    python benchmarks/estimate/heldout.py --training MORE.csv --inference MORE.csv

Without options: every split of the two tables, each with its own fit. With them: rows of the same
columns that no fit saw, scored by the constants and intervals that ship with the package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from campaign import CampaignFit, is_saturated
from fitting import ServeFit, fit_inference, fit_training, serving_ratios, training_ratios
from measured_rows import PERF, ServeRow, TrainRow, inference_rows, training_rows
from scoring import covered, spearman
from unseen import intervals, setting_of

from stratos.estimate.fitted import TRAINER, Setting, fitted
from stratos.records import Interval

Array = NDArray[np.float64]
Row = TypeVar("Row")


def held_out(
    rows: Sequence[Row], key: Callable[[Row], str]
) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """Yield each value of a column with the rows to fit on and the rows to predict."""
    for value in sorted({key(row) for row in rows}):
        yield (
            value,
            [row for row in rows if key(row) != value],
            [row for row in rows if key(row) == value],
        )


def line(name: str, ratios: Array, measured: Array) -> str:
    """Return one line: error, rank correlation, bias, and where measurements lay (95%)."""
    low, high = np.quantile(1 / ratios, [0.025, 0.975])
    rank = spearman(ratios * measured, measured) if len(ratios) > 2 else float("nan")
    return (
        f"  {name:<44} {len(ratios):>4}  MAPE {np.abs(ratios - 1).mean():6.1%}  "
        f"Spearman {rank:6.3f}  median {np.median(ratios) - 1:+6.1%}  "
        f"measured {low:.2f} to {high:.2f} of predicted"
    )


def training_splits(rows: Sequence[TrainRow]) -> dict[str, dict[str, tuple[Array, Array]]]:
    """Return ratios and measurements by split and by GPU, bf16 and fp8 apart."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for precision in ("bf16", "fp8"):
        for split, key in (("size", _size), ("GPU", _gpu)):
            chosen = [row for row in rows if row.setup.fp8 == (precision == "fp8")]
            for value, _, rows_out in held_out(chosen, key):
                rows_in = [row for row in rows if key(row) != value]
                if precision == "fp8" and not any(row.setup.fp8 for row in rows_in):
                    continue
                for row, ratio in zip(
                    rows_out, training_ratios(rows_out, fit_training(rows_in)), strict=True
                ):
                    by_gpu = found.setdefault(f"{precision}, {split} never seen", {})
                    by_gpu.setdefault(_gpu(row), []).append((float(ratio), row.tokens_per_s))
    return _arrays(found)


def _arrays(
    found: dict[str, dict[str, list[tuple[float, float]]]],
) -> dict[str, dict[str, tuple[Array, Array]]]:
    return {
        split: {
            gpu: (np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]))
            for gpu, pairs in by_gpu.items()
        }
        for split, by_gpu in found.items()
    }


def inference_splits(
    rows: Sequence[ServeRow],
) -> dict[str, dict[str, dict[str, tuple[Array, Array]]]]:
    """Return, by quantity, ratios and measurements by split and by GPU."""
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for split, key in (("model", _model), ("GPU", _gpu)):
        for value, rows_in, rows_out in held_out(rows, key):
            ratios = serving_ratios(rows_out, fit_inference(rows_in))
            for row, pair in zip(rows_out, ratios, strict=True):
                for quantity, ratio, measured in zip(
                    ("first_token", "output_token"), pair, (row.ttft_ms, row.tpot_ms), strict=True
                ):
                    by_gpu = found.setdefault(quantity, {}).setdefault(
                        f"{split} {value.rpartition('/')[2]} never seen", {}
                    )
                    by_gpu.setdefault(_gpu(row), []).append((float(ratio), measured))
    return {quantity: _arrays(by_split) for quantity, by_split in found.items()}


def _size(row: TrainRow) -> str:
    return row.size


def _gpu(row: TrainRow | ServeRow) -> str:
    return row.device.name


def _model(row: ServeRow) -> str:
    return row.card.name


def _print_splits(splits: dict[str, dict[str, tuple[Array, Array]]]) -> None:
    for split, by_gpu in splits.items():
        for gpu, (ratios, measured) in sorted(by_gpu.items()):
            print(line(f"{split}, {gpu}", ratios, measured))
        if len(by_gpu) > 1:
            ratios, measured = (
                np.concatenate([pair[i] for pair in by_gpu.values()]) for i in (0, 1)
            )
            print(line(f"{split}, all", ratios, measured))


def print_all() -> None:
    """Print every split of both tables, and the fit to all rows beside them."""
    training, inference = training_rows(), inference_rows()
    print("Training, tokens/s")
    _print_splits(training_splits(training))
    fit = fit_training(training)
    for precision in (False, True):
        rows = [row for row in training if row.setup.fp8 == precision]
        name = f"{'fp8' if precision else 'bf16'}, in sample"
        measured = np.array([row.tokens_per_s for row in rows])
        print(line(name, training_ratios(rows, fit), measured))
    splits = inference_splits(inference)
    ratios = serving_ratios(inference, fit_inference(inference))
    for i, (quantity, title) in enumerate(
        (("first_token", "Time to first token"), ("output_token", "Time per output token"))
    ):
        print(title)
        _print_splits(splits[quantity])
        measured = np.array([(row.ttft_ms, row.tpot_ms)[i] for row in inference])
        print(line("in sample", ratios[:, i], measured))


def score_training(path: Path) -> None:
    """Print error and coverage of what ships on other rows of the training table."""
    rows = training_rows(path)
    print(f"{path}: tokens/s by the shipped constants")
    for gpu in sorted({_gpu(row) for row in rows}):
        for fp8 in (False, True):
            chosen = [row for row in rows if _gpu(row) == gpu and row.setup.fp8 == fp8]
            if chosen:
                measured = np.array([row.tokens_per_s for row in chosen])
                ratios = training_ratios(chosen, fitted().training)
                print(line(f"{gpu}, {'fp8' if fp8 else 'bf16'}", ratios, measured))
                one = (
                    fitted()
                    .errors["training"]
                    .interval(Setting(TRAINER, gpu, 8 if fp8 else 16), 1.0)
                )
                print(_coverage([one] * len(chosen), ratios))


def score_inference(path: Path) -> None:
    """Print error and coverage of what ships on other rows of the inference table.

    By model, engine, GPU and precision, and by whether the queue is saturated.
    """
    rows = inference_rows(path)
    fit = ServeFit(fitted().inference, CampaignFit(fitted().campaign_fewer))
    ratios = serving_ratios(rows, fit)
    known = inference_rows() if PERF.exists() else []
    found = [intervals(row, fit, fitted().errors, known) for row in rows]
    keys = [
        f"{_model(row).rpartition('/')[2]}, {setting_of(row)}"
        f"{', saturated' if is_saturated(row) else ''}"
        for row in rows
    ]
    for i, title in enumerate(("time to first token", "time per output token")):
        print(f"{path}: {title} by the shipped constants")
        measured = np.array([(row.ttft_ms, row.tpot_ms)[i] for row in rows])
        for key in [*sorted(set(keys)), "all"]:
            chosen = np.array([key in (other, "all") for other in keys])
            print(line(key, ratios[chosen, i], measured[chosen]))
            inside = [pair[i] for pair, one in zip(found, chosen, strict=True) if one]
            print(_coverage(inside, measured[chosen]))


def _coverage(predicted: Sequence[Interval], measured: Array) -> str:
    one, sources = covered(predicted, measured), {interval.source for interval in predicted}
    source = f" ({sources.pop()})" if len(sources) == 1 else ""
    return (
        f"    {one['coverage']:.1%} within the interval, {one['low']:.2f} to {one['high']:.2f}"
        f"{source}"
    )


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--training", type=Path, help="other rows of the training table")
    parser.add_argument("--inference", type=Path, help="other rows of the inference table")
    options = parser.parse_args()
    if options.training:
        score_training(options.training)
    if options.inference:
        score_inference(options.inference)
    if not options.training and not options.inference:
        print_all()


if __name__ == "__main__":
    main()
