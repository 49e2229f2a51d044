"""What watches a training: its curve, its best weights, its random states."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from stratos.context import Context
from stratos.distill.average import Average
from stratos.distill.together import gathered, rank, summed
from stratos.distill.weights import best_weights, whole_model
from stratos.records import CurvePoint

LOG_EVERY = 10
"""Steps whose mean loss is one point of the curve."""

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that was asked to end."""


class RandomStates(L.Callback):
    """Keeps the random states in every checkpoint, so that a resumed run draws the same numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the states of Python, NumPy and torch, of every process."""
        kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
        own = {
            "python": list(random.getstate()[1]),
            "numpy": [kind, np.asarray(keys).tolist(), place, has_gauss, gauss],
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            own["cuda"] = torch.cuda.get_rng_state()
        return {"by_rank": gathered(own)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set them back."""
        own = state_dict["by_rank"][rank()]
        random.setstate((3, tuple(own["python"]), None))
        kind, keys, place, has_gauss, gauss = own["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), place, has_gauss, gauss))
        torch.set_rng_state(own["torch"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])


@dataclass(frozen=True)
class Watching:
    """When a training is measured and when it ends."""

    n_steps: int
    validate_every_steps: int
    """0 measures at the end only."""
    stop_at_exact: float | None
    max_seconds: float | None = None
    usd_per_hour: float = 0.0
    """Price of the server that the plan trains on."""


class Watch(L.Callback):
    """Follows a training: progress, loss curve, validation, best weights, time, and its end.

    Its state lies in every checkpoint, so that curve, best weights and time go on with a resume.
    On SIGTERM, which a spot server gets before it is taken away, it writes a checkpoint and exits.
    """

    def __init__(
        self,
        context: Context,
        watching: Watching,
        validate: Callable[[Any], float],
        best_path: Path,
        average: Average | None = None,
    ) -> None:
        """`validate` takes the model and returns exact match on validation items."""
        self._context, self._watching, self._best_path = context, watching, best_path
        self._validate, self._average = validate, average
        self._losses: list[float] = []
        self._exact: float | None = None
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._step, self._new_loss, self._new_tokens = 0, 0.0, 0
        self._terminated = False
        self.curve: list[CurvePoint] = []
        self.tokens, self.seconds, self.cpu_seconds, self.n_resumed = 0, 0.0, 0.0, 0
        self.best_step, self.best_exact = 0, -1.0

    def state_dict(self) -> dict[str, Any]:
        """Return curve, best, and what was spent so far."""
        self._clock()
        return {
            "curve": [[p.step, p.tokens, p.loss, p.exact] for p in self.curve],
            "losses": list(self._losses),
            "exact": self._exact,
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
        self._exact = state_dict["exact"]
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
        """Start the clock behind the loading of a checkpoint, and listen for SIGTERM."""
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._terminate)  # Lightning sets its own back

    def _terminate(self, *_: Any) -> None:
        self._terminated = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count what was trained on; behind a gradient step log, measure, and see to the end."""
        self._new_loss += float(outputs["loss"])
        self._new_tokens += outputs["tokens"]
        if trainer.global_step == self._step:
            return
        self._step = step = trainer.global_step
        self._clock()
        limit = self._watching.max_seconds
        over = limit is not None and self.seconds >= limit
        loss, tokens, n_over, n_terminated = summed(
            self._new_loss, self._new_tokens, over, self._terminated
        )
        over, terminated = n_over > 0, n_terminated > 0
        self._new_loss, self._new_tokens = 0.0, 0
        self._losses.append(loss / trainer.world_size)
        self.tokens += int(tokens)
        last = step >= self._watching.n_steps or over
        every = self._watching.validate_every_steps
        measured = last or bool(every and step % every == 0)
        shown = self._losses[-1]
        if measured:
            line = f"{self._line(step, shown)} · validating"
            self._context.tick(step, self._watching.n_steps, line)
            self._measure(trainer, module, step)
            stop_at = self._watching.stop_at_exact
            if over or (stop_at is not None and (self._exact or 0.0) >= stop_at):
                trainer.should_stop = True
                self._tell_of_end(step, over)
        if step % LOG_EVERY == 0 or measured:
            self._log(step, measured)
        self._clock()
        self._context.tick(step, self._watching.n_steps, self._line(step, shown))
        if terminated and not last:
            trainer.save_checkpoint(self._best_path.parent / "checkpoints" / f"step-{step}.ckpt")
            raise SystemExit(TERMINATED)

    def _log(self, step: int, measured: bool) -> None:
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        exact = self._exact if measured else None
        self.curve.append(CurvePoint(step, self.tokens, round(mean, 6), exact))
        metrics = {"loss": mean, "tokens": float(self.tokens), "usd": self._usd()}
        if exact is not None:
            metrics["validation_exact"] = exact
        self._context.log({f"distill/{k}": v for k, v in metrics.items()}, step=step)

    def _tell_of_end(self, step: int, over: bool) -> None:
        """Say why a training ends before its last step."""
        n_steps = self._watching.n_steps
        if step >= n_steps:
            return
        ended = f"The training ended at step {step} of {n_steps}"
        if over:
            self._context.warn(f"{ended}: its time was over (trainer.max_time).")
        else:
            self._context.note(
                f"{ended}: {self._exact:.1%} of the validation items are right "
                "(callbacks.stop_at_exact)."
            )

    def _usd(self) -> float:
        return self.seconds / 3600 * self._watching.usd_per_hour

    def _line(self, step: int, loss: float) -> str:
        """Return loss, accuracy, speed, planned dollars and time left as one line.

        Nothing is paid here: a server rented at the plan's price would have cost so much.
        """
        parts = [f"loss {loss:.4f}"]
        if self._exact is not None:
            parts.append(f"exact {self._exact:.3f}")
        parts.append(f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s")
        if self._watching.usd_per_hour:
            parts.append(f"${self._usd():.2f} at the plan's price")
        left = self.seconds / step * (self._watching.n_steps - step)
        if self._watching.max_seconds is not None:
            left = min(left, max(0.0, self._watching.max_seconds - self.seconds))
        parts.append(f"{_duration(left)} left")
        return " · ".join(parts)

    def _measure(self, trainer: L.Trainer, module: Any, step: int) -> None:
        """Measure exact match and keep the weights if they are the best so far."""
        from safetensors.torch import save_file

        with self._measured_weights(module):
            whole = whole_model(module.model)
            exact = 0.0
            if trainer.is_global_zero:
                with module.learner.unpacked():
                    exact = self._validate(whole)
            self._exact = trainer.strategy.broadcast(exact)
            if self._exact < self.best_exact:
                return
            self.best_step, self.best_exact = step, self._exact
            weights = best_weights(module.model)
            if trainer.is_global_zero:
                temporary = self._best_path.with_suffix(".tmp")
                save_file(weights, temporary)
                temporary.replace(self._best_path)

    @contextlib.contextmanager
    def _measured_weights(self, module: Any) -> Iterator[None]:
        if self._average is None:
            yield
        else:
            with self._average.in_place(module):
                yield


def _duration(seconds: float) -> str:
    """Return a time as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
