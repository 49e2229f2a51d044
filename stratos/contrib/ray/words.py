"""Why something cannot be done with a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core import extras
from stratos.core.reasons import Reason


@dataclass(frozen=True)
class RayNotInstalled(Reason):
    """Ray cannot be imported."""

    def __str__(self) -> str:
        return f"synthesize.engine=ray: Ray is not installed. Type: {extras.install('ray')}"


@dataclass(frozen=True)
class Unreachable(Reason):
    """No job can be submitted to the cluster."""

    error: str
    """What it lacks, with what to type."""

    def __str__(self) -> str:
        return f"executor=ray: {self.error} Or type executor=here."
