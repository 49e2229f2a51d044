"""The student that was trained."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CurvePoint:
    """One row of the training curve."""

    step: int
    tokens: int
    loss: float
    exact: float | None = None
    """Exact match on validation items, where it was measured."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers in nats a token, measured with it."""
    learning_rate: float | None = None
    """Of the last step: that of Muon where there is one, else AdamW's."""
    grad_norm: float | None = None
    """Norm of the gradient before clipping, in the last step."""
    tokens_per_s: float | None = field(default=None, compare=False)
    """Since the point before, measurements left out: of the machine, not of the training."""


@dataclass(frozen=True)
class Student:
    """The trained student and its untouched twin, both ordinary Hugging Face folders."""

    name: str
    path: str
    untouched_path: str
    n_params: int
    steps: int
    train_tokens: int
    best_step: int
    validation_exact: float
    """Exact match of the kept weights on validation items, measured once the training was over."""
    n_validation_items: int
    """Items of `validation_exact`."""
    n_validation_reused: int
    """How many of them also chose the weights, because there were no others."""
    n_choosing_items: int
    """Validation items by which the kept weights were chosen."""
    best_exact: float
    """What these weights had on the items that chose them: the best of several measurements."""
    curve: tuple[CurvePoint, ...]
    weights_sha256: str
    seconds: float
    cpu_seconds: float
    n_resumed: int = 0
    """How many times the training went on from a checkpoint."""
    cut_at_usd: float | None = None
    """Budget that did not suffice for the teacher's signal, so that its text alone was learnt."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers at the best step, in nats a token."""
    epochs: float | None = None
    """How often each row was read."""
    threads: tuple[tuple[int, int], ...] = ()
    """From which step on how many CPU threads: their number decides how sums are rounded."""
    expected_seconds: float | None = None
    """What the training was expected to take, measured before it began."""
    content: dict[str, str] = field(default_factory=dict)
    """Digests of what it was trained and validated with, and of what it started from, where the
    config names files (`stratos.models.students.content_of`)."""
    setup_seconds: float = 0.0
    """Around the `seconds` of the training, in the process that ended it: to load rows and model,
    to measure the speed, to save and validate."""
    processes: int = 1
    """Processes of one thread that shared each step: on their number the rounding depends, too."""
