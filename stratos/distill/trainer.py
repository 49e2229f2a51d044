"""Lightning's Trainer: precision, strategy, time limit, and the signals that end it."""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import StudentConfig, TrainerConfig
from stratos.core.errors import ConfigError
from stratos.core.machine import multiplies_bf16
from stratos.core.trust import untrusted_class

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
