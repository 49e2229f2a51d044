"""The pace of a training: measured before it, reported, and refused where it passes the limit.

A few steps are made that change nothing, for their learning rate is 0. They say how long the
training will take, and on how many threads it is fastest: where other processes want the cores,
threads wait for those that are not running, and fewer of them get further.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import msgspec
import torch

from stratos.config import TrainerConfig
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import about, counted, duration
from stratos.core.reasons import Reason
from stratos.distill.data import Batch, PackedLoader
from stratos.distill.distributed import summed, whole_model
from stratos.distill.module import StudentModule
from stratos.distill.speedups import speedups
from stratos.distill.tokenizer import has_4_bits
from stratos.distill.words import (
    PassedLimit,
    ProcessesBeyondCores,
    ProcessesGone,
    ProcessesUnused,
    TooLong,
)
from stratos.models.decode.decoder import WORTH, fastest, thread_counts
from stratos.records import from_json, to_json

_MUCH = 0.2
"""Part of the time from which on that of the validations is said."""
_LEAST_STEPS = 10
"""Steps below which a shorter training is no advice: it would learn nothing."""
_USED = 0.9
"""Part of the time that may be taken which an advice counts with."""


@dataclass(frozen=True)
class Outlook:
    """What a training consists of, and how long it may take."""

    student: str
    n_steps: int
    tokens_per_step: float
    n_validations: int
    epochs: float
    max_hours: float | None
    """`limits.train_hours`."""
    deadline_hours: float | None
    """`limits.deadline_hours`."""
    max_seconds: float | None
    """`trainer.max_time`, at which a training ends by itself."""
    smaller: tuple[tuple[str, float], ...] = ()
    """Smaller students of the run, largest first, and the part of the time that each would take."""
    passed_hours: float = 0.0
    """What the stages before took, which counts for the deadline."""
    planned: str = ""
    """What the plan has for it, as a sentence."""

    def seconds(self, per_step: float, per_validation: float) -> float:
        """Return the seconds of the whole training."""
        whole = self.n_steps * per_step + self.n_validations * per_validation
        return whole if self.max_seconds is None else min(whole, self.max_seconds)

    def summary(
        self,
        seconds: float,
        per_step: float,
        per_validation: float,
        n_threads: int,
        n_processes: int = 1,
    ) -> str:
        """Return how long it takes, and what validations take of that where it is much.

        Args:
            seconds: of the whole training.
            per_step: seconds of a step.
            per_validation: seconds of a validation.
            n_threads: that it trains on.
            n_processes: that share each step.
        """
        validations = self.n_validations * per_validation
        included = f"{counted(self.n_validations, 'validation')} included"
        if validations > _MUCH * seconds:
            included += (
                f" (about {about(min(validations, seconds))}; callbacks.validate_every_steps)"
            )
        on = counted(n_threads, "CPU thread")
        if n_processes > 1:
            on = f"{n_processes} processes of one CPU thread"
        text = (
            f"{self.student}: {counted(self.n_steps, 'step', spec=',')} of "
            f"{self.tokens_per_step:,.0f} tokens, {duration(per_step)} each on {on}: about "
            f"{about(seconds)} here, {included}."
        )
        return f"{text} {self.planned}".rstrip()

    def too_long(self, seconds: float, per_step: float) -> TooLong | None:
        """Return why the training is not begun, and what would make it fit; None where it may be.

        Args:
            seconds: of the whole training.
            per_step: seconds of a step.
        """
        limits = [
            (hours, key, before)
            for hours, key, before in (
                (self.max_hours, "limits.train_hours", 0.0),
                (self.deadline_hours, "limits.deadline_hours", self.passed_hours),
            )
            if hours is not None
        ]
        passed = [
            (hours, key, before)
            for hours, key, before in limits
            if seconds > 3600 * (hours - before)
        ]
        if not passed:
            return None
        most = 3600 * min(max(0.0, hours - before) for hours, _, before in passed)
        part = _USED * most / seconds
        epochs = math.floor(part * self.epochs)
        fitting = (name for name, share in self.smaller if share < part)
        return TooLong(
            student=self.student,
            seconds=seconds,
            n_steps=self.n_steps,
            tokens_per_step=self.tokens_per_step,
            step_seconds=per_step,
            limits=tuple(
                PassedLimit(key, hours, math.ceil(seconds / 3600 / _USED + before))
                for hours, key, before in passed
            ),
            passed_hours=max(before for *_, before in passed),
            max_tokens=(
                _rounded(part * self.n_steps * self.tokens_per_step)
                if part * self.n_steps >= _LEAST_STEPS
                else None
            ),
            max_epochs=epochs if epochs >= 1 else None,
            smaller=next(fitting, None),
        )


def _rounded(tokens: float) -> int:
    """Return tokens with two digits, rounded down."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, tokens))) - 1)
    return max(1, int(tokens // unit * unit))


_LOOKED_AT = 64
"""Rows among which the one is found that processes are timed on."""
_SMALL_SECONDS = 1e-3
"""What a token may take for processes to be tried: longer ones are large models' own operators."""


@dataclass(frozen=True)
class Paces:
    """What was measured and chosen, as it lies beside the checkpoints."""

    fingerprint: str
    """Of the training."""
    expected_seconds: float
    """Of the whole training, when it began."""
    n_threads: int
    """Threads of every step: their number decides how sums are rounded."""
    processes: int = 1
    """Processes of one thread that share each step."""


class Pacer(L.Callback):
    """Says how long a training takes, or refuses it, and has it run on the fastest threads."""

    def __init__(
        self,
        context: Context,
        outlook: Outlook,
        loader: PackedLoader,
        seconds_per_validation: Callable[[Any], float],
        path: Path,
        trainer_config: TrainerConfig,
    ) -> None:
        """Take what is to be measured.

        Args:
            context: fingerprint of the training, and where things are said.
            outlook: the training, and how long it may take.
            loader: its rows.
            seconds_per_validation: takes the model; measures what a validation takes.
            path: where choices are kept.
            trainer_config: its own choice of threads and processes.
        """
        self._context, self._outlook, self._loader = context, outlook, loader
        self._seconds_per_validation, self._path = seconds_per_validation, path
        most = torch.get_num_threads()
        n_threads, n_processes = trainer_config.n_threads, trainer_config.n_processes
        self._counts = thread_counts(most) if n_threads is None else (n_threads,)
        self._n_processes = n_processes if n_processes or n_threads is None else 1
        self._most, self._module = most, None
        self.paces: Paces | None = _read(path, context.fingerprint)

    @property
    def threads(self) -> tuple[tuple[int, int], ...]:
        """From which step on how many threads it trained on."""
        return ((0, self.paces.n_threads),) if self.paces is not None else ()

    @property
    def processes(self) -> int:
        """Return how many processes shared each step."""
        return self.paces.processes if self.paces is not None else 1

    @property
    def expected_seconds(self) -> float | None:
        """What the training was expected to take."""
        return self.paces.expected_seconds if self.paces is not None else None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Measure, unless this training goes on.

        Raises:
            StratosError: the training would take longer than it may.
        """
        step = trainer.global_step
        if trainer.world_size > 1:  # each process has its share of the cores already
            self._counts = (torch.get_num_threads(),)
        earlier = self.paces
        if earlier is None or step == 0:  # what else the machine does may have changed since
            self._begin(trainer, module)
        elif has_4_bits(module.model):
            # Laying them out for evaluation rounds their scales, once: as it did at the beginning.
            self._validation_seconds(trainer, module)
        assert self.paces is not None
        n = self.paces.processes
        is_divided = n == 1 or module.workers is not None
        if not is_divided and (reason := self._divide(trainer, module, n)):
            self._context.warn(str(ProcessesGone(n, reason)))
            self._keep(replace(self.paces, processes=1), trainer)
        torch.set_num_threads(self.paces.n_threads)

    def _begin(self, trainer: L.Trainer, module: Any) -> None:
        outlook = self._outlook
        self._context.tick(0, outlook.n_steps, "measuring how long it takes here")
        paces = measure(trainer, module, self._loader, self._counts)
        pace = self._divided(trainer, module, fastest_of(paces, outlook.tokens_per_step))
        workers = module.workers
        n_processes = 1 if workers is None else workers.n
        torch.set_num_threads(pace.n_threads if workers is None else workers.n_cores)
        validation = self._validation_seconds(trainer, module)
        step_seconds = pace.seconds_per_step(outlook.tokens_per_step)
        (total,) = summed(outlook.seconds(step_seconds, validation))
        seconds = total / trainer.world_size
        self._keep(Paces(self._context.fingerprint, seconds, pace.n_threads, n_processes), trainer)
        if reason := outlook.too_long(seconds, step_seconds):
            raise StratosError(str(reason))
        self._context.note(
            outlook.summary(seconds, step_seconds, validation, pace.n_threads, n_processes)
        )

    def _divided(self, trainer: L.Trainer, module: Any, pace: Pace) -> Pace:
        """Share each step among processes where that is asked for, or about as fast as threads."""
        n = self._most if self._n_processes is None else self._n_processes
        if n < 2 or trainer.world_size > 1:
            return pace
        if self._n_processes is None and pace.seconds_per_token > _SMALL_SECONDS:
            return pace
        row = _row_of_several(self._loader, n)
        if reason := self._divide(trainer, module, n):
            if self._n_processes is not None:
                self._context.note(str(ProcessesUnused(n, reason)))
            return pace
        if n > self._most:
            self._context.note(str(ProcessesBeyondCores(n, self._most)))
        divided = measure_divided(trainer, module, self._loader, row)
        tokens = self._outlook.tokens_per_step
        # As good as equal they are taken: they do not slow down where other work comes.
        is_slower = WORTH * divided.seconds_per_step(tokens) > pace.seconds_per_step(tokens)
        if self._n_processes is None and is_slower:
            self.close()
            return pace
        return divided

    def _divide(self, trainer: L.Trainer, module: Any, n: int) -> Reason | None:
        """Share each step among processes, or return why that cannot be."""
        workers = speedups().gradient_workers(
            module,
            self._loader,
            n,
            trainer.precision_plugin.forward_context,
            trainer.accumulate_grad_batches,
            self._context.warn,
        )
        if isinstance(workers, Reason):
            return workers
        module.workers, self._module = workers, module
        return None

    def close(self) -> None:
        """End the processes that share the steps."""
        module, self._module = self._module, None
        if module is not None:
            module.workers.close()
            module.workers, module.others = None, []

    def _validation_seconds(self, trainer: L.Trainer, module: Any) -> float:
        """Return what a validation takes, measured by the first process on the whole weights."""
        whole = whole_model(module.model)
        seconds = 0.0
        if trainer.is_global_zero:
            with module.learner.unpacked():
                seconds = self._seconds_per_validation(whole)
        seconds = trainer.strategy.broadcast(seconds)
        return seconds

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Go on with the threads of the training: a measurement may have had others."""
        assert self.paces is not None
        if torch.get_num_threads() != self.paces.n_threads:
            torch.set_num_threads(self.paces.n_threads)

    def _keep(self, paces: Paces, trainer: L.Trainer) -> None:
        self.paces = paces
        if trainer.is_global_zero:
            write_atomically(self._path, to_json(paces))


def _row_of_several(loader: PackedLoader, n: int) -> int:
    """Return the first row with documents for each of `n` processes, or the first row."""
    rows = range(min(len(loader), _LOOKED_AT))
    return next((row for row in rows if len(loader.documents(row)) >= 2 * n), 0)


def _read(path: Path, fingerprint: str) -> Paces | None:
    try:
        paces = from_json(path.read_bytes(), Paces)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return paces if paces.fingerprint == fingerprint else None


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
