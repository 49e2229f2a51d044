"""The Lightning module of injection and alignment: cross-entropy on verified text."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from stratos.config import TrainerConfig
from stratos.distill import packed
from stratos.distill.data import Batch
from stratos.distill.optim import MuonAdamW, split_parameters


def completion_loss(logits_MV: Tensor, targets_M: Tensor) -> Tensor:
    """Return the mean cross-entropy of completion tokens, reduced in float32.

    logits_MV (M, V) and targets_M (M,): only places whose next token is learned. Safe for M = 0.
    """
    total = F.cross_entropy(logits_MV.float(), targets_M, reduction="sum")
    return total / max(1, targets_M.numel())


def learning_rate_factor(step: int, n_steps: int, warmup_steps: int) -> float:
    """Return the factor of the peak rate: linear warm-up, then a cosine to 0 at `n_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class TextModule(L.LightningModule):
    """A causal language model that learns to write completions, from packed rows."""

    def __init__(self, model: Any, trainer_config: TrainerConfig, n_steps: int) -> None:
        """Wrap a Hugging Face model; `n_steps` is where the cosine ends."""
        super().__init__()
        self.model = model
        self._config, self._n_steps = trainer_config, n_steps

    def on_fit_start(self) -> None:
        """Switch to packed attention."""
        self._attention = self.model.config._attn_implementation
        self.model.set_attn_implementation(packed.NAME)

    def on_fit_end(self) -> None:
        """Switch back, so that the model generates and is saved as it came."""
        self.model.set_attn_implementation(self._attention)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of one packed row."""
        logits_1MV = self.model(
            input_ids=batch.tokens_1N,
            position_ids=batch.positions_1N,
            documents=batch.documents,
            logits_to_keep=batch.rows_M,
            use_cache=False,
        ).logits
        return completion_loss(logits_1MV[0], batch.targets_M)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that Lightning steps on."""
        return self.loss(batch)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move a batch: Lightning does not look inside frozen dataclasses."""
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule by steps."""
        config = self._config
        optimizer = MuonAdamW(
            *split_parameters(self.model), config.lr_muon, config.lr_adamw, config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(step, self._n_steps, config.warmup_steps),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
