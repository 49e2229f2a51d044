"""Best checkpoint and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stratos.distill.measuring import Measured


class Best:
    """Keeps the weights of the best measurement; all of it lies in every checkpoint."""

    def __init__(self) -> None:
        self.step = 0
        self.measured: Measured | None = None
        self.weights: dict[str, Tensor] = {}
        """In the memory of the CPU, of the first process alone."""
        self.n_no_better = 0
        """Measurements in a row that found nothing better than all before."""
        self._lowest_loss = math.inf

    def is_next(self, step: int, measured: Measured) -> bool:
        """Take note of a measurement; return whether its weights are to be kept.

        A student is the best by exact match, then by its loss. A training goes on as long as either
        gets better, for the loss falls before answers become right.
        """
        loss = math.inf if measured.loss is None else measured.loss
        is_better = self.measured is None or measured.exact > self.measured.exact
        self.n_no_better = 0 if is_better or loss < self._lowest_loss else self.n_no_better + 1
        self._lowest_loss = min(loss, self._lowest_loss)
        if not measured.is_no_worse_than(self.measured):
            return False
        self.step, self.measured = step, measured
        return True

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights."""
        self.weights = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values and tensors."""
        return {
            "step": self.step,
            "measured": plain(self.measured),
            "weights": self.weights,
            "n_no_better": self.n_no_better,
            "lowest_loss": self._lowest_loss,
        }

    def load_state_dict(self, state: dict[str, Any], with_weights: bool) -> None:
        """Go on from a checkpoint."""
        self.step, self.measured = state["step"], measured_of(state["measured"])
        self.weights = state["weights"] if with_weights else {}
        self.n_no_better, self._lowest_loss = state["n_no_better"], state["lowest_loss"]


def plain(measured: Measured | None) -> list[float | None] | None:
    """Return a measurement as a checkpoint holds it."""
    return None if measured is None else [measured.exact, measured.loss]


def measured_of(values: list[Any] | None) -> Measured | None:
    """Return the measurement that a checkpoint holds."""
    return None if values is None else Measured(*values)
