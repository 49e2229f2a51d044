"""What the errors rest on: each constant moved, each prior's strength, each setting held out.

python benchmarks/estimate/sensitivity.py --keep
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from fitting import ServeFit, fit_inference, fit_training, serving_ratios, training_ratios
from heldout import held_out, line
from measured_rows import inference_rows, training_rows
from record import keep

from stratos.estimate.fitted import InferenceFit, TrainingFit


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description="What the errors rest on.")
    parser.add_argument("--keep", action="store_true", help="keep the errors of what is held out")
    asked = parser.parse_args()
    priors: list[dict[str, float | str]] = []
    settings: dict[str, float] = {}
    training, inference = training_rows(), inference_rows()
    tokens = np.array([row.tokens_per_s for row in training])
    measured = np.array([(row.ttft_ms, row.tpot_ms) for row in inference])
    fit, serve = fit_training(training), fit_inference(inference)

    print("MAPE with one constant 20% lower / as it is / 20% higher")
    for field in fields(TrainingFit):
        errors = [
            np.abs(
                training_ratios(
                    training, replace(fit, **{field.name: getattr(fit, field.name) * by})
                )
                - 1
            ).mean()
            for by in (0.8, 1.0, 1.2)
        ]
        print(f"  tokens/s      {field.name:<20}" + "".join(f"{e:8.1%}" for e in errors))
    for field in fields(InferenceFit):
        moved = [
            replace(serve.inference, **{field.name: getattr(serve.inference, field.name) * by})
            for by in (0.8, 1.0, 1.2)
        ]
        ratios = [serving_ratios(inference, ServeFit(m, serve.campaign)) for m in moved]
        for i, what in enumerate(("first token", "output token")):
            errors = [np.abs(r[:, i] - 1).mean() for r in ratios]
            print(f"  {what:<13} {field.name:<20}" + "".join(f"{e:8.1%}" for e in errors))

    print("Priors weaker and stronger, model or GPU held out")
    for strength in (0.3, 1.0, 3.0):
        for split in ("model", "GPU"):
            for value, rows_in, rows_out in held_out(
                inference, lambda row, s=split: row.card.name if s == "model" else row.device.name
            ):
                ratios = serving_ratios(rows_out, fit_inference(rows_in, strength))
                errors = np.abs(ratios - 1).mean(axis=0)
                priors.append(
                    {"strength": strength, "held_out": split, "output_token": round(errors[1], 4)}
                )
                print(
                    f"  strength {strength:g}, {split} {value}: first token {errors[0]:.1%}, "
                    f"output token {errors[1]:.1%}"
                )

    print("Settings held out: tokens/s, then time per output token")
    for name in ("context", "micro_tokens", "n_devices", "checkpointing"):
        bf16 = [row for row in training if not row.setup.fp8]
        ratios = np.concatenate(
            [
                training_ratios(rows_out, fit_training(rows_in))
                for _, rows_in, rows_out in held_out(
                    bf16, lambda row, n=name: str(getattr(row.setup, n))
                )
            ]
        )
        settings[f"training {name}"] = round(float(np.abs(ratios - 1).mean()), 4)
        print(f"  {name:<16} MAPE {np.abs(ratios - 1).mean():.1%} of {len(tokens)} rows")
    for name in ("prompt", "answer", "batch", "tensor_parallel", "weight_bits", "backend"):
        found = [
            (
                serving_ratios(rows_out, fit_inference(rows_in)),
                [inference.index(r) for r in rows_out],
            )
            for _, rows_in, rows_out in held_out(
                inference, lambda row, n=name: str(getattr(row, n))
            )
        ]
        ratios = np.concatenate([pair[0] for pair in found])
        order = np.concatenate([pair[1] for pair in found])
        settings[f"output token {name}"] = round(float(np.abs(ratios[:, 1] - 1).mean()), 4)
        print(line(name, ratios[:, 1], measured[order, 1]))
    if asked.keep:
        keep("estimate/sensitivity", {"priors": priors, "settings": settings})


if __name__ == "__main__":
    main()
