"""Default training length and learning rates.

One rule for the plan, which knows about how many rows there will be, and for the training, which
has them. It imports no torch.

Length: the least of `trainer.max_tokens` (else the student's `train_tokens`) and of
`trainer.max_epochs` times the rows. Few rows are read often and many rows seldom; a student of
random weights learns its language from them, too, one that starts from a model does not.

Learning rates: a student of random weights takes those that the embedded students were tuned with,
less where it is wider. One that starts from a model takes what suits full fine-tuning at its width,
5e-5 · (2000 / width)^0.78, and adapters ten times that (Schulman et al., "LoRA Without Regret",
2025). Muon is for random weights: a model that AdamW has made is tuned with AdamW (Moonlight,
arXiv 2502.16982, found the mixture to be worse).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stratos.config import CallbacksConfig, StudentConfig, TrainerConfig
from stratos.core.formats import counted

_EPOCHS_OF_MODEL = (3, 5, 1_500)
"""Fewest and most epochs, and rows that are read in all, of a student that starts from a model. It
knows its language: of 180 rows most is learnt in the first two."""
_EPOCHS_OF_RANDOM = (10, 60, 20_000)
"""The same of one of random weights."""
_STEPS_PER_EPOCH = 16
"""Steps that an epoch has at least: few rows make smaller steps."""
_LEAST_BATCH_TOKENS = 256
_WARMUP_SHARE = 0.1
"""Largest part of the steps that are warm-up."""
_N_VALIDATIONS = 20
"""Measurements of a training that reads its rows again, one an epoch at most."""
_VALIDATE_EVERY = 1000
"""Steps between measurements of one that reads them about once."""
_WIDTH_EXPONENT = 0.78
_LR_OF_MODEL, _WIDTH_OF_MODEL = 5e-5, 2000
_ADAPTER_FACTOR = 10
_LR_MUON_RANDOM, _LR_ADAMW_RANDOM, _WIDTH_OF_RANDOM = 0.01, 0.003, 256
"""Tuned at widths of 64 to 192."""


@dataclass(frozen=True)
class Length:
    """How long a training is."""

    tokens: int
    batch_tokens: int
    """Of a gradient step."""
    epochs: float
    """How often each row is read, validation and early stop aside."""
    reason: str
    """What sets it, in words."""

    def validate_every_steps(self, callbacks: CallbacksConfig, n_steps: int) -> int:
        """Return steps between measurements: what is configured, or what fits the length."""
        if callbacks.validate_every_steps is not None:
            return callbacks.validate_every_steps
        if self.epochs < 2:
            return _VALIDATE_EVERY
        return math.ceil(max(n_steps / _N_VALIDATIONS, n_steps / self.epochs))


def warmup_steps(trainer: TrainerConfig, n_steps: int) -> int:
    """Return steps of warm-up: what is configured, or less where the training is short."""
    return min(trainer.warmup_steps, math.ceil(_WARMUP_SHARE * n_steps))


def training_length(
    trainer: TrainerConfig, student: StudentConfig, n_rows: float, tokens_per_row: float
) -> Length:
    """Return how long a student is trained.

    Args:
        trainer: the config.
        student: the student.
        n_rows: training rows.
        tokens_per_row: mean length of a row in the student's tokens, prompt and answer.
    """
    per_epoch = max(1.0, n_rows * tokens_per_row)
    if trainer.max_tokens is not None:
        tokens, reason = float(trainer.max_tokens), "trainer.max_tokens"
    else:
        tokens, reason = float(student.train_tokens), f"train_tokens of {student.name}"
    epochs = _most_epochs(trainer, student, n_rows)
    if epochs is not None and epochs * per_epoch < tokens:
        tokens = epochs * per_epoch
        rows = counted(round(n_rows), "row", spec=",")
        reason = f"{counted(epochs, 'epoch', spec='g')} of {rows} (trainer.max_epochs)"
    batch = max(_LEAST_BATCH_TOKENS, per_epoch / _STEPS_PER_EPOCH)
    return Length(
        tokens=math.ceil(tokens),
        batch_tokens=min(trainer.batch_tokens, math.ceil(batch)),
        epochs=tokens / per_epoch,
        reason=reason,
    )


def _most_epochs(trainer: TrainerConfig, student: StudentConfig, n_rows: float) -> float | None:
    """Return the most epochs; None where tokens alone count."""
    if trainer.max_epochs is not None:
        return None if trainer.max_epochs < 0 else trainer.max_epochs
    if trainer.max_tokens is not None:
        return None
    least, most, rows_read = _EPOCHS_OF_RANDOM if student.path is None else _EPOCHS_OF_MODEL
    return min(most, max(least, round(rows_read / max(1.0, n_rows))))


@dataclass(frozen=True)
class Rates:
    """Peak learning rates, and who uses them."""

    optimizer: Literal["muon", "adamw"]
    """muon trains the 2-D weights of the blocks and leaves the rest to AdamW; adamw trains all."""
    lr_muon: float
    lr_adamw: float


def optimizer_of(trainer: TrainerConfig, is_random: bool) -> Literal["muon", "adamw"]:
    """Return the optimizer of a student.

    Args:
        trainer: the config, whose own choice comes first.
        is_random: whether it starts from random weights.
    """
    if trainer.optimizer != "auto":
        return trainer.optimizer
    return "muon" if is_random else "adamw"


def learning_rates(trainer: TrainerConfig, is_random: bool, width: int) -> Rates:
    """Return the learning rates of a student.

    Args:
        trainer: the config, whose own numbers come first.
        is_random: whether it starts from random weights.
        width: of its residual stream.
    """
    if is_random:
        shrink = min(1.0, (_WIDTH_OF_RANDOM / width) ** _WIDTH_EXPONENT)
        muon, adamw = _LR_MUON_RANDOM * shrink, _LR_ADAMW_RANDOM * shrink
    else:
        adamw = _LR_OF_MODEL * (_WIDTH_OF_MODEL / width) ** _WIDTH_EXPONENT
        if trainer.adapter != "none":
            adamw *= _ADAPTER_FACTOR
        muon = adamw
    return Rates(
        optimizer_of(trainer, is_random),
        trainer.lr_muon if trainer.lr_muon is not None else muon,
        trainer.lr_adamw if trainer.lr_adamw is not None else adamw,
    )
