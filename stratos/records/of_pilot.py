"""What short trainings have shown before the plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PilotPoint:
    """One short training: the planned one with tokens, items and warm-up scaled down alike."""

    train_tokens: int
    accuracy: float
    """Exact match on validation items after the last step."""
    n_items: int
    n_corpus_items: int
    seconds: float
    cpu_seconds: float
    train_seconds: float
    """Of `seconds`, those of the training without its corpus."""


@dataclass(frozen=True)
class PilotRun:
    """The learning curve of one student by one strategy."""

    student: str
    strategy: str
    teacher: str
    points: tuple[PilotPoint, ...]
    path: str
    """Folder of its trainings, inside the run folder."""
    usd: float = 0.0
    """Dollars that its teacher was paid."""


@dataclass(frozen=True)
class Pilot:
    """Short trainings before the plan: what accuracies are extrapolated from."""

    task: str
    runs: tuple[PilotRun, ...]
    left_out: dict[str, str]
    """Pair to the reason why it was not trained."""
    seconds: float
    cpu_seconds: float
    usd: float
    """Dollars that teachers were paid; they count in the budget."""
    why: str = ""
    """The open question that it was made for by itself; "" where it was asked for."""
