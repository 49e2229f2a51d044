"""Training speed on this machine, measured before training, and the number of CPU threads.

A few steps are made that change nothing, for their learning rate is 0. They say how long the
training will take, and on how many threads it is fastest: where other processes want the cores,
threads wait for those that are not running, and fewer of them get further.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import lightning as L
import torch

from stratos.distill.data import Batch, PackedLoader
from stratos.distill.module import StudentModule
from stratos.models.decode.decoder import fastest

_SHORT_SECONDS, _REPEATS = 1.0, 3
"""Trials of up to so many seconds are made so often, where there is something to choose."""
_PART_TOKENS = 128
"""Tokens of the first trial."""
_LONG_SECONDS = 0.25
"""What they take where the model is a large one, which is measured on parts of a row."""
_LARGER_SECONDS, _LARGER_TIMES = 2.0, (2, 8)
"""About what the larger part of a row may take, and how many times as long as the smaller it is."""


@dataclass(frozen=True)
class Pace:
    """What a gradient step takes on so many CPU threads."""

    n_threads: int
    seconds_per_token: float
    """Forward and backward pass."""
    seconds_per_update: float
    """Of the optimizer, and of what the passes do with each weight, however many tokens there are:
    weights are narrowed, and their gradients widened."""

    def seconds_per_step(self, tokens: float) -> float:
        """Return the seconds of a step of so many tokens."""
        return tokens * self.seconds_per_token + self.seconds_per_update


def measure(
    trainer: L.Trainer, module: StudentModule, loader: PackedLoader, counts: Sequence[int]
) -> list[Pace]:
    """Return what a step takes on each number of threads; weights and random states stay.

    Args:
        trainer: in the midst of `fit`.
        module: what is trained.
        loader: its rows, of which none is used up.
        counts: numbers of threads; the last one is set afterwards.
    """
    optimizer = module.optimizer(scale=0.0)
    with torch.random.fork_rng(devices=_cuda(module)), _same_gradients(module):
        rows, repeats = _rows(trainer, module, loader, optimizer, len(counts) > 1)
        trials: dict[int, list[_Trial]] = {n: [] for n in counts}
        for _ in range(repeats):
            for n in counts:  # in turn, so that what else the machine does meets all alike
                torch.set_num_threads(n)
                trials[n] += [_trial(trainer, module, row, optimizer) for row in rows]
    return [_pace(n, of, trainer.accumulate_grad_batches) for n, of in trials.items()]


@contextmanager
def _same_gradients(module: StudentModule) -> Iterator[None]:
    """Give the weights back the gradients that they have now."""
    before = [weight.grad for weight in module.parameters()]
    try:
        yield
    finally:
        for weight, grad in zip(module.parameters(), before, strict=True):
            weight.grad = grad


@dataclass(frozen=True)
class _Trial:
    """What a step on one row took."""

    tokens: int
    passes_s: float
    update_s: float


def measure_divided(
    trainer: L.Trainer, module: StudentModule, loader: PackedLoader, row: int = 0
) -> Pace:
    """Return what a step takes whose parts are trained on in processes; weights stay.

    Args:
        trainer: in the midst of `fit`.
        module: what is trained, with its workers.
        loader: of this process's parts of the rows.
        row: the first of those that are trained on, of several sizes.
    """
    optimizer = module.optimizer(scale=0.0)
    torch.set_num_threads(1)
    rows = [loader.row((row + offset) % len(loader)) for offset in range(1 + _REPEATS)]
    with _same_gradients(module):
        trials = [_trial(trainer, module, row, optimizer) for row in rows][1:]
    # Of about equal sizes: no line goes through them.
    mean = _Trial(
        round(fmean(trial.tokens for trial in trials)),
        fmean(trial.passes_s for trial in trials),
        fmean(trial.update_s for trial in trials),
    )
    return _pace(1, [mean], trainer.accumulate_grad_batches)


def _pace(n_threads: int, trials: Sequence[_Trial], n_passes: int) -> Pace:
    """Return what trials say of a step of so many passes.

    A part of each pass does not depend on its tokens. Of a large model and few tokens it is most of
    the time, which a time per token alone would multiply: two sizes of rows tell both parts.
    """
    update_s = fmean(trial.update_s for trial in trials)
    means = {
        tokens: fmean(trial.passes_s for trial in trials if trial.tokens == tokens)
        for tokens in sorted({trial.tokens for trial in trials})
    }
    (few, least_s), *_, (many, most_s) = [*means.items(), *means.items()]
    per_token = (most_s - least_s) / (many - few) if many > few else 0.0
    per_pass = most_s - many * per_token
    if per_token <= 0 or per_pass < 0:  # one size, or what else the machine does hides the line
        per_token, per_pass = most_s / many, 0.0
    return Pace(n_threads, per_token, update_s + n_passes * per_pass)


def _rows(
    trainer: L.Trainer,
    module: StudentModule,
    loader: PackedLoader,
    optimizer: torch.optim.Optimizer,
    is_choice: bool,
) -> tuple[list[Batch], int]:
    """Return the rows that are tried, and how often, after a first trial that warms up."""
    whole = loader.corpus_row(0)
    if trainer.world_size > 1:  # all processes make the same trials
        _trial(trainer, module, whole, optimizer)
        return [whole], 1
    part = loader.part_of_row(0, _PART_TOKENS)
    _trial(trainer, module, part, optimizer)
    trial = _trial(trainer, module, part, optimizer)
    seconds, n_tokens = trial.passes_s + trial.update_s, trial.tokens
    if seconds > _LONG_SECONDS:
        least, most = _LARGER_TIMES
        times = min(most, max(least, int(_LARGER_SECONDS / seconds)))
        larger = loader.part_of_row(0, times * n_tokens)
        if larger.n_trained == n_tokens:
            return [part], 1
        _trial(trainer, module, larger, optimizer)  # touches its memory for the first time
        return [part, larger], 1
    seconds *= max(1, whole.n_trained) / n_tokens
    return [whole], _REPEATS if is_choice and seconds <= _SHORT_SECONDS else 1


def _trial(
    trainer: L.Trainer, module: StudentModule, row: Batch, optimizer: torch.optim.Optimizer
) -> _Trial:
    """Make a step that changes nothing, and time it."""
    row = row.to(module.device)
    started = _now(module)
    if module.workers is not None:
        module.workers.start(row.row)
    with trainer.precision_plugin.forward_context():
        loss = module.trial_loss(row)
    loss.backward()
    module.join()
    passed = _now(module)
    losses = [float(loss.detach()), *(part.loss for part in module.others)]
    if all(map(math.isfinite, losses)):  # 0 times what is not would be no number
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    tokens = row.n_trained + sum(part.n_tokens for part in module.others)
    return _Trial(tokens or row.tokens_1N.numel(), passed - started, _now(module) - passed)


def _now(module: Any) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()


def _cuda(module: Any) -> list[torch.device]:
    return [module.device] if module.device.type == "cuda" else []


def fastest_of(paces: Sequence[Pace], tokens: float) -> Pace:
    """Return the pace to train at: more threads only where they are clearly faster."""
    n_threads = fastest({pace.n_threads: pace.seconds_per_step(tokens) for pace in paces})
    return next(pace for pace in paces if pace.n_threads == n_threads)
