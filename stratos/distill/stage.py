"""The distill stage: train the student on the corpus, resuming from the last checkpoint."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import Config, StudentConfig
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.environment import JOB
from stratos.core.errors import StratosError
from stratos.core.formats import about
from stratos.distill.validation import validate_kept
from stratos.models.pretrained.free_memory import free_memory
from stratos.models.students.content import content_of
from stratos.records import Corpus, Plan, Student

if TYPE_CHECKING:
    from stratos.distill.prepare import Ready
    from stratos.distill.recipe import Length, Rates

_CUT = "cut_at_usd.txt"
"""Beside checkpoints of a training whose signal there was no money for: at which cap that was."""


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
        trained = train(config, plan, corpus, context, began=began)
        assert trained is not None
        student = trained
        # Trainer, optimizer and module refer to each other: several times the student's weights.
        free_memory()
    for left_over in ("checkpoints", "checkpoints.other"):
        shutil.rmtree(folder / left_over, ignore_errors=True)
    return student


def train(
    config: Config,
    plan: Plan,
    corpus: Corpus,
    context: Context,
    rank: int = 0,
    n_ranks: int = 1,
    began: float | None = None,
) -> Student | None:
    """Train in this process, which is one of `n_ranks`; the first returns the student.

    `began` is when the stage did, on the monotonic clock; libraries take seconds to load.
    """
    began = time.monotonic() if began is None else began
    import lightning as L
    import torch

    from stratos.distill.adapter import checkpoint_blocks
    from stratos.distill.callbacks import TrainingMonitor, Watching
    from stratos.distill.checkpoints import Checkpoints, newest
    from stratos.distill.ema import Average
    from stratos.distill.interrupts import Interrupts
    from stratos.distill.measuring import Measuring
    from stratos.distill.module import NotFinite
    from stratos.distill.outlook import Outlook
    from stratos.distill.pacer import Pacer
    from stratos.distill.prepare import prepare
    from stratos.distill.random_states import RandomStates
    from stratos.distill.recipe import learning_rates, training_length
    from stratos.distill.saved import save
    from stratos.distill.speedups import speedups
    from stratos.distill.trainer import (
        interruptible,
        make_trainer,
        precision,
        quiet_lightning,
        seconds_of,
        threads_kept,
    )
    from stratos.distill.training_setup import open_lesson

    settings, folder = config.trainer, context.run_dir / "distill"
    if settings.n_threads:
        torch.set_num_threads(settings.n_threads)
    L.seed_everything(config.seed, verbose=False)
    checkpoint = newest(folder / "checkpoints", context.warn)
    has_twin = checkpoint is not None and (folder / "untouched").exists()
    ready = prepare(config, plan, corpus, context, untouched=rank == 0 and not has_twin)
    data, chosen = ready.data, ready.chosen
    length = training_length(settings, chosen, len(data), float(data.lengths.mean()))
    rates = learning_rates(settings, chosen.path is None, ready.model.config.hidden_size)
    if rank == 0:
        numbers = precision(settings.precision, settings.accelerator)
        context.note(_told(chosen.name, length, rates, numbers))
    opened = open_lesson(
        config,
        plan,
        ready.model,
        ready.tokenizer,
        data,
        ready.questions,
        length,
        rates,
        context,
        rank,
        n_ranks,
    )
    with opened as training_setup:
        if rank == 0:
            _note_cut(folder, context.ledger.cut_at_usd)
        average = None if settings.ema is None else Average(settings.ema)
        interrupts = Interrupts()
        measuring = Measuring(config, ready.tokenizer, chosen.context_length, data)
        n_steps = training_setup.loader.n_steps
        every = length.validate_every_steps(config.callbacks, n_steps)
        max_seconds = None if settings.max_time is None else seconds_of(settings.max_time)
        pacer = Pacer(
            context,
            Outlook(
                chosen.name,
                n_steps,
                length.tokens / n_steps,
                1 + (n_steps // every if every else 0),
                length.epochs,
                config.limits.train_hours,
                config.limits.deadline_hours,
                max_seconds,
                _smaller(config, ready.model.num_parameters()),
                context.spent_seconds / 3600,
                _planned(plan),
            ),
            training_setup.loader,
            measuring.foretell_seconds,
            folder / "pace.json",
            settings.n_threads,
            settings.n_processes,
        )
        watch = TrainingMonitor(
            context,
            Watching(
                n_steps,
                every,
                config.callbacks.stop_at_exact,
                config.callbacks.patience,
                max_seconds,
                *_price(config, plan),
            ),
            measuring,
            Checkpoints(
                folder / "checkpoints",
                config.callbacks.checkpoint_every_steps,
                60 * config.callbacks.checkpoint_every_minutes,
            ),
            interrupts,
            average,
        )
        averages = [] if average is None else [average]
        callbacks = [*averages, pacer, watch, RandomStates()]
        with quiet_lightning():
            trainer = make_trainer(settings, n_steps, callbacks, folder)
            try:
                closing = contextlib.closing
                memory = speedups().allocator()
                with interruptible(), closing(interrupts), closing(pacer), threads_kept(), memory:
                    trainer.fit(
                        training_setup.module,
                        training_setup.loader,
                        ckpt_path=checkpoint,
                        weights_only=True,
                    )
                    watch.catch_up(trainer, training_setup.module)
                    # A measurement leaves it as a training wants it.
                    training_setup.module.on_fit_end()
            except NotFinite as error:
                raise StratosError(_not_finite(error, ready, folder, config)) from error
    if rank:
        return None
    if settings.checkpointing:
        checkpoint_blocks(ready.model, False)
    best = watch.best.measured
    assert best is not None
    model, n_params, digest = save(ready, watch.best.weights, folder)
    validated = validate_kept(
        config,
        model,
        ready.tokenizer,
        watch.seconds,
        lambda done, total: context.tick(done, total, "validating the kept weights"),
    )
    return Student(
        name=ready.chosen.name,
        path=str(folder / "student"),
        untouched_path=str(folder / "untouched"),
        n_params=n_params,
        steps=trainer.global_step,
        train_tokens=watch.tokens,
        best_step=watch.best.step,
        best_exact=best.exact,
        validation_loss=best.loss,
        validation_exact=validated.exact,
        n_validation_items=validated.n_items,
        n_validation_reused=validated.n_reused,
        n_choosing_items=validated.n_choosing,
        threads=pacer.threads,
        processes=pacer.processes,
        expected_seconds=pacer.expected_seconds,
        epochs=watch.tokens / max(1, int(data.lengths.sum())),
        curve=tuple(watch.curve),
        weights_sha256=digest,
        seconds=watch.seconds,
        cpu_seconds=watch.cpu_seconds,
        n_resumed=watch.n_resumed,
        cut_at_usd=context.ledger.cut_at_usd,
        content=content_of(config, ready.chosen),
        setup_seconds=time.monotonic() - began - (watch.seconds - watch.earlier_seconds),
    )


def _planned(plan: Plan) -> str:
    """Say what the plan has for the training, and for which server."""
    roles = [one for one in plan.roles_of("train") if one.offer is not None and one.hours]
    if not roles:
        return ""
    offer, seconds = roles[0].offer, 3600 * roles[0].hours
    assert offer is not None
    return f"Planned: {about(seconds)} on {offer.name}."


def _smaller(config: Config, n_params: int) -> tuple[tuple[str, float], ...]:
    """Return the smaller students of a run, and the part of the time that each would take."""
    sizes = {student.name: _about_params(student) for student in config.students}
    found = [(name, n / n_params) for name, n in sizes.items() if 0 < n < n_params]
    return tuple(sorted(found, key=lambda one: -one[1]))


def _about_params(student: StudentConfig) -> int:
    """Return about how many parameters a student has; 0 where nobody knows."""
    if student.path is not None:
        return student.facts.get("n_params", 0)
    width = student.hidden_size
    block = 4 * width**2 + 3 * width * student.intermediate_size
    return student.n_layers * block + student.vocab_size * width


def _told(student: str, length: Length, rates: Rates, precision: str) -> str:
    """Say how long and how fast a student learns, and why."""
    how = f"AdamW {rates.lr_adamw:.2g}"
    numbers = "float32" if precision == "32-true" else "bfloat16"
    if rates.optimizer == "muon":
        how = f"Muon {rates.lr_muon:.2g} and {how}"
    return (
        f"{student} learns from {length.tokens:,} tokens, {length.epochs:.3g} times each row: "
        f"{length.reason}. Steps of {length.batch_tokens:,} tokens in {numbers}, peak learning "
        f"rate {how}."
    )


def _make_way(folder: Path, context: Context) -> None:
    """Put a checkpoint that was made from other inputs aside, and note those of this training."""
    inputs, checkpoints, aside = (
        folder / name for name in ("inputs.txt", "checkpoints", "checkpoints.other")
    )
    why = "by another config or corpus"
    if inputs.exists() and inputs.read_text() == context.fingerprint:
        if not _may_learn_more(folder, context.ledger.cap_usd()):
            return
        why = "from the text alone, because the budget was too small"
    if any(checkpoints.glob("step-*.ckpt")):
        shutil.rmtree(aside, ignore_errors=True)
        checkpoints.replace(aside)
        context.warn(
            f"The checkpoint in {checkpoints} was made {why}: it lies in {aside} now, and the "
            "training starts again"
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    write_atomically(inputs, context.fingerprint.encode())


def _note_cut(folder: Path, cut_at_usd: float | None) -> None:
    """Remember beside the checkpoints at which cap the money for the signal ended."""
    if cut_at_usd is not None:
        (folder / _CUT).write_text(repr(cut_at_usd))
    else:
        (folder / _CUT).unlink(missing_ok=True)


def _may_learn_more(folder: Path, cap_usd: float | None) -> bool:
    """Return whether the checkpoints lack a signal that the money may suffice for now."""
    if not (folder / _CUT).exists():
        return False
    return cap_usd is None or cap_usd > float((folder / _CUT).read_text())


def _price(config: Config, plan: Plan) -> tuple[float, str]:
    """Return what the servers that train cost together an hour, and whose price that is."""
    usd_per_hour = sum(
        (one.usd / one.hours if one.hours else 0.0) for one in plan.roles_of("train")
    )
    if JOB not in os.environ or (executor := config.executor).kind == "here":
        return usd_per_hour, "at the plan's price"
    if executor.usd_per_hour is not None:
        usd_per_hour = executor.usd_per_hour * config.trainer.num_nodes
    return usd_per_hour, "for the job's servers"


def _not_finite(error: Any, ready: Ready, folder: Path, config: Config) -> str:
    """Name the batch and say what to do."""
    from stratos.distill.checkpoints import found

    items = ready.data.items[error.documents].tolist()
    shown = ", ".join(map(str, items[:8])) + (", …" if len(items) > 8 else "")
    kept = found(folder / "checkpoints")
    if kept:
        good = f"The last good checkpoint is kept: {kept[0]}."
    else:
        every = counted(config.callbacks.checkpoint_every_steps, "step")
        good = (
            f"There is no checkpoint yet: the first is made after {every} "
            "(callbacks.checkpoint_every_steps)."
        )
    return (
        f"{error}, on the batch of training items {shown} (rows of the corpus, from 0). {good} "
        "Lower trainer.lr_muon and trainer.lr_adamw, or raise trainer.warmup_steps, and give the "
        "command again: with other settings the training starts again."
    )
