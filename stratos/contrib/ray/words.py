"""Why something cannot be done with a Ray cluster."""

from __future__ import annotations

from stratos.core import extras
from stratos.core.reasons import Reason


class RayNotInstalled(Reason):
    """Ray cannot be imported."""

    def __str__(self) -> str:
        return f"synthesize.engine=ray: Ray is not installed. Type: {extras.install('ray')}"


class Unreachable(Reason):
    """No job can be submitted to the cluster."""

    error: str
    """What it lacks, with what to type."""

    says = "executor=ray: {error} Or type executor=here."
