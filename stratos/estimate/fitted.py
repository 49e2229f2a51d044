"""The fitted constants and their held-out errors.

Prediction intervals: wider for engines, GPUs or precisions that were not measured.

A fit is tried on rows that it had not seen: models, and whole engines, GPUs, precisions and
combinations of the three. With r the logarithm of measured over predicted seconds:

    setting measured    2.5% and 97.5% quantile of r, models held out, and at least exp(± w)
    anything unseen     exp(± sqrt(w² + Σ b²))
        w               half width of 95% of all r about the median of their setting
        b               half width of where such a median may lie, for each unseen factor: t times
                        the root mean square of the medians that were held out. t is Student's for
                        as many degrees of freedom as there are levels, so that two engines say
                        less of a third one than six settings say of a seventh.

`fitted.toml` has these numbers, written by `benchmarks/estimate/fit.py`, never by hand.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from stratos.estimate import constants as k
from stratos.records import Interval

TRAINER = "fsdp"
"""What the trainings of the table ran on, in the place of an engine."""


class Factor(StrEnum):
    """What a measurement may lack."""

    ENGINE = "engine"
    GPU = "gpu"
    PRECISION = "precision"
    COMBINATION = "combination"
    """Each was measured, and never the three together."""


@dataclass(frozen=True)
class Setting:
    """What seconds were measured on."""

    engine: str
    gpu: str
    bits: int = 16
    """Of a weight."""

    def __str__(self) -> str:
        """Return it as a sentence names it."""
        precision = {16: "bf16", 8: "fp8", 4: "fp4"}[self.bits]
        if self.engine == TRAINER:
            return f"{self.gpu} in {precision}"
        return f"{self.engine} on {self.gpu} in {precision}"

    def of(self, factor: Factor) -> str:
        """Return its level of a factor."""
        levels = {
            Factor.ENGINE: self.engine,
            Factor.GPU: self.gpu,
            Factor.PRECISION: str(self.bits),
            Factor.COMBINATION: str(self),
        }
        return levels[factor]


@dataclass(frozen=True)
class Known:
    """A setting that was measured, with models that the fit had not seen."""

    setting: Setting
    low: float
    """Least of measured over predicted seconds, but for 2.5% of them."""
    high: float
    """Most of the same."""
    mape: float
    """Mean absolute percentage error."""


@dataclass(frozen=True)
class Unseen:
    """A factor of which the level was held out."""

    between: float
    """Half width (95%) of where the median of a new level may lie, as a logarithm."""
    mape: float


@dataclass(frozen=True)
class Errors:
    """The errors of one quantity."""

    known: tuple[Known, ...]
    unseen: dict[Factor, Unseen]
    within: float
    """Half width (95%) of rows about the median of their setting, as a logarithm."""

    def lacking(self, setting: Setting) -> tuple[Factor, ...]:
        """Return what no measurement has of a setting; nothing where it was measured."""
        if any(errors.setting == setting for errors in self.known):
            return ()
        factors = tuple(f for f in self.unseen if not self.knows(f, setting.of(f)))
        alone = tuple(f for f in factors if f is not Factor.COMBINATION)
        return alone or factors or tuple(self.unseen)

    def knows(self, factor: Factor, level: str) -> bool:
        """Return whether a level of a factor was measured in any setting."""
        return any(errors.setting.of(factor) == level for errors in self.known)

    def interval(
        self, setting: Setting, mean: float, hidden: float = 0.0, spared: float = 0.0
    ) -> Interval:
        """Return predicted seconds with the range that measurements lie in.

        Args:
            setting: what they would be measured on.
            mean: predicted seconds.
            hidden: seconds of the host that are counted as hidden behind the device and that no
                measurement has shown to be: they may come on top.
            spared: seconds of a request beside the model. They were fitted to the servers and load
                generators of two campaigns, and another may take none.
        """
        lacking = self.lacking(setting)
        if not lacking:
            errors = next(errors_of for errors_of in self.known if errors_of.setting == setting)
            source = f"roofline, {setting}: error {errors.mape:.0%} on models it was not fitted to"
            return _interval(mean, (errors.low, errors.high), hidden, spared, source)
        between = sum(self.unseen[factor].between ** 2 for factor in lacking)
        factor = math.exp(math.sqrt(self.within**2 + between))
        low, high = 1 / factor, factor
        source = f"roofline, {', '.join(self._reasons(setting, lacking))}"
        if Factor.GPU in lacking and is_unlike(setting.gpu):
            low, high = min(low, k.UNLIKE_ERROR[0]), max(high, k.UNLIKE_ERROR[1])
            source += f"; {setting.gpu} is unlike those that were"
        return _interval(mean, (low, high), hidden, spared, source)

    def _reasons(self, setting: Setting, lacking: tuple[Factor, ...]) -> Iterator[str]:
        names = {
            Factor.ENGINE: (setting.engine, "engines"),
            Factor.GPU: (setting.gpu, "GPUs"),
            Factor.PRECISION: (f"{setting.bits} bits", "precisions"),
            Factor.COMBINATION: (str(setting), "settings"),
        }
        for factor in lacking:
            level, levels = names[factor]
            error = self.unseen[factor].mape
            yield f"{level} not measured: error {error:.0%} on {levels} it was not fitted to"


def _interval(
    mean: float, ends: tuple[float, float], hidden: float, spared: float, source: str
) -> Interval:
    low, high = ends
    return Interval(mean, min(mean * low, mean - spared), max(mean * high, mean + hidden), source)


def is_unlike(gpu: str) -> bool:
    """Return whether a GPU has no HBM and NVLink of NVIDIA's, which all measured ones have."""
    return gpu not in k.LINK_GB_PER_S or gpu.startswith("MI")


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
        errors={quantity: _errors(rows) for quantity, rows in table["errors"].items()},
    )


@cache
def fitted() -> Fitted:
    """Return the constants that ship with the package."""
    return read_fitted(FITTED_TOML.read_text(encoding="utf-8"))
