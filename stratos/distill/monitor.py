"""Follow a training: curves, best weights, checkpoints, early stopping."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from stratos.config import CallbacksConfig
from stratos.core.context import Context
from stratos.core.formats import clock
from stratos.distill.checkpoints import Checkpoints
from stratos.distill.distributed import best_weights, rank, summed, whole, whole_model
from stratos.distill.trainer import Interrupts
from stratos.distill.validation import Measured
from stratos.distill.words import AccurateEnough, End, NoBetter, OutOfTime
from stratos.records import CurvePoint


class Best:
    """Keeps the weights of the best measurement; all of it lies in every checkpoint."""

    def __init__(self) -> None:
        self.step = 0
        self.measured: Measured | None = None
        self.weights: dict[str, Tensor] = {}
        """In the memory of the CPU, of the first process alone."""
        self.n_no_better = 0
        """Measurements in a row that found nothing better than all before."""
        self._lowest_loss = math.inf

    def is_next(self, step: int, measured: Measured) -> bool:
        """Take note of a measurement; return whether its weights are to be kept.

        A student is the best by exact match, then by its loss. A training goes on as long as either
        gets better, for the loss falls before answers become right.
        """
        loss = math.inf if measured.loss is None else measured.loss
        is_better = self.measured is None or measured.exact > self.measured.exact
        self.n_no_better = 0 if is_better or loss < self._lowest_loss else self.n_no_better + 1
        self._lowest_loss = min(loss, self._lowest_loss)
        if not measured.is_no_worse_than(self.measured):
            return False
        self.step, self.measured = step, measured
        return True

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights."""
        self.weights = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values and tensors."""
        return {
            "step": self.step,
            "measured": plain(self.measured),
            "weights": self.weights,
            "n_no_better": self.n_no_better,
            "lowest_loss": self._lowest_loss,
        }

    def load_state_dict(self, state: dict[str, Any], with_weights: bool) -> None:
        """Go on from a checkpoint."""
        self.step, self.measured = state["step"], measured_of(state["measured"])
        self.weights = state["weights"] if with_weights else {}
        self.n_no_better, self._lowest_loss = state["n_no_better"], state["lowest_loss"]


def plain(measured: Measured | None) -> list[float | None] | None:
    """Return a measurement as a checkpoint holds it."""
    return None if measured is None else [measured.exact, measured.loss]


def measured_of(values: list[Any] | None) -> Measured | None:
    """Return the measurement that a checkpoint holds."""
    return None if values is None else Measured(*values)


_EARLY = 10
"""The decay grows as (1 + step) / (10 + step) at first, so that random weights are forgotten."""


# Lightning's EMAWeightAveraging copies the frozen weights of an adapted model, too, knows no FSDP2,
# and has one decay from the first step on.
class Average(L.Callback):
    """Averages what is trained after every gradient step."""

    def __init__(self, decay: float) -> None:
        """Weigh the past with `decay`."""
        self._decay = decay
        self._mean: dict[str, torch.Tensor] = {}
        self._loaded: dict[str, torch.Tensor] = {}
        self._step = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"mean": {name: whole(mean).cpu() for name, mean in self._mean.items()}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict["mean"]

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Begin with the weights, or with the average of a checkpoint."""
        self._step = trainer.global_step
        self._mean = {name: weight.detach().clone() for name, weight in _trained(module)}
        for name, mean in self._loaded.items():
            _assign(self._mean[name], mean)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Move the average towards the weights."""
        if trainer.global_step == self._step:
            return
        self._step = step = trainer.global_step
        decay = min(self._decay, (1 + step) / (_EARLY + step))
        for name, weight in _trained(module):
            self._mean[name].lerp_(weight, 1 - decay)

    @contextmanager
    def in_place(self, module: Any) -> Iterator[None]:
        """Put the average in the place of the weights, and these back."""
        weights = {name: weight.detach().clone() for name, weight in _trained(module)}
        self._put(module, self._mean)
        try:
            yield
        finally:
            self._put(module, weights)

    @torch.no_grad()
    def _put(self, module: Any, values: dict[str, torch.Tensor]) -> None:
        for name, weight in _trained(module):
            weight.copy_(values[name])


def _trained(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in module.model.named_parameters():
        if weight.requires_grad:
            yield name, weight


def _assign(target: Any, whole: torch.Tensor) -> None:
    """Set a tensor, sharded or not, from a whole one."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole, target.device_mesh, target.placements)
    target.copy_(whole)


LOG_EVERY = 10
"""Steps whose mean loss is one point of the curve."""


@dataclass(frozen=True)
class Watching:
    """When a training is measured and when it ends."""

    n_steps: int
    validate_every_steps: int
    """0 measures at the end only."""
    callbacks: CallbacksConfig
    """Whose `stop_at_exact` and `patience` end it."""
    max_seconds: float | None = None
    usd_per_hour: float = 0.0
    """Price of the servers that train."""
    price: str = "at the plan's price"
    """Whose price that is: of the plan, or what the job is paid at."""
    n_before: int = 0
    """Steps of the training that this one follows."""


class _Interrupted(Exception):
    """A signal came while the student was measured."""


# One callback, where Lightning has ModelCheckpoint, Timer, EarlyStopping and ThroughputMonitor: a
# measurement, the checkpoint before it and a signal in its midst have one order, in which a killed
# training goes on to the same bits.
class TrainingMonitor(L.Callback):
    """Follows a training: progress, loss curve, validation, best weights, time, and its end.

    Its state lies in every checkpoint, so that curve, best weights and time go on with a resume. A
    signal that ends the training has it write a checkpoint first; a measurement that it cuts short
    is made by the training that goes on from there.
    """

    def __init__(
        self,
        context: Context,
        watching: Watching,
        validate: Callable[[Any, Callable[[], None]], Measured],
        checkpoints: Checkpoints,
        interrupts: Interrupts,
        average: Average | None = None,
    ) -> None:
        """`validate` takes the model, and what it is to call often."""
        self._context, self._watching = context, watching
        self._validate, self.average = validate, average
        self._checkpoints, self.interrupts = checkpoints, interrupts
        self._losses: list[float] = []
        self._measured: Measured | None = None
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._step, self._new_loss, self._new_tokens = 0, 0.0, 0
        self._step_at, self._validation_seconds = self._wall, 0.0
        self._is_due = False
        self.curve: list[CurvePoint] = []
        self.tokens, self.seconds, self.cpu_seconds, self.n_resumed = 0, 0.0, 0.0, 0
        self.earlier_seconds = 0.0
        self.best = Best()
        self._pace = _Pace()

    def state_dict(self) -> dict[str, Any]:
        """Return curve, best, and what was spent so far."""
        self._clock()
        return {
            "curve": [list(astuple(point)) for point in self.curve],
            "losses": list(self._losses),
            "measured": plain(self._measured),
            "tokens": self.tokens,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "n_resumed": self.n_resumed,
            "best": self.best.state_dict(),
            "is_due": self._is_due,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = [CurvePoint(*row) for row in state_dict["curve"]]
        self._losses = state_dict["losses"]
        self._measured = measured_of(state_dict["measured"])
        self.tokens = state_dict["tokens"]
        self.seconds, self.cpu_seconds = state_dict["seconds"], state_dict["cpu_seconds"]
        self.earlier_seconds = self.seconds
        self.n_resumed = state_dict["n_resumed"] + 1
        self.best.load_state_dict(state_dict["best"], with_weights=rank() == 0)
        self._is_due = state_dict["is_due"]

    def _clock(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        self.seconds += wall - self._wall
        self.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock behind the loading of a checkpoint, and listen for signals."""
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._step = trainer.global_step
        if self._step and rank() == 0:
            self._context.note(f"The training goes on from its checkpoint at step {self._step:,}.")
        self.interrupts.listen()
        self._checkpoints.start()
        self.catch_up(trainer, pl_module)
        self._step_at = time.monotonic()

    def catch_up(self, trainer: L.Trainer, module: Any) -> None:
        """Make the measurement that a signal cut short before this training went on.

        Lightning does not begin a training again that has made its last step: then this is called
        when it has ended.
        """
        if not self._is_due:
            return
        self._step = trainer.global_step
        self._end_step(trainer, module, self._is_over())
        if self._is_due:
            self.interrupts.leave()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count what was trained on; behind a gradient step log, measure, and see to the end."""
        self._new_loss += float(outputs["loss"]) + sum(part.loss for part in module.others)
        self._new_tokens += outputs["tokens"] + sum(part.n_tokens for part in module.others)
        self._cpu -= sum(part.cpu_seconds for part in module.others)
        if trainer.global_step == self._step:
            return
        self._step = step = trainer.global_step
        self._clock()
        every = self._watching.validate_every_steps
        last = step >= self._watching.n_steps
        self._is_due = last or bool(every and step % every == 0)
        took = time.monotonic() - self._step_at
        # A measurement that is cut short is not to cost the steps before it.
        is_cheap = self._is_due and self._checkpoints.takes_at_most(self._validation_seconds / 20)
        ahead = self._validation_seconds if self._is_due else took
        loss, tokens, n_over, n_received, n_unsaved = summed(
            self._new_loss,
            self._new_tokens,
            self._is_over(),
            self.interrupts.received is not None,
            is_cheap or self._checkpoints.is_due(step, ahead),
        )
        over = n_over > 0
        self._is_due = self._is_due or over
        self._new_loss, self._new_tokens = 0.0, 0
        self._losses.append(loss / trainer.world_size)
        self.tokens += int(tokens)
        self._pace.step(
            tokens,
            took,
            trainer.optimizers[0].param_groups[0]["lr"],
            module.grad_norm,
        )
        if n_received:
            self._save_and_leave(trainer)
        if n_unsaved:
            self._checkpoints.save(trainer, step)
        self._end_step(trainer, module, over)
        if self._is_due or ((last or over) and summed(self.interrupts.received is not None)[0]):
            self._save_and_leave(trainer)
        self._step_at = time.monotonic()

    def _save_and_leave(self, trainer: L.Trainer) -> None:
        self._checkpoints.save(trainer, self._step)
        self.interrupts.leave()

    def _is_over(self) -> bool:
        limit = self._watching.max_seconds
        return limit is not None and self.seconds >= limit

    def _end_step(self, trainer: L.Trainer, module: Any, over: bool) -> None:
        """Measure if that is due, log, and see whether the training ends."""
        step, shown = self._step, self._losses[-1]
        is_measured = self._is_due
        if self._is_due:
            line = f"{self._line(step, shown)} · validating"
            self._context.tick(step, self._watching.n_steps, line)
            if not self._measure(trainer, module, step):
                return
            self._is_due = False
            if end := self._end(step, over):
                trainer.should_stop = True
                self._explain(end)
        if step % LOG_EVERY == 0 or is_measured:
            self._log(step, is_measured)
        self._clock()
        self._context.tick(step, self._watching.n_steps, self._line(step, shown))

    def _end(self, step: int, over: bool) -> End | None:
        """Return why the training ends behind a measurement, or None."""
        n_steps, callbacks = self._watching.n_steps, self._watching.callbacks
        assert self._measured is not None
        exact, n_no_better = self._measured.exact, self.best.n_no_better
        if over:
            return OutOfTime(step, n_steps)
        if callbacks.stop_at_exact is not None and exact >= callbacks.stop_at_exact:
            return AccurateEnough(step, n_steps, exact)
        if callbacks.patience is not None and n_no_better >= callbacks.patience:
            return NoBetter(step, n_steps, n_no_better, self.best.step)
        return None

    def _log(self, step: int, measured: bool) -> None:
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        measurement = self._measured if measured else None
        exact, loss = (None, None) if measurement is None else (measurement.exact, measurement.loss)
        pace, step = self._pace, step + self._watching.n_before
        point = CurvePoint(
            step,
            self.tokens,
            round(mean, 6),
            exact,
            loss,
            pace.learning_rate,
            pace.grad_norm,
            pace.tokens_per_s,
        )
        self.curve.append(point)
        metrics = {"loss": mean, "tokens": float(self.tokens), "usd": self._usd()}
        for name in ("learning_rate", "grad_norm", "tokens_per_s"):
            if (value := getattr(point, name)) is not None:
                metrics[name] = value
        self._pace = _Pace()
        if exact is not None:
            metrics["validation_exact"] = exact
        if loss is not None:
            metrics["validation_loss"] = loss
        self._context.log({f"distill/{k}": v for k, v in metrics.items()}, step=step)

    def _explain(self, end: End) -> None:
        """Say why a training ends, where it is not behind its last step."""
        if end.step < end.n_steps:
            say = self._context.warn if isinstance(end, OutOfTime) else self._context.note
            say(str(end))

    def _usd(self) -> float:
        return self.seconds / 3600 * self._watching.usd_per_hour

    def _line(self, step: int, loss: float) -> str:
        """Return loss, accuracy, speed, dollars and time left as one line.

        Only a job pays for servers: one rented at the plan's price would have cost so much.
        """
        parts = [f"loss {loss:.4f}"]
        if self._measured is not None:
            parts.append(f"exact {self._measured.exact:.3f}")
        parts.append(f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s")
        if self._watching.usd_per_hour:
            parts.append(f"${self._usd():.2f} {self._watching.price}")
        seconds_left = self.seconds / step * (self._watching.n_steps - step)
        if self._watching.max_seconds is not None:
            seconds_left = min(seconds_left, max(0.0, self._watching.max_seconds - self.seconds))
        parts.append(f"{clock(seconds_left)} left")
        return " · ".join(parts)

    def _measure(self, trainer: L.Trainer, module: Any, step: int) -> bool:
        """Measure the student and keep its weights if they are the best so far.

        Returns:
            False where a signal came in the midst of it.
        """
        started = time.monotonic()
        if module.workers is not None:  # their cores are free meanwhile
            torch.set_num_threads(module.workers.n_cores)
        with self._measured_weights(module):
            model = whole_model(module.model)
            measured: Measured | None = None
            if trainer.is_global_zero:
                with module.learner.unpacked(), contextlib.suppress(_Interrupted):
                    measured = self._validate(model, self._poll)
            measured = trainer.strategy.broadcast(measured)
            if measured is None:
                return False
            self._measured = measured
            if self.best.is_next(step, measured):
                weights = best_weights(module.model)
                if trainer.is_global_zero:
                    self.best.keep(weights)
        self._validation_seconds = time.monotonic() - started
        return True

    def _poll(self) -> None:
        if self.interrupts.received is not None:
            raise _Interrupted

    @contextlib.contextmanager
    def _measured_weights(self, module: Any) -> Iterator[None]:
        if self.average is None:
            yield
        else:
            with self.average.in_place(module):
                yield


@dataclass
class _Pace:
    """Speed, learning rate and gradient since the last point of the curve."""

    tokens: float = 0.0
    seconds: float = 0.0
    learning_rate: float | None = None
    grad_norm: float | None = None

    def step(
        self, tokens: float, seconds: float, learning_rate: float, grad_norm: float | None
    ) -> None:
        """Take a step in."""
        self.tokens += tokens
        self.seconds += seconds
        self.learning_rate, self.grad_norm = float(learning_rate), grad_norm

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second of the steps; None without any."""
        return self.tokens / self.seconds if self.seconds > 0 else None
