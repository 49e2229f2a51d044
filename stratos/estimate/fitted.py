"""The fitted constants and their held-out errors.

`fitted.toml` is written by `benchmarks/estimate/fit.py`, never by hand.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from stratos.estimate.prediction_error import Errors, Factor, Known, Setting, Unseen

FITTED_TOML = Path(__file__).with_name("fitted.toml")

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingFit:
    """Constants of the training roofline; shares are of the datasheet's figure."""

    gemm: float
    """Matrix products: share of the GPU's achievable FLOP/s."""
    attention: float
    """Flash attention: the same."""
    elementwise_bytes: float
    """Bytes moved per token, block and unit of width by all that is no matrix product."""
    link: float
    """Sharded training: the link's bandwidth over that at which the part of the communication
    that arithmetic does not hide would take as long."""
    hop_s: float
    """Latency of one step of a ring collective, of which each block has two or three."""
    fp8_gemm: float
    """Matrix products in fp8: share of the fp8 peak."""


@dataclass(frozen=True)
class InferenceFit:
    """Constants of the inference roofline (compiled engines)."""

    weights: float
    """Reading weights: share of the memory's bandwidth."""
    cache: float
    """Reading keys and values: the same."""
    gemm: float
    """Matrix products of prefill: share of the GPU's achievable FLOP/s."""
    gemm_quantised: float
    """The same with fp8 or fp4 weights, of the peak in that precision."""
    attention: float
    """Attention of prefill: share of what flash attention reaches at best."""
    prefill_floor_s: float
    """Least seconds of one block in a prefill, whose kernels are issued one by one."""
    layer_floor_s: float
    """Least seconds of one block in a decoding step."""
    quantise_floor_s: float
    """What each block adds to that where activations are quantised on the way."""
    sequence_floor_s: float
    """Seconds that each sequence of the batch adds to a step: scheduling, sampling, streaming."""
    reduce_floor_s: float
    """Latency of one all-reduce."""
    link: float
    """All-reduce: share of the link's bandwidth."""
    first_token_s: float
    """Seconds until the first token beside the prefill itself."""


@dataclass(frozen=True)
class Fitted:
    """All of `fitted.toml`."""

    date: str
    campaign_fewer: float
    """Prompts that an answer does not wait for, in the campaigns that the constants were fitted
    to: the first requests of a run find an empty server."""
    training: TrainingFit
    inference: InferenceFit
    errors: dict[str, Errors]
    """By quantity: training, first_token, output_token."""


def _section(table: dict[str, Any], section: type[T]) -> T:
    return section(**{field.name: float(table[field.name]) for field in fields(section)})  # type: ignore[arg-type]


def _errors(table: dict[str, Any]) -> Errors:
    known = [
        Known(Setting(row["engine"], row["gpu"], row["bits"]), row["low"], row["high"], row["mape"])
        for row in table["known"]
    ]
    unseen = {Factor(name): Unseen(*numbers) for name, numbers in table["unseen"].items()}
    return Errors(tuple(known), unseen, float(table["within"]))


def read_fitted(text: str) -> Fitted:
    """Return the constants of a `fitted.toml`."""
    table = tomllib.loads(text)
    return Fitted(
        date=str(table["date"]),
        campaign_fewer=float(table["campaign_fewer"]),
        training=_section(table["training"], TrainingFit),
        inference=_section(table["inference"], InferenceFit),
        errors={quantity: _errors(found) for quantity, found in table["errors"].items()},
    )


@cache
def fitted() -> Fitted:
    """Return the constants that ship with the package."""
    return read_fitted(FITTED_TOML.read_text(encoding="utf-8"))
