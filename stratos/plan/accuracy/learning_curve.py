"""Learning curves: Bayesian power-law extrapolation of accuracy over tokens, with an interval.

    accuracy(D)  = chance + (1 - chance) · exp(-hazard(D))
    hazard(D)    = floor + (level - floor) · (D / reference)^-exponent     D tokens of training
    one training : hazard(D) · e^(spread · z) in its place,  z ~ N(0, 1)   seed to seed
    right of n   ~ Binomial(n, accuracy of that training)

Beyond the longest training the exponent is `exponent · e^(bend · z)`: learning may gain or lose
speed where nobody has looked.

Where errors are rare this is the usual power law of the error with a floor (Hestness et al. 2017),
since 1 - exp(-h) ≈ h. Where they are not it stays an accuracy: an answer is right if every step of
it is, so its log-probability is the sum of the steps' losses, and those follow power laws (Kaplan
et al. 2020; Schaeffer et al. 2023, "Are Emergent Abilities of Large Language Models a Mirage?").
Chance is what a student guesses right before it has learnt anything: without it a first, flat part
of the curve would be carried on as if it went on for ever.

The posterior over (level, floor, exponent, spread, chance) is summed on a grid, under priors that
say little. The predictive interval holds what is not known of the curve and what the seed of the
next training will do. Nothing is drawn at random: the same trainings give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""Sides of a box in the unit cube."""

MEDIAN_EXPONENT, EXPONENT_SPREAD = 1.0, 0.8
"""Prior of the exponent: log-normal, 95% between 0.2 and 4.8. Published exponents of an error by
data lie at 0.1 to 0.7 (Hestness et al. 2017); those of tasks that a student comes to master lie
above, at 2 to 3 for the embedded students."""
_SPREADS = np.array([0.05, 0.1, 0.2, 0.4])
"""Equally likely: standard deviation of a training's log-hazard."""
_MOST_CHANCE = 0.5
"""Accuracy above which nobody only guesses."""
_Z = np.array([NormalDist().inv_cdf((i + 0.5) / 15) for i in range(15)])
"""Seeds: the middles of equally likely parts."""
_BENDS = np.exp(0.5 * np.array([NormalDist().inv_cdf((i + 0.5) / 7) for i in range(7)]))
"""Equally likely: by how much the exponent changes beyond the longest training."""
_ALIKE = 0.5
"""Correlation of an item's being right after one training and after another."""
_N_CHOICES = 2000
"""Simulated choices of the best weights."""
_LOG_HAZARDS = np.linspace(np.log(1e-6), np.log(1e4), 1024)
"""Where likelihoods are tabulated and the posterior is a histogram."""
_CELLS = (32, 10, 18)
"""Cells of the grid along level, ceiling and exponent."""
_NEGLIGIBLE = 1e-4
"""Part of the posterior that may lie outside the grid when that is drawn again, finer."""


@dataclass(frozen=True)
class Measured:
    """One training and how it did."""

    tokens: float
    right: float
    n_items: float
    """Items that were asked, or what they count for."""


def on_same_items(trainings: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return trainings that were asked the same items, with the items counted for less.

    An item that is hard for one training is hard for the next, so that three measurements on the
    same items are not three times as many items.
    """
    part = 1 / (1 + (len(trainings) - 1) * _ALIKE) if trainings else 1.0
    return tuple(
        Measured(training.tokens, part * training.right, part * training.n_items)
        for training in trainings
    )


def without_optimism(exact: float, reused: float, tried: Sequence[float], n_items: int) -> float:
    """Return an accuracy without what it owes to the choice of the best weights.

    Items that also chose the weights show these the better for it. By how much is simulated: the
    weights are measured anew around what they showed, and the best are taken. That part of an
    error which all weights share, since they are asked the same items, chooses none of them. It is
    rather too little: what they showed is spread by chance already.

    Args:
        exact: accuracy of the kept weights.
        reused: share of its items that also chose them.
        tried: accuracies of all weights that there were to choose from, on these items.
        n_items: how many they were.
    """
    if not reused or not tried:
        return exact
    shown = np.array(tried)
    spread = np.sqrt((1 - _ALIKE) * shown * (1 - shown) / n_items)
    errors = np.random.default_rng(0).normal(size=(_N_CHOICES, len(shown))) * spread
    best = (shown + errors).argmax(axis=1)
    return max(0.0, exact - reused * max(0.0, float(errors[range(_N_CHOICES), best].mean())))


@dataclass(frozen=True)
class Predicted:
    """Accuracy of a training that was not done."""

    mean: float
    low: float
    high: float


@lru_cache(maxsize=4096)
def extrapolate(
    trainings: tuple[Measured, ...], tokens: float, confidence: float = 0.95
) -> Predicted:
    """Predict the accuracy of one more training.

    Args:
        trainings: at least one, at any numbers of tokens.
        tokens: length of the training that is asked about.
        confidence: of the interval, two-sided.
    """
    measured = sorted(
        trainings, key=lambda training: (training.tokens, training.right, training.n_items)
    )
    chances = _chances(measured)
    tables = [
        np.concatenate([_log_likelihood(training, chance) for chance in chances])
        for training in measured
    ]
    box: Box = ((0.0, 1.0),) * 3
    for draw in ("coarse", "finer", "last"):
        curves = _Curves.on_grid(measured, box)
        score = np.zeros((len(chances) * len(_SPREADS), len(curves.levels)))
        for training, table in zip(measured, tables, strict=True):
            at = curves.log_hazards(training.tokens)
            for row, values in zip(score, table, strict=True):
                row += np.interp(at, _LOG_HAZARDS, values)
        if draw == "coarse":
            # Cells this wide miss what is known precisely: only what any seed might hide is cut.
            score = score[len(_SPREADS) - 1 :: len(_SPREADS)]
        weight = np.exp(score - score.max())
        if draw != "last":
            box = _around(weight.sum(axis=0), box)
    bent = [curves.log_hazards(tokens, bend) for bend in _BENDS]
    return _predictive(bent, chances, weight, confidence)


@dataclass(frozen=True)
class _Curves:
    """Curves that are equally likely before anything is measured."""

    reference: float
    longest: float
    """Tokens of the longest training that was measured."""
    levels: np.ndarray
    """Hazards at the reference."""
    floors: np.ndarray
    exponents: np.ndarray

    @classmethod
    def on_grid(cls, measured: Sequence[Measured], box: Box) -> _Curves:
        """Return the middles of the cells of a box in the cube of equally likely curves.

        Along its axes lie the logarithm of the level, from well below to well above what was seen;
        the ceiling, most of it near 1; and the exponent. The reference is the middle of what was
        measured, where level and exponent are least entangled.
        """
        weights = [training.n_items for training in measured]
        middle = np.average(np.log([training.tokens for training in measured]), weights=weights)
        seen = [-np.log((training.right + 0.5) / (training.n_items + 1)) for training in measured]
        lowest, highest = np.log(min(seen) / 8), np.log(max(seen) * 8)
        level, ceiling, exponent = (
            low + (high - low) * (np.arange(n) + 0.5) / n
            for (low, high), n in zip(box, _CELLS, strict=True)
        )
        levels, distances, exponents = (
            axis.ravel()
            for axis in np.meshgrid(
                np.exp(lowest + level * (highest - lowest)),
                # How far the ceiling is from 1, as a part of how far the level's accuracy is.
                (1 - ceiling) ** 1.5,
                [_exponent(share) for share in exponent],
                indexing="ij",
            )
        )
        floors = -np.log1p(distances * np.expm1(-levels))
        longest = max(training.tokens for training in measured)
        return cls(float(np.exp(middle)), longest, levels, floors, exponents)

    def log_hazards(self, tokens: float, bend: float = 1.0) -> np.ndarray:
        """Return the logarithm of every curve's hazard after `tokens`."""
        near = min(tokens, self.longest)
        fallen = (near / self.reference * (tokens / near) ** bend) ** -self.exponents
        logs: np.ndarray = np.log(self.floors + (self.levels - self.floors) * fallen)
        return logs


def _exponent(share: float) -> float:
    return MEDIAN_EXPONENT * math.exp(EXPONENT_SPREAD * NormalDist().inv_cdf(share))


def _around(weight: np.ndarray, box: Box) -> Box:
    """Return the smallest box of whole cells that holds all but a negligible part."""
    cells = weight.reshape(_CELLS) / weight.sum()
    sides = []
    for axis, (low, high) in enumerate(box):
        along = cells.sum(axis=tuple(side for side in range(3) if side != axis))
        likely = np.flatnonzero(along > _NEGLIGIBLE / len(along))
        width = (high - low) / len(along)
        # One cell more on each side: the middle of a cell stands for all of it.
        first, last = max(likely[0] - 1, 0), min(likely[-1] + 2, len(along))
        sides.append((low + float(first) * width, low + float(last) * width))
    return sides[0], sides[1], sides[2]


def _chances(measured: Sequence[Measured]) -> tuple[float, ...]:
    """Return what may be chance, equally likely: nothing, or nearly the least that was seen.

    Trainings of one length alone cannot tell: then it is nothing.
    """
    lowest = min(training.right / training.n_items for training in measured)
    if lowest > 0 and len({training.tokens for training in measured}) > 1:
        return 0.0, min(0.9 * lowest, _MOST_CHANCE)
    return (0.0,)


def _log_likelihood(training: Measured, chance: float) -> np.ndarray:
    """Return log P(right of n | hazard, spread), spread by hazard, seeds summed out."""
    hazards = np.exp(_LOG_HAZARDS[None, :, None] + _SPREADS[:, None, None] * _Z)
    # Without chance in logarithms, where the accuracy itself is too small for a float.
    log_right = np.log(chance + (1 - chance) * np.exp(-hazards)) if chance else -hazards
    log_wrong = np.log(-np.expm1(-hazards)) + np.log1p(-chance)
    logs = training.right * log_right + (training.n_items - training.right) * log_wrong
    top = logs.max(axis=2, keepdims=True)
    summed: np.ndarray = top[..., 0] + np.log(np.exp(logs - top).mean(axis=2))
    return summed


def _predictive(
    log_hazards: Sequence[np.ndarray],
    chances: Sequence[float],
    weight: np.ndarray,
    confidence: float,
) -> Predicted:
    """Return mean and quantiles of the next training's accuracy."""
    step = _LOG_HAZARDS[1] - _LOG_HAZARDS[0]
    n_cells = len(_LOG_HAZARDS)
    places = np.round((np.array(log_hazards) - _LOG_HAZARDS[0]) / step).astype(int)
    cells = np.clip(places, 0, n_cells - 1).ravel()
    masses, accuracies = [], []
    for chance, by_spread in zip(chances, np.split(weight, len(chances)), strict=True):
        mass = np.zeros(n_cells)
        for spread, weights in zip(_SPREADS, by_spread, strict=True):
            of_curve = np.bincount(cells, np.tile(weights, len(log_hazards)), n_cells)
            possible = np.flatnonzero(of_curve)
            for shift in np.round(spread * _Z / step).astype(int):
                moved = np.clip(possible + shift, 0, n_cells - 1)
                mass += np.bincount(moved, of_curve[possible], n_cells)
        masses.append(mass)
        accuracies.append(chance + (1 - chance) * np.exp(-np.exp(_LOG_HAZARDS)))
    mass, accuracy = np.concatenate(masses), np.concatenate(accuracies)
    order = np.argsort(accuracy, kind="stable")
    below = np.cumsum(mass[order]) / mass.sum()
    tail = (1 - confidence) / 2
    low, high = (
        float(accuracy[order[min(int(np.searchsorted(below, share)), len(order) - 1)]])
        for share in (tail, 1 - tail)
    )
    mean = float(mass @ accuracy / mass.sum())
    return Predicted(mean, min(low, mean), max(high, mean))
