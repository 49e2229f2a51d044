"""Reasons of the package, as values and as sentences."""

from __future__ import annotations

from enum import Enum

from stratos.core.reasons import Reason


class Undivided(Reason, Enum):
    """Why parts of a row cannot be trained on in forked processes."""

    SYSTEM = "processes are forked safely on Linux alone"
    GPU = "this machine has a GPU"
    COMPILED_OR_SERVED = "a compiled student, and one that learns from a server, trains in one"
    ON_POLICY = "the student writes its own texts, in one process"
    DROPOUT = "it has dropout, which each process would draw for itself"


class TooLarge(Reason):
    """Why a student is not divided: its operators are large enough for threads."""

    most_params: int

    says = "it has more than {most_params:,} parameters"


class NoMoreProcesses(Reason):
    """Why the first process trains on the part of another one from the beginning."""

    cause: str
    """By the operating system."""

    says = "No more process can be started ({cause}): the first trains for it."


class ProcessLost(Reason):
    """Why the first process trains on the part of another one from now on."""

    pid: int
    part: int
    n_parts: int
    silent_s: float | None
    """Seconds for which it has not answered; None if it has ended."""

    def __str__(self) -> str:
        silent = self.silent_s
        how = "ended" if silent is None else f"not answered for {silent:.0f} seconds"
        return (
            f"Process {self.pid}, which trained on part {self.part} of {self.n_parts}, has {how}. "
            "The training goes on without it, with the same weights."
        )
