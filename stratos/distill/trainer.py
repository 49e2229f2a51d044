"""Lightning's Trainer, and how long and at which learning rates it trains.

Precision, strategy, time limit, and the signals that end it are Lightning's; torch is imported in
functions alone, since the plan reads this, too: it knows about how many rows there will be, and the
training has them. One rule serves both.

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

import importlib.util
import logging
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stratos.config import CallbacksConfig, StudentConfig, TrainerConfig
from stratos.core.errors import ConfigError
from stratos.core.formats import counted
from stratos.core.machine import multiplies_bf16
from stratos.core.trust import untrusted_class
from stratos.distill.words import FewPasses

if TYPE_CHECKING:
    import lightning as L


STRATEGIES = ("auto", "ddp", "fsdp", "deepspeed")


def make_trainer(
    config: TrainerConfig, n_steps: int, callbacks: list[Any], folder: Path
) -> L.Trainer:
    """Return the trainer of one process; the other processes are there already, if any."""
    import lightning as L

    from stratos.distill.checkpoints import CheckpointFiles

    strategy = make_strategy(config)
    # The other strategies write a folder of their own.
    is_one_file = strategy not in ("fsdp", "deepspeed")
    return L.Trainer(
        max_steps=n_steps,
        max_epochs=-1,
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=strategy,
        plugins=[CheckpointFiles()] if is_one_file else None,
        precision=precision(config.precision, config.accelerator),
        gradient_clip_val=config.clip_norm or None,
        accumulate_grad_batches=config.accumulate,
        callbacks=callbacks,
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def make_strategy(config: TrainerConfig) -> Any:
    """Return Lightning's strategy, by name or as an instance.

    Raises:
        ConfigError: there is no such strategy, or it cannot run on this machine.
    """
    strategy = config.strategy
    if isinstance(strategy, str):
        on_gpu = _has_gpu(config)
        if strategy == "ddp" and not on_gpu:
            from lightning.pytorch.strategies import DDPStrategy

            return DDPStrategy(process_group_backend="gloo")
        return strategy
    from hydra.utils import instantiate

    reason = untrusted_class(strategy)
    if reason is not None:
        raise ConfigError(f"trainer.strategy.{reason}")
    try:
        return instantiate(strategy)
    except Exception as error:  # whatever a class of Lightning's makes of its arguments
        raise ConfigError(f"trainer.strategy cannot be made: {error}") from error


def unusable(config: TrainerConfig) -> list[str]:
    """Return what of the trainer's settings cannot run, without loading anything heavy."""
    problems = []
    strategy = config.strategy
    name = strategy if isinstance(strategy, str) else str(strategy.get("_target_", ""))
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            problems.append(
                f"trainer.strategy={strategy}: pick one of {', '.join(STRATEGIES)}, or "
                "trainer=fsdp2, which names a class."
            )
    elif not name:
        problems.append(
            f"trainer.strategy is a mapping without _target_: pick one of {', '.join(STRATEGIES)}, "
            "or trainer=fsdp2."
        )
    if config.max_time is not None:
        try:
            seconds_of(config.max_time)
        except ConfigError as error:
            problems.append(str(error))
    if strategy in ("fsdp", "deepspeed") and config.accelerator == "cpu":
        problems.append(
            f"trainer={strategy} needs a GPU, and trainer.accelerator=cpu. Type trainer=fsdp2."
        )
    if config.n_processes is not None and config.n_processes > 1:
        several = config.devices * config.num_nodes > 1
        key = "devices and trainer.num_nodes" if several else "n_threads"
        if several or (config.n_threads or 1) > 1:
            problems.append(
                f"trainer.n_processes={config.n_processes} shares each step among processes of one "
                f"thread: it cannot be combined with trainer.{key}. Leave one of them out."
            )
    if config.adapter != "none" and "ModelParallel" in name:
        problems.append("trainer.adapter and FSDP2 cannot be combined: type trainer=ddp.")
    return problems


def check_machine(config: TrainerConfig) -> None:
    """Refuse what this machine cannot run.

    Raises:
        ConfigError: there is no GPU where one is needed, or a package is missing.
    """
    needed = (
        ("trainer.strategy", "fsdp", None, "trainer=fsdp2"),
        ("trainer.strategy", "deepspeed", "deepspeed", "trainer=fsdp2"),
        ("trainer.adapter", "qlora", "bitsandbytes", "trainer.adapter=lora"),
    )
    for name, value, package, instead in needed:
        if value not in (config.strategy, config.adapter):
            continue
        if value == config.strategy and not _has_gpu(config):
            raise ConfigError(
                f"{name}={value} needs a GPU, and this machine has none. Type {instead}."
            )
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{name}={value} needs {package}, which is not installed. Type pip install "
                f"{package}, or {instead}."
            )


def check_adapter(config: TrainerConfig, students: Sequence[StudentConfig]) -> None:
    """Refuse adapters where none of the students has weights that they could be put beside.

    Raises:
        ConfigError: all of them start from random weights.
    """
    if config.adapter == "none" or any(student.path is not None for student in students):
        return
    names = ", ".join(student.name for student in students)
    raise ConfigError(
        f"trainer.adapter={config.adapter}: adapters need a pretrained model, and with random "
        f"weights ({names}) they learn little. Type student=local student.path=<folder>, or "
        "trainer.adapter=none."
    )


def seconds_of(text: str) -> float:
    """Return the seconds of DD:HH:MM:SS.

    Raises:
        ConfigError: it is no such time, or none at all.
    """
    parts = text.split(":")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts) or not int("".join(parts)):
        raise ConfigError(
            f"trainer.max_time={text}: expected DD:HH:MM:SS, such as 00:01:30:00 for 90 minutes."
        )
    days, hours, minutes, seconds = map(int, parts)
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def precision(name: str, accelerator: str) -> Any:
    """Return Lightning's name of a precision; `auto` is bf16 where the machine gains from it.

    A CPU gains where it multiplies bf16 in hardware; elsewhere it only emulates it.
    """
    import torch

    if name == "auto":
        gpu = accelerator != "cpu" and torch.cuda.is_available()
        cpu = multiplies_bf16()
        name = "bf16" if (torch.cuda.is_bf16_supported() if gpu else cpu) else "fp32"
    return {"bf16": "bf16-mixed", "fp32": "32-true"}[name]


def _has_gpu(config: TrainerConfig) -> bool:
    import torch

    return config.accelerator != "cpu" and torch.cuda.is_available()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C out as what it is: Lightning turns it into an exit with code 1."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch its threads back: a training may choose fewer."""
    import torch

    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners and hints away from the one line a stage is shown with."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        try:
            yield
        finally:
            for name, level in zip(names, levels, strict=True):
                logging.getLogger(name).setLevel(level)


SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C; a server that is taken away; a terminal that is closed."""


class Interrupts:
    """Notes a signal for the end of the step; Ctrl-C again ends it at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        # Those of before the training: Lightning's own would hold its trainer for ever.
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._listens = False

    def listen(self) -> None:
        """Take the signals over, if this thread may; what `nohup` ignores stays ignored."""
        if threading.current_thread() is threading.main_thread():
            self._listens = True
            for number, before in self._before.items():
                if before is not signal.SIG_IGN or number == signal.SIGINT:
                    signal.signal(number, self._note)

    def close(self) -> None:
        """Give the signals back."""
        if self._listens:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._listens = False

    def leave(self) -> None:
        """End as the signal wants it.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            SystemExit: it was another.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        # Another process that trains along may have been told, and not this one.
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _note(self, number: int, _: Any) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = self.received or number


_EPOCHS_OF_MODEL = (3, 5, 1_500)
"""Fewest and most epochs, and rows that are read in all, of a student that starts from a model. It
knows its language: of 180 rows most is learnt in the first two."""
_EPOCHS_OF_RANDOM = (10, 60, 20_000)
"""The same of one of random weights."""
BEGINNING_TOKENS = 64
"""What a beginning of its own costs in calls, in tokens that are computed."""
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
    computed: float = 1.0
    """Share of the tokens that is computed: what rows of a step begin with alike is read once."""

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


def few_passes(
    trainer: TrainerConfig, student: StudentConfig, length: Length, n_rows: int
) -> FewPasses | None:
    """Return that a student with weights reads few rows seldom; None where it reads them enough.

    Whoever names the epochs knows how often rows are read.
    """
    least, _, rows_read = _EPOCHS_OF_MODEL
    names_epochs = trainer.max_epochs is not None and trainer.max_epochs >= 0
    if student.path is None or names_epochs:
        return None
    if length.epochs >= least or n_rows * length.epochs >= rows_read:
        return None
    tokens = math.ceil(least * length.tokens / length.epochs)
    return FewPasses(length.epochs, tokens, least, length.reason)


HEALING = 1 / 3
"""Length of the training that follows the removal of layers, as a part of the one before."""


def loses_layers(trainer: TrainerConfig, student: StudentConfig) -> bool:
    """Return whether layers of a student are tried once it is trained (`student.fit.depth`).

    Weights in 4 bits are not loaded again, and several processes would each try.
    """
    is_alone = trainer.devices * trainer.num_nodes == 1 and trainer.adapter != "qlora"
    return is_alone and student.path is not None and bool(student.fit.depth)


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
