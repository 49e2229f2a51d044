"""Reasons of a training, as values and as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.reasons import Reason


@dataclass(frozen=True)
class NoGradientWorkers(Reason):
    """Why no processes share the steps: nothing here has them."""

    def __str__(self) -> str:
        return "no extension that shares steps among processes is installed (stratos.contrib.cpu)"


@dataclass(frozen=True)
class ProcessesUnused(Reason):
    """Why one process trains although the config asks for several."""

    n_processes: int
    reason: Reason

    def __str__(self) -> str:
        return f"trainer.n_processes={self.n_processes} is not used: {self.reason}."


@dataclass(frozen=True)
class ProcessesGone(Reason):
    """Why a training that several processes began goes on otherwise."""

    n_processes: int
    reason: Reason

    def __str__(self) -> str:
        return (
            f"The training began on {self.n_processes} processes and goes on in one, so that sums "
            f"are rounded otherwise: {self.reason}."
        )


@dataclass(frozen=True)
class ProcessesBeyondCores(Reason):
    """Why the processes that the config asks for wait for each other."""

    n_processes: int
    n_cores: int

    def __str__(self) -> str:
        cores = counted(self.n_cores, "core")
        return f"trainer.n_processes={self.n_processes}: this machine has {cores} for them."
