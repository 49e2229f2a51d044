"""Why something cannot be done with SLURM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stratos.core.reasons import Reason


@dataclass(frozen=True)
class NoNodeTakes(Reason):
    """No node has what the settings ask for."""

    wanted: Mapping[str, str | float]
    """Setting to its value."""
    refusal: str
    """In SLURM's words."""

    def __str__(self) -> str:
        typed = " ".join(f"executor.{key}={value}" for key, value in self.wanted.items())
        keys = " or ".join(f"executor.{key}" for key in self.wanted)
        return (
            f"{typed}: no node of SLURM can take such a job ({self.refusal}). See sinfo -o "
            f"'%P %D %c %m %G' for what nodes have, and change {keys}, or executor.partition."
        )
