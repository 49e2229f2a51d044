"""The distill stage: train the student on the corpus, resuming from the last checkpoint."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from stratos.config import Config
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.distill import unpaid_signal
from stratos.distill.words import CheckpointsAside, OtherInputs
from stratos.models.pretrained.free_memory import free_memory
from stratos.records import Corpus, Plan, Student


def distill(config: Config, plan: Plan, corpus: Corpus, context: Context) -> Student:
    """Train the planned student on the corpus.

    The training goes on from the last checkpoint in the run folder if that was made from the same
    inputs (`context.fingerprint`), and ends with the same weights as one that was never stopped.
    Several devices are several processes, which this one starts and listens to.
    """
    began = time.monotonic()
    from stratos.distill.launch import train_together
    from stratos.distill.trainer import check_machine

    folder = context.run_dir / "distill"
    folder.mkdir(parents=True, exist_ok=True)
    check_machine(config.trainer)
    context.ledger.cut_at_usd = None
    _make_way(folder, context)
    if config.trainer.devices * config.trainer.num_nodes > 1:
        student = train_together(config, plan, corpus, context)
    else:
        from stratos.distill.train import train

        trained = train(config, plan, corpus, context, began=began)
        assert trained is not None
        student = trained
        # Trainer, optimizer and module refer to each other: several times the student's weights.
        free_memory()
    for left_over in ("checkpoints", "checkpoints.other"):
        shutil.rmtree(folder / left_over, ignore_errors=True)
    return student


def _make_way(folder: Path, context: Context) -> None:
    """Put a checkpoint that was made from other inputs aside, and note those of this training."""
    inputs, checkpoints, aside = (
        folder / name for name in ("inputs.txt", "checkpoints", "checkpoints.other")
    )
    reason = OtherInputs.CONFIG_OR_CORPUS
    if inputs.exists() and inputs.read_text() == context.fingerprint:
        if not unpaid_signal.may_learn_more(folder, context.ledger.cap_usd()):
            return
        reason = OtherInputs.NO_SIGNAL
    if any(checkpoints.glob("step-*.ckpt")):
        shutil.rmtree(aside, ignore_errors=True)
        checkpoints.replace(aside)
        context.warn(str(CheckpointsAside(str(checkpoints), str(aside), reason)))
    shutil.rmtree(checkpoints, ignore_errors=True)
    write_atomically(inputs, context.fingerprint.encode())
