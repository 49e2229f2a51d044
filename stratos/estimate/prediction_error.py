"""Prediction intervals: wider for engines, GPUs or precisions that were not measured.

A fit is tried on rows that it had not seen: models, and whole engines, GPUs, precisions and
combinations of the three. With r the logarithm of measured over predicted seconds:

    setting measured    2.5% and 97.5% quantile of r, models held out, and at least exp(± w)
    anything unseen     exp(± sqrt(w² + Σ b²))
        w               half width of 95% of all r about the median of their setting
        b               half width of where such a median may lie, for each unseen factor: t times
                        the root mean square of the medians that were held out. t is Student's for
                        as many degrees of freedom as there are levels, so that two engines say
                        less of a third one than six settings say of a seventh.

`fitted.toml` has these numbers, written by `benchmarks/estimate/fit.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

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
        if any(one.setting == setting for one in self.known):
            return ()
        factors = tuple(f for f in self.unseen if not self.knows(f, setting.of(f)))
        alone = tuple(f for f in factors if f is not Factor.COMBINATION)
        return alone or factors or tuple(self.unseen)

    def knows(self, factor: Factor, level: str) -> bool:
        """Return whether a level of a factor was measured in any setting."""
        return any(one.setting.of(factor) == level for one in self.known)

    def interval(self, setting: Setting, mean: float, hidden: float = 0.0) -> Interval:
        """Return predicted seconds with the range that measurements lie in.

        Args:
            setting: what they would be measured on.
            mean: predicted seconds.
            hidden: seconds of the host that are counted as hidden behind the device and that no
                measurement has shown to be: they may come on top.
        """
        lacking = self.lacking(setting)
        if not lacking:
            one = next(one for one in self.known if one.setting == setting)
            source = f"roofline, {setting}: error {one.mape:.0%} on models it was not fitted to"
            return _interval(mean, one.low, one.high, hidden, source)
        between = sum(self.unseen[factor].between ** 2 for factor in lacking)
        factor = math.exp(math.sqrt(self.within**2 + between))
        low, high = 1 / factor, factor
        source = f"roofline, {', '.join(self._reasons(setting, lacking))}"
        if Factor.GPU in lacking and is_unlike(setting.gpu):
            low, high = min(low, k.UNLIKE_ERROR[0]), max(high, k.UNLIKE_ERROR[1])
            source += f"; {setting.gpu} is unlike those that were"
        return _interval(mean, low, high, hidden, source)

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


def _interval(mean: float, low: float, high: float, hidden: float, source: str) -> Interval:
    return Interval(mean, mean * low, max(mean * high, mean + hidden), source)


def is_unlike(gpu: str) -> bool:
    """Return whether a GPU has no HBM and NVLink of NVIDIA's, which all measured ones have."""
    return gpu not in k.LINK_GB_PER_S or gpu.startswith("MI")
