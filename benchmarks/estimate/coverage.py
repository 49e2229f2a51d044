"""How often intervals hold on what neither the constants nor the intervals were fitted to.

    python benchmarks/estimate/coverage.py --keep

Each engine, GPU, precision, model and setting is held out in turn. From the rows that are left come
the constants and the errors, by further hold-outs among them, and from these the intervals of the
rows held out (`nested`): nothing of a row that is counted is in its interval. One engine alone says
little of another, so that those intervals are wider than the ones that ship, which rest on two.
`coverage` is that of the same predictions in intervals as wide as those that ship.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import record
from campaign import is_saturated
from fitting import ServeFit, fit_training, serving_ratios, training_ratios
from heldout import covered, figures, gpu_of, held_out, training_splits
from measured_rows import ServeRow, TrainRow, inference_rows, training_rows
from unseen import QUANTITIES, fit_of, intervals, serving_errors, setting_of, training_errors

from stratos.estimate.fitted import TRAINER, Errors, Setting, fitted

PRECISIONS = {16: "bf16", 8: "fp8", 4: "fp4"}
LEVELS: dict[str, Callable[[ServeRow], str]] = {
    "engine": lambda row: row.backend,
    "GPU": gpu_of,
    "precision": lambda row: PRECISIONS[row.weight_bits],
    "model": lambda row: row.card.name.rpartition("/")[2],
    "setting": lambda row: str(setting_of(row)),
}


def serving_coverage(rows: Sequence[ServeRow]) -> list[dict[str, Any]]:
    """Return a line for each level held out, quantity and load."""
    lines = []
    for factor, level in LEVELS.items():
        for value, rest, out in held_out(rows, level):
            nested = serving_errors(rest) if len({setting_of(row) for row in rest}) > 1 else None
            lines += scored(factor, value, out, fit_of(tuple(rest)), nested, rest)
    return lines


def without(errors: Errors, factor: str, value: str) -> Errors:
    """Return errors that ship less the settings of a level: as wide, and that one unseen."""
    known = tuple(error for error in errors.known if _level_of(factor, error.setting) != value)
    return Errors(known, errors.unseen, errors.within)


def _level_of(factor: str, setting: Setting) -> str:
    levels = {
        "engine": setting.engine,
        "GPU": setting.gpu,
        "precision": PRECISIONS[setting.bits],
        "setting": str(setting),
    }
    return levels.get(factor, "")


def scored(
    factor: str,
    value: str,
    rows: Sequence[ServeRow],
    fit: ServeFit,
    nested: dict[str, Errors] | None,
    rest: Sequence[ServeRow],
) -> list[dict[str, Any]]:
    """Return a line for each quantity and load; one setting alone has no errors of its own."""
    shipped = {name: without(fitted().errors[name], factor, value) for name in QUANTITIES}
    lines = []
    for load in ("below", "saturated"):
        chosen = [row for row in rows if is_saturated(row) == (load == "saturated")]
        if not chosen:
            continue
        by_shipped = [intervals(row, fit, shipped, rest) for row in chosen]
        by_nested = [intervals(row, fit, nested, rest) for row in chosen] if nested else None
        for i, quantity in enumerate(QUANTITIES):
            measured = np.array([(row.ttft_ms, row.tpot_ms)[i] for row in chosen])
            predicted = [pair[i] for pair in by_shipped]
            lines.append(
                {
                    "held_out": factor,
                    "level": value,
                    "quantity": quantity,
                    "load": load,
                    **figures(np.array([interval.mean for interval in predicted]), measured),
                    **covered(predicted, measured),
                    "nested": by_nested and covered([pair[i] for pair in by_nested], measured),
                }
            )
    return lines


def training_coverage(rows: Sequence[TrainRow]) -> list[dict[str, Any]]:
    """Return a line for each GPU and size held out in bf16, and for the sizes in fp8 together."""
    bf16 = [row for row in rows if not row.setup.fp8]
    levels: dict[str, Callable[[TrainRow], str]] = {"GPU": gpu_of, "size": lambda row: row.size}
    lines = []
    for factor, level in levels.items():
        for value, rest, out in held_out(bf16, level):
            # Predicted over measured tokens a second are measured over predicted seconds.
            measured = training_ratios(out, fit_training(rest))
            shipped = without(fitted().errors["training"], factor, value)
            predicted, by_nested = (
                [errors.interval(Setting(TRAINER, row.device.name), 1.0) for row in out]
                for errors in (shipped, training_errors(rest))
            )
            tokens = np.array([row.tokens_per_s for row in out])
            lines.append(
                {
                    "held_out": factor,
                    "level": value,
                    "precision": "bf16",
                    **figures(tokens * measured, tokens),
                    **covered(predicted, measured),
                    "nested": covered(by_nested, measured),
                }
            )
    for ratios, tokens in training_splits(rows)["fp8, size never seen"].values():
        line = figures(tokens * ratios, tokens)
        lines.append({"held_out": "size", "level": "each", "precision": "fp8", **line})
    return lines


def in_sample(training: Sequence[TrainRow], inference: Sequence[ServeRow]) -> dict[str, float]:
    """Return the errors on the rows that the constants were fitted to."""
    bf16 = [row for row in training if not row.setup.fp8]
    tokens = training_ratios(bf16, fit_training(training))
    serving = serving_ratios(inference, fit_of(tuple(inference)))
    first, output = np.abs(serving - 1).mean(axis=0).tolist()
    return {
        "training": round(float(np.abs(tokens - 1).mean()), 4),
        "first_token": round(first, 4),
        "output_token": round(output, 4),
    }


def main() -> None:
    """Hold out and predict."""
    options = record.arguments(__doc__).parse_args()
    training, inference = training_rows(), inference_rows()
    result = {
        "serving": serving_coverage(inference),
        "training": training_coverage(training),
        "in_sample": in_sample(training, inference),
    }
    record.finish("estimate/coverage", result, options)


if __name__ == "__main__":
    main()
