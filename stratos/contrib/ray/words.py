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
