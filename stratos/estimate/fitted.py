"""The fitted constants, and how far measurements lay from predictions that had not seen them.

`fitted.toml` is written by `benchmarks/estimate/fit.py`, never by hand.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from stratos.estimate import constants as k
from stratos.records import Interval

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
    errors: dict[str, dict[str, tuple[float, float, float]]]
    """Quantity to GPU ("other" for one that was never measured) to: 2.5% and 97.5% quantile of
    measured over predicted seconds, and mean absolute percentage error, all held out."""

    def interval(self, quantity: str, gpu: str, mean: float) -> Interval:
        """Return predicted seconds with the range that held-out measurements lay in."""
        known = self.errors[quantity]
        low, high, mape = known.get(gpu, known["other"])
        source = f"roofline, {gpu}: error {mape:.0%} on models it was not fitted to"
        if gpu not in known:
            source = f"roofline, {gpu} not measured: error {mape:.0%} on GPUs it was not fitted to"
            if gpu not in k.LINK_GB_PER_S or gpu.startswith("MI"):
                low, high = min(low, k.UNLIKE_ERROR[0]), max(high, k.UNLIKE_ERROR[1])
                source = f"roofline, {gpu} not measured, and unlike those that were"
        return Interval(mean, mean * low, mean * high, source)


def _section(table: dict[str, Any], section: type[T]) -> T:
    return section(**{field.name: float(table[field.name]) for field in fields(section)})  # type: ignore[arg-type]


def read_fitted(text: str) -> Fitted:
    """Return the constants of a `fitted.toml`."""
    table = tomllib.loads(text)
    return Fitted(
        date=str(table["date"]),
        campaign_fewer=float(table["campaign_fewer"]),
        training=_section(table["training"], TrainingFit),
        inference=_section(table["inference"], InferenceFit),
        errors={
            quantity: {gpu: (float(e[0]), float(e[1]), float(e[2])) for gpu, e in by_gpu.items()}
            for quantity, by_gpu in table["errors"].items()
        },
    )


@cache
def fitted() -> Fitted:
    """Return the constants that ship with the package."""
    return read_fitted(FITTED_TOML.read_text(encoding="utf-8"))
