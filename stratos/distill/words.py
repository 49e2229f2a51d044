"""Reasons of a training, as values and as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.reasons import Reason


@dataclass(frozen=True)
class NoGradientWorkers(Reason):
    """Why no processes share the steps: nothing here has them."""

    def __str__(self) -> str:
        return "no extension that shares steps among processes is installed (stratos.contrib.cpu)"
