"""What watches a training: its curve, its best weights, its random states."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from stratos.context import Context
from stratos.distill.packed import NAME as PACKED
from stratos.errors import StratosError
from stratos.records import CurvePoint

LOG_EVERY = 10
"""Steps whose mean loss is one point of the curve."""


class RandomStates(L.Callback):
    """Keeps the random states in every checkpoint, so that a resumed run draws the same numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the states of Python, NumPy and torch."""
        kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
        return {
            "python": list(random.getstate()[1]),
            "numpy": [kind, np.asarray(keys).tolist(), place, has_gauss, gauss],
            "torch": torch.get_rng_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set them back."""
        random.setstate((3, tuple(state_dict["python"]), None))
        kind, keys, place, has_gauss, gauss = state_dict["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), place, has_gauss, gauss))
        torch.set_rng_state(state_dict["torch"])


class Watch(L.Callback):
    """Follows a training: progress, loss curve, validation, best weights, time, bad losses.

    Its state lies in every checkpoint, so that curve, best weights and time go on with a resume.
    """

    def __init__(
        self,
        context: Context,
        n_steps: int,
        validate: Callable[[Any], float],
        validate_every_steps: int,
        stop_at_exact: float | None,
        best_path: Path,
    ) -> None:
        """`validate` takes the model and returns exact match on validation items."""
        self._context, self._n_steps, self._best_path = context, n_steps, best_path
        self._validate, self._every, self._stop_at = validate, validate_every_steps, stop_at_exact
        self._losses: list[float] = []
        self._exact: float | None = None
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self.curve: list[CurvePoint] = []
        self.tokens, self.seconds, self.cpu_seconds, self.n_resumed = 0, 0.0, 0.0, 0
        self.best_step, self.best_exact = 0, -1.0

    def state_dict(self) -> dict[str, Any]:
        """Return curve, best, and what was spent so far."""
        self._clock()
        return {
            "curve": [[p.step, p.tokens, p.loss, p.exact] for p in self.curve],
            "losses": list(self._losses),
            "tokens": self.tokens,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "n_resumed": self.n_resumed,
            "best": [self.best_step, self.best_exact],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.curve = [CurvePoint(*row) for row in state_dict["curve"]]
        self._losses = state_dict["losses"]
        self.tokens = state_dict["tokens"]
        self.seconds, self.cpu_seconds = state_dict["seconds"], state_dict["cpu_seconds"]
        self.n_resumed = state_dict["n_resumed"] + 1
        self.best_step, self.best_exact = state_dict["best"]

    def _clock(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        self.seconds += wall - self._wall
        self.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock behind the loading of a checkpoint."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count, log and validate."""
        step = trainer.global_step
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise StratosError(
                f"The loss is {loss} at step {step}. The last good checkpoint is kept: lower "
                "trainer.lr_muon and trainer.lr_adamw and give the same command again."
            )
        self._losses.append(loss)
        self.tokens += batch.tokens_1N.numel()
        last = step >= self._n_steps
        measured = last or (self._every and step % self._every == 0)
        if measured:
            self._measure(trainer, module, step)
        if step % LOG_EVERY == 0 or measured:
            mean = sum(self._losses) / len(self._losses)
            self._losses.clear()
            self.curve.append(
                CurvePoint(step, self.tokens, round(mean, 6), self._exact if measured else None)
            )
            metrics = {"loss": mean, "tokens": float(self.tokens)}
            if measured and self._exact is not None:
                metrics["validation_exact"] = self._exact
            self._context.log({f"distill/{k}": v for k, v in metrics.items()}, step=step)
        self._clock()
        exact = "" if self._exact is None else f" · exact {self._exact:.3f}"
        rate = self.tokens / max(self.seconds, 1e-9)
        self._context.tick(step, self._n_steps, f"loss {loss:.4f}{exact} · {rate:,.0f} tokens/s")

    def _measure(self, trainer: L.Trainer, module: Any, step: int) -> None:
        """Measure exact match and keep the weights if they are the best so far."""
        from safetensors.torch import save_file

        module.model.set_attn_implementation("sdpa")
        self._exact = self._validate(module.model)
        module.model.set_attn_implementation(PACKED)
        if self._exact >= self.best_exact:
            self.best_step, self.best_exact = step, self._exact
            weights = {name: p.detach().contiguous() for name, p in module.model.named_parameters()}
            temporary = self._best_path.with_suffix(".tmp")
            save_file(weights, temporary)
            temporary.replace(self._best_path)
        if self._stop_at is not None and self._exact >= self._stop_at:
            trainer.should_stop = True
