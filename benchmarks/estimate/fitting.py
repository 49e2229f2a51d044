"""Constants from rows: least squares of logarithms, robust, with priors that physics gives.

A prior says what a constant should be near to where the rows cannot tell it (one model has one
number of layers; one precision has one efficiency). Its strength is one row that is off by e per
factor of e, so that a hundred rows overrule it where they do tell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

sys.path.insert(0, str(Path(__file__).parent))

from campaign import CampaignFit, predict
from measured_rows import ServeRow, TrainRow

from stratos.estimate.fitted import InferenceFit, TrainingFit
from stratos.estimate.roofline import train_step_seconds

Array = NDArray[np.float64]

TRAINING_PRIOR = TrainingFit(
    gemm=1.0,  # of the best product that anyone measured on that GPU
    attention=0.6,  # forward and backward, of the best forward pass
    elementwise_bytes=400.0,  # some 30 tensors in bf16, written and read, forward and backward
    link=0.8,  # bus bandwidth that NCCL's tests report
    hop_s=3e-6,  # one step of a ring through memory
    fp8_gemm=0.8,  # casts on the way
)
INFERENCE_PRIOR = InferenceFit(
    weights=0.85,  # of the datasheet's bandwidth; copies reach 0.9
    cache=0.85,
    gemm=0.95,
    gemm_quantised=0.8,
    attention=0.6,
    prefill_floor_s=300e-6,  # about 30 launches of a Python loop
    layer_floor_s=45e-6,  # about 10 kernels in a graph, none shorter than 4 to 5 microseconds
    quantise_floor_s=10e-6,  # four more of them, short
    sequence_floor_s=20e-6,
    reduce_floor_s=5e-6,
    link=0.5,
    first_token_s=0.04,
)
STRENGTH = {"gemm": 2.0}
"""Of the training's priors; else 0.05: its rows tell the rest well."""

OUTLIER_TRAINING, OUTLIER_OUTPUT, OUTLIER_FIRST = 0.1, 0.15, 0.3
"""Residuals beyond these weigh less."""

FIRST_TOKEN_WEIGHT = 0.5
"""Of a time to first token, which queues and clients blur, beside a time per output token."""


@dataclass(frozen=True)
class ServeFit:
    """Constants of inference: the package's, and those of the load generators."""

    inference: InferenceFit
    campaign: CampaignFit


def robust(residuals: Array, scale: float) -> Array:
    """Return residuals that grow like a root beyond `scale`: sum of squares is a soft L1 loss."""
    z = (residuals / scale) ** 2
    return np.sign(residuals) * scale * np.sqrt(2 * (np.sqrt(1 + z) - 1))


def tokens_per_s(row: TrainRow, fit: TrainingFit) -> float:
    """Return predicted tokens per second of one GPU."""
    return row.tokens_per_step / train_step_seconds(row.card, row.device, row.setup, fit)


def training_ratios(rows: Sequence[TrainRow], fit: TrainingFit) -> Array:
    """Return predicted over measured tokens per second."""
    return np.array([tokens_per_s(row, fit) / row.tokens_per_s for row in rows])


def fit_training(rows: Sequence[TrainRow]) -> TrainingFit:
    """Fit the training's constants: bf16 first, then the one of fp8 beside them."""
    bf16 = [row for row in rows if not row.setup.fp8]
    names = [field.name for field in fields(TrainingFit) if field.name != "fp8_gemm"]
    strength = np.array([STRENGTH.get(name, 0.05) for name in names])
    fit = _fit(TRAINING_PRIOR, names, strength, lambda fit: _training_residuals(bf16, fit))
    fp8 = [row for row in rows if row.setup.fp8]
    if not fp8:
        return fit
    return _fit(fit, ["fp8_gemm"], np.array([0.05]), lambda fit: _training_residuals(fp8, fit))


def _training_residuals(rows: Sequence[TrainRow], fit: TrainingFit) -> Array:
    errors = np.array([np.log(tokens_per_s(row, fit) / row.tokens_per_s) for row in rows])
    return robust(errors, OUTLIER_TRAINING)


def _fit(
    prior: TrainingFit,
    names: Sequence[str],
    strength: Array,
    residuals: Callable[[TrainingFit], Array],
) -> TrainingFit:
    start = np.log([getattr(prior, name) for name in names])

    def constants(x: Array) -> TrainingFit:
        return replace(prior, **dict(zip(names, np.exp(x).tolist(), strict=True)))

    def all_residuals(x: Array) -> Array:
        return np.concatenate([residuals(constants(x)), strength * (x - start)])

    return constants(least_squares(all_residuals, start, method="lm").x)


def fit_inference(rows: Sequence[ServeRow]) -> ServeFit:
    """Fit the inference's constants, and that of the load generators beside them."""
    names = [field.name for field in fields(InferenceFit)]
    values = [*asdict(INFERENCE_PRIOR).values(), CampaignFit().fewer]
    start = np.log(values)

    def constants(x: Array) -> ServeFit:
        *inference, fewer = np.exp(x).tolist()
        fit = InferenceFit(**dict(zip(names, inference, strict=True)))
        return ServeFit(fit, CampaignFit(fewer))

    def residuals(x: Array) -> Array:
        errors = np.log(serving_ratios(rows, constants(x)))
        weight = FIRST_TOKEN_WEIGHT
        return np.concatenate(
            [
                weight * robust(errors[:, 0], OUTLIER_FIRST / weight),
                robust(errors[:, 1], OUTLIER_OUTPUT),
                x - start,
            ]
        )

    return constants(least_squares(residuals, start, method="lm", max_nfev=25 * len(start)).x)


def serving_ratios(rows: Sequence[ServeRow], fit: ServeFit) -> Array:
    """Return predicted over measured: time to first token, time per output token."""
    rows_predicted = [predict(row, fit.inference, fit.campaign) for row in rows]
    predicted = np.array([(row.first, row.output) for row in rows_predicted])
    return predicted / np.array([(row.ttft_ms, row.tpot_ms) for row in rows])
