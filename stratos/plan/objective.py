"""What a plan is the best of, as one linear function of its four values.

The deployment score of a plan is

    Σ w_k · (worst_k - value_k) / (worst_k - best_k)  /  Σ w_k

over k = accuracy, latency, time, cost, so that 1 is the best and 0 the worst in everything. `best`
and `worst` are taken over a fixed reference set: the efficient plans that are feasible before the
user's limits, so that neither a tighter limit nor one more absurd offer in the catalog changes a
plan's score. A value that is the same for all of them drops out, and the weights of the others are
scaled up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stratos.config import ObjectiveConfig
from stratos.plan.problem import Choice

COSTS = ("accuracy", "cost", "time", "latency")
"""Order of `Choice.costs`; accuracy counts negatively there."""

SINGLE = {
    "most_accurate": (1.0, 0.0, 0.0, 0.0),
    "cheapest": (0.0, 1.0, 0.0, 0.0),
    "fastest": (0.0, 0.0, 1.0, 0.0),
    "lowest_latency": (0.0, 0.0, 0.0, 1.0),
}
"""Objective to its weights on `Choice.costs`."""

ALTERNATIVES = {
    "accuracy_first": "most_accurate",
    "cost_first": "cheapest",
    "fastest": "fastest",
    "lowest_latency": "lowest_latency",
}
"""Name of the alternative to the objective that it would be chosen by."""


@dataclass(frozen=True)
class Linear:
    """A function of the four costs that is to be small."""

    weights: tuple[float, float, float, float]
    constant: float = 0.0

    def __call__(self, choice: Choice) -> float:
        """Return the value of a plan."""
        costs = choice.costs
        return self.constant + sum(w * v for w, v in zip(self.weights, costs, strict=True))


def score_loss(config: ObjectiveConfig, reference: Sequence[Choice]) -> Linear:
    """Return 1 minus the deployment score as a linear function."""
    wanted = (
        config.weight_accuracy,
        config.weight_cost,
        config.weight_time,
        config.weight_latency,
    )
    costs = np.array([choice.costs for choice in reference])
    lows, highs = costs.min(axis=0).tolist(), costs.max(axis=0).tolist()
    varies = [
        high - low > 1e-12 * max(1.0, abs(high)) for low, high in zip(lows, highs, strict=True)
    ]
    total = sum(weight for weight, active in zip(wanted, varies, strict=True) if active)
    if not total:
        return Linear((0.0, 0.0, 0.0, 0.0))
    weights = [
        weight / total / (high - low) if active else 0.0
        for weight, low, high, active in zip(wanted, lows, highs, varies, strict=True)
    ]
    constant = -sum(weight * low for weight, low in zip(weights, lows, strict=True))
    return Linear((weights[0], weights[1], weights[2], weights[3]), constant)


def levels(name: str, loss: Linear) -> list[Linear]:
    """Return what is minimised, one after the other: the objective, dollars, the score's loss.

    Ties of the objective go to the cheaper plan, ties of both to the better score. Where the score
    leaves a value out (its weight is 0, or all efficient plans agree in it) a last level counts
    all four, so that no plan is chosen that another one dominates.
    """
    first = loss if name == "balanced" else Linear(SINGLE[name])
    wanted = [first, Linear(SINGLE["cheapest"]), loss]
    if 0.0 in loss.weights:
        wanted.append(Linear((1.0, 1.0, 1.0, 0.001)))  # seconds, so that all are of one size
    return [level for i, level in enumerate(wanted) if level not in wanted[:i]]


def best(choices: Sequence[Choice], name: str, loss: Linear) -> Choice:
    """Return the best of plans by enumeration, ties as in the solver's model."""
    costs = np.array([choice.costs for choice in choices])
    left = np.arange(len(choices))
    for level in levels(name, loss):
        values = np.round(costs[left] @ np.array(level.weights) + level.constant, 9)
        left = left[values == values.min()]
    return min((choices[i] for i in left.tolist()), key=lambda choice: choice.sort_name)
