"""Jobs of the estimate: a training, or answers of a certain size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stratos.estimate.memory import Method


@dataclass(frozen=True)
class TrainingJob:
    """A training to be done."""

    tokens: int
    batch_tokens: int
    """Tokens of one optimizer step, all devices together."""
    context: int
    """Tokens of one row."""
    method: Method = "full"
    optimizer: Literal["muon", "adamw"] = "muon"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """As `trainer.precision`."""


@dataclass(frozen=True)
class Workload:
    """Shape of the answers that a model is to give."""

    prompt_tokens: float
    answer_tokens: float
    task: str = ""
    strategy: str = ""
    """Task and strategy whose recorded runs speak for this workload."""

    @property
    def context(self) -> float:
        """Tokens that the cache holds at the end of an answer."""
        return self.prompt_tokens + self.answer_tokens
