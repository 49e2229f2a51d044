"""The Lightning module of supervised training: cross-entropy on verified text."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from stratos.config import TrainerConfig
from stratos.core.errors import StratosError
from stratos.distill.collectives import gathered
from stratos.distill.data import Batch
from stratos.distill.full_weights import blocks, whole
from stratos.distill.learner import TEXT, Learner
from stratos.distill.optim import MuonAdamW, split_parameters
from stratos.distill.recipe import Rates, learning_rates, warmup_steps
from stratos.distill.speedups import GradientWorkers, Part


def learning_rate_factor(step: int, n_steps: int, warmup_steps: int) -> float:
    """Return the factor of the peak rate: linear warm-up, then a cosine to 0 at `n_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class NotFinite(StratosError):
    """A loss or a gradient that is not a number; no step was made with it."""

    def __init__(self, what: str, value: float, step: int, documents: np.ndarray) -> None:
        super().__init__(f"The {what} is {value} at step {step}")
        self.documents = documents


class TextModule(L.LightningModule):
    """A causal language model that learns to write completions, from packed rows."""

    def __init__(
        self,
        model: Any,
        trainer_config: TrainerConfig,
        n_steps: int,
        rates: Rates | None = None,
    ) -> None:
        """Wrap a Hugging Face model.

        Args:
            model: the model.
            trainer_config: how it is trained.
            n_steps: where the cosine ends.
            rates: learning rates; None takes those of random weights.
        """
        super().__init__()
        self.learner = Learner(model, trainer_config.compile)
        self._config, self._n_steps = trainer_config, n_steps
        self._rates = rates or learning_rates(trainer_config, True, model.config.hidden_size)
        self._rows: list[tuple[Tensor, np.ndarray]] = []
        self.workers: GradientWorkers | None = None
        """Processes that train on parts of each row."""
        self.others: list[Part] = []
        """What they brought to the last step; empty between the rows that a step accumulates."""
        self.grad_norm: float | None = None
        self._frozen = any(not weight.requires_grad for weight in self.parameters())
        self.strict_loading = not self._frozen

    @property
    def divides(self) -> bool:
        """Return whether processes forked from this one can compute the loss of their parts."""
        return not self._config.compile

    @property
    def model(self) -> Any:
        """Return the Hugging Face model."""
        return self.learner.model

    def configure_model(self) -> None:
        """Split the weights over the processes, where Lightning's strategy is FSDP2."""
        mesh = self.device_mesh
        if mesh is None or hasattr(self.learner, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        data_mesh = mesh["data_parallel"]
        for block in blocks(self.model):
            fully_shard(block, mesh=data_mesh)
        fully_shard(self.learner, mesh=data_mesh)

    def on_fit_start(self) -> None:
        """Switch to packed attention."""
        self.learner.pack(True)

    def on_fit_end(self) -> None:
        """Switch back, so that the model generates and is saved as it came."""
        self.learner.pack(False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained: frozen weights are where they came from."""
        if self._frozen and "state_dict" in checkpoint:
            trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of one packed row."""
        loss: Tensor = self.learner(batch, None, TEXT).total
        return loss

    def trial_loss(self, batch: Batch) -> Tensor:
        """Return a loss that takes as long as `loss`, for steps that are made to be timed."""
        return self.loss(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the loss that Lightning steps on, and how many tokens it is of."""
        self.others = []
        if self.workers is not None:
            self.workers.start(batch.row)
        loss = self.loss(batch)
        self._rows.append((loss.detach(), batch.document_ids_D))
        return {"loss": loss, "tokens": batch.n_trained}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient, which other processes may have parts of.

        Raises:
            NotFinite: loss or gradient is not a number; the weights are as they were.
        """
        self.join()
        trained = [weight for weight in self.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf)
        norm = whole(norm)
        rows, self._rows = self._rows, []
        rows += [(torch.tensor(part.loss), part.documents) for part in self.others]
        self.grad_norm = float(norm)
        if not math.isfinite(norm):
            mine = [(float(loss), documents) for loss, documents in rows]
            every = [row for rows in gathered(mine) for row in rows]
            bad = [row for row in every if not math.isfinite(row[0])]
            what, value = ("loss", bad[0][0]) if bad else ("gradient", float(norm))
            documents = np.concatenate([documents for _, documents in bad or every])
            raise NotFinite(what, value, self.trainer.global_step + 1, documents)

    def join(self) -> None:
        """Add the gradients of other processes' parts to those of this one's."""
        if self.workers is not None:
            self.others = self.workers.join()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move a batch: Lightning does not look inside frozen dataclasses."""
        return batch.to(device)

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return what Muon trains, and what AdamW does."""
        return split_parameters(self.model)

    def optimizer(self, scale: float) -> MuonAdamW:
        """Return the optimizer, its peak learning rates times `scale`."""
        rates = self._rates
        return MuonAdamW(
            *self.split_parameters(),
            scale * rates.lr_muon,
            scale * rates.lr_adamw,
            self._config.weight_decay,
            rates.optimizer == "muon",
        )

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule by steps."""
        optimizer = self.optimizer(scale=1.0)
        n_warmup = warmup_steps(self._config, self._n_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self._n_steps, n_warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
