"""Reasons of local models, as values and as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.reasons import Reason


@dataclass(frozen=True)
class OtherLogits(Reason):
    """Why transformers decoded batches in place of a fast decoder."""

    n_batches: int

    def __str__(self) -> str:
        return (
            "Direct decoding gave other logits than transformers, which decoded "
            f"{counted(self.n_batches, 'batch', 'batches', spec=',')} in its place. The answers "
            "are right, and took longer. evaluate.decoder=transformers asks for no other."
        )
