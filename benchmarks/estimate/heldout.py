"""Predictions of the tables' rows by fits without them, and how good predictions are."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parent))

from fitting import fit_inference, fit_training, serving_ratios, training_ratios
from measured_rows import ServeRow, TrainRow

from stratos.records import Interval

Array = NDArray[np.float64]
Row = TypeVar("Row")
Splits = dict[str, dict[str, tuple[Array, Array]]]
"""Split to GPU to predicted over measured, and measured."""


def held_out(
    rows: Sequence[Row], level: Callable[[Row], str]
) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """Yield each value of a column with the rows to fit on and the rows to predict."""
    for value in sorted({level(row) for row in rows}):
        yield (
            value,
            [row for row in rows if level(row) != value],
            [row for row in rows if level(row) == value],
        )


def training_splits(rows: Sequence[TrainRow]) -> Splits:
    """Return ratios and measurements by split and by GPU, bf16 and fp8 apart."""
    pairs: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    levels: dict[str, Callable[[TrainRow], str]] = {"size": _size, "GPU": gpu_of}
    for precision in ("bf16", "fp8"):
        chosen = [row for row in rows if row.setup.fp8 == (precision == "fp8")]
        for split, level in levels.items():
            for value, _, out in held_out(chosen, level):
                rest = [row for row in rows if level(row) != value]
                if precision == "fp8" and not any(row.setup.fp8 for row in rest):
                    continue
                ratios = training_ratios(out, fit_training(rest))
                for row, ratio in zip(out, ratios, strict=True):
                    by_gpu = pairs[f"{precision}, {split} never seen"]
                    by_gpu[gpu_of(row)].append((ratio, row.tokens_per_s))
    return _arrays(pairs)


def inference_splits(rows: Sequence[ServeRow]) -> dict[str, Splits]:
    """Return, by quantity, ratios and measurements by split and by GPU."""
    pairs: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    levels: dict[str, Callable[[ServeRow], str]] = {"model": _model, "GPU": gpu_of}
    for split, level in levels.items():
        for value, rest, out in held_out(rows, level):
            ratios = serving_ratios(out, fit_inference(rest))
            for row, (first, output) in zip(out, ratios, strict=True):
                title, gpu = f"{split} {value.rpartition('/')[2]} never seen", gpu_of(row)
                pairs["first_token"][title][gpu].append((first, row.ttft_ms))
                pairs["output_token"][title][gpu].append((output, row.tpot_ms))
    return {quantity: _arrays(by_split) for quantity, by_split in pairs.items()}


def _arrays(pairs: dict[str, Any]) -> Splits:
    return {
        split: {
            gpu: (np.array([ratio for ratio, _ in rows]), np.array([value for _, value in rows]))
            for gpu, rows in by_gpu.items()
        }
        for split, by_gpu in pairs.items()
    }


def _size(row: TrainRow) -> str:
    return row.size


def gpu_of(row: TrainRow | ServeRow) -> str:
    """Return the GPU of a row."""
    return row.device.name


def _model(row: ServeRow) -> str:
    return row.card.name


def spearman(predicted: Array, measured: Array) -> float:
    """Return the rank correlation."""
    return float(spearmanr(predicted, measured).statistic)


def figures(mean: Array, measured: Array) -> dict[str, Any]:
    """Return error and rank of predictions, and where measurements lay (95%) over them."""
    ratio = measured / mean
    return {
        "rows": len(measured),
        "mape": round(float(np.abs(1 / ratio - 1).mean()), 4),
        "spearman": round(spearman(mean, measured), 3) if len(measured) > 2 else None,
        "ratio_low": round(float(np.quantile(ratio, 0.025)), 3),
        "ratio_high": round(float(np.quantile(ratio, 0.975)), 3),
    }


def covered(predicted: Sequence[Interval], measured: Array) -> dict[str, float]:
    """Return the share of measurements inside their intervals, and the median ends over means."""
    low, mean, high = (
        np.array([getattr(interval, end) for interval in predicted])
        for end in ("low", "mean", "high")
    )
    return {
        "coverage": round(float(((low <= measured) & (measured <= high)).mean()), 4),
        "low": round(float(np.median(low / mean)), 3),
        "high": round(float(np.median(high / mean)), 3),
    }
