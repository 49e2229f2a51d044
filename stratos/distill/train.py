"""One training in this process: prepare, set up, fit, and save the best weights.

The student and its corpus in tokens, the rows and the teacher's signal are set up first.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import msgspec
import torch

from stratos.config import Config, StudentConfig, TrainerConfig
from stratos.core.atomic_files import replacing, write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import about, counted
from stratos.core.process import JOB
from stratos.core.reasons import Reason
from stratos.distill.checkpoints import (
    Checkpoints,
    RandomStates,
    checkpoints_in,
    newest,
    note_unpaid_signal,
)
from stratos.distill.data import PackedLoader
from stratos.distill.module import NotFinite, StudentModule
from stratos.distill.monitor import Average, TrainingMonitor, Watching
from stratos.distill.pace import Outlook, Pacer
from stratos.distill.packed import Row
from stratos.distill.preparation import Ready, open_training, prepare
from stratos.distill.speedups import speedups
from stratos.distill.tokenizer import (
    add_adapters,
    checkpoint_blocks,
    merged_weights,
    save_student,
)
from stratos.distill.trainer import (
    HEALING,
    Interrupts,
    Length,
    Rates,
    few_passes,
    interruptible,
    learning_rates,
    loses_layers,
    make_trainer,
    precision,
    quiet_lightning,
    seconds_of,
    threads_kept,
    training_length,
)
from stratos.distill.validation import Measuring, Validator
from stratos.distill.words import (
    BeginningsApart,
    BeginningsShared,
    LayersHealed,
    LayersRemoved,
    LayersUnknown,
    OfShallow,
    VocabularyCut,
)
from stratos.models.decode.label_scores import LabelAnswers
from stratos.models.pretrained import load_model
from stratos.models.pretrained.depth import Depth, TrialRows, fit_depth, is_worse, keep_layers
from stratos.models.pretrained.folder import free_memory
from stratos.models.pretrained.vocabulary import cut_model
from stratos.models.students import content_of
from stratos.records import Corpus, Plan, Student


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

    Raises:
        StratosError: a loss or a gradient is not a number, or the training would take too long.
    """
    began = time.monotonic() if began is None else began
    settings, folder = config.trainer, context.run_dir / "distill"
    if settings.n_threads:
        torch.set_num_threads(settings.n_threads)
    L.seed_everything(config.seed, verbose=False)
    has_twin = any((folder / "checkpoints").glob("step-*.ckpt")) and (folder / "untouched").exists()
    ready = prepare(config, plan, corpus, context, untouched=rank == 0 and not has_twin)
    length = training_length(
        settings, ready.chosen, len(ready.data), float(ready.data.lengths.mean())
    )
    rates = learning_rates(settings, ready.chosen.path is None, ready.model.config.hidden_size)
    if rank == 0:
        numbers = precision(settings.precision, settings.accelerator)
        context.note(_recipe(ready.chosen.name, length, rates, numbers))
        if few := few_passes(settings, ready.chosen, length, len(ready.data)):
            context.warn(str(few))
        if cut := ready.vocabulary:
            context.note(str(VocabularyCut(len(cut.ids), cut.n_before)))
    course = _Course(config, plan, context, ready, length, rates, folder, rank, n_ranks)
    student = _learn(course, began)
    if student is None or not loses_layers(settings, ready.chosen):
        return student
    return _without_layers(course, student)


def _layers(depth: Depth) -> Reason:
    """Return how many layers went, or why none did."""
    n, n_before = depth.n_before, depth.rights[0]
    if not depth.is_known:
        return LayersUnknown(n, n_before, depth.n_rows, depth.n_by_chance)
    return LayersRemoved(len(depth.layers), n, depth.n_right, n_before, depth.n_rows)


@dataclass(frozen=True)
class _Course:
    """A training: of what, how long, and where its checkpoints lie."""

    config: Config
    plan: Plan
    context: Context
    ready: Ready
    length: Length
    rates: Rates
    folder: Path
    rank: int = 0
    n_ranks: int = 1
    earlier: Student | None = None
    """The trained student that this one starts from."""


def _learn(course: _Course, began: float) -> Student | None:
    """Train a student, and save and measure it; None in another process than the first."""
    config, ready, context, length = course.config, course.ready, course.context, course.length
    rank, settings, folder = course.rank, course.config.trainer, course.folder
    parts = length, course.rates, context, rank, course.n_ranks
    with open_training(config, course.plan, ready, *parts) as (module, loader):
        if rank == 0 and course.earlier is None:
            note_unpaid_signal(folder, context.ledger.cut_at_usd)
            if note := _beginnings(loader, ready, settings.compile):
                context.note(str(note))
        validator = Validator(
            config.task, config.callbacks, config.evaluate, ready.tokenizer, ready.labels
        )
        pacer, monitor = _callbacks(course, validator, loader)
        checkpoint = newest(folder / "checkpoints", context.warn)
        try:
            n_steps = _fit(settings, module, loader, pacer, monitor, checkpoint, folder)
        except NotFinite as error:
            every = config.callbacks.checkpoint_every_steps
            raise StratosError(_not_finite(error, ready, folder, every)) from error
    if rank:
        return None
    if settings.checkpointing:
        checkpoint_blocks(ready.model, False)
    student = _student(course, validator, pacer, monitor, n_steps, began)
    n_trained, n_computed = _computed(loader, ready)
    return replace(student, computed=min(1.0, n_computed / max(1, n_trained)))


def _without_layers(course: _Course, student: Student) -> Student:
    """Remove the layers that a trained student misses least, and distil it back from itself.

    Where validation rows are answered worse by the shallow one in the end, it is tried once more
    without those layers alone that cost next to nothing; then the whole student stays.
    """
    began = time.monotonic()
    config, ready = course.config, course.ready
    rows = TrialRows.of(config.task, ready.labels)
    free_memory()  # of the optimizer
    folder = course.folder / "shallow" / student.weights_sha256[:16]
    depth = _depth(replace(course, folder=folder), student, rows)
    course.context.note(str(_layers(depth)))
    student = replace(student, layers=(depth.n_before, depth.n_before), depth_curve=depth.curve)
    if not depth.attempts:
        return replace(student, setup_seconds=student.setup_seconds + time.monotonic() - began)
    is_plain, device = _is_plain(ready.model), ready.model.device
    whole = ready.model if is_plain else load_model(student.path, dtype="float32").to(device)
    whole.eval().zero_grad(set_to_none=True)
    right = rows.right(whole, ready.tokenizer)
    for attempt, following in zip(depth.attempts, (*depth.attempts[1:], None), strict=True):
        n_left = len(attempt.layers)
        failed = folder / f"failed-{n_left}.json"
        if failed.exists():  # in a training that was stopped later
            spent = msgspec.json.decode(failed.read_bytes(), type=Student)
            # The folder of the run may have been moved since.
            student = replace(spent, path=student.path, untouched_path=student.untouched_path)
            continue
        shallow = replace(course, folder=folder / f"{n_left}-layers", earlier=student)
        healed = _healed(shallow, attempt, whole, began)
        model = load_model(healed.path, dtype="float32").eval().to(device)
        healed_right = rows.right(model, ready.tokenizer)
        most = ready.chosen.fit.max_loss_points
        is_kept = not is_worse(right, healed_right, most / 100)
        lost, won = int((right & ~healed_right).sum()), int((healed_right & ~right).sum())
        counts = int(right.sum()), len(right), lost, won
        n_next = None if following is None else len(following.layers)
        course.context.note(str(LayersHealed(n_left, *counts, most, is_kept, n_next)))
        if is_kept:
            with replacing(Path(student.path)) as fresh:
                shutil.copytree(healed.path, fresh, dirs_exist_ok=True)
            return replace(healed, path=student.path)
        student = replace(  # what the attempt took was spent all the same
            student,
            seconds=healed.seconds,
            cpu_seconds=healed.cpu_seconds,
            setup_seconds=healed.setup_seconds,
            expected_seconds=healed.expected_seconds,
            n_resumed=healed.n_resumed,
        )
        write_atomically(failed, msgspec.json.encode(student))
        shutil.rmtree(shallow.folder)
        began = time.monotonic()
    return student


def _depth(course: _Course, student: Student, rows: TrialRows) -> Depth:
    """Return which layers go; a training that goes on knows what many trials have shown."""
    path, ready = course.folder / "layers.json", course.ready
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Depth)
    model = load_model(student.path, dtype="float32").eval().to(ready.model.device)

    def trying(done: int, total: int) -> None:
        course.context.tick(done, total, "removing layers; what is left learns again then")

    depth = fit_depth(rows, model, ready.tokenizer, ready.chosen.fit, trying)
    course.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(depth))
    return depth


def _healed(course: _Course, depth: Depth, whole: Any, began: float) -> Student:
    """Train what is left of a student by text, logits and hidden states of the whole one."""
    settings, context, student = course.config.trainer, course.context, course.earlier
    assert student is not None
    model = load_model(student.path, dtype="float32").to(whole.device)
    keep_layers(model, depth.layers)
    if settings.checkpointing:
        checkpoint_blocks(model, True)
    L.seed_everything(course.config.seed, verbose=False)
    model = add_adapters(model, settings, course.config.seed)
    tokens, epochs = course.length.tokens * HEALING, course.length.epochs * HEALING
    course = replace(
        course,
        context=replace(context, warn=lambda text: context.warn(str(OfShallow(text)))),
        ready=replace(course.ready, model=model, depth=depth, whole=whole),
        length=replace(course.length, tokens=math.ceil(tokens), epochs=epochs),
    )
    healed = _learn(course, began)
    assert healed is not None
    return healed


def _callbacks(
    course: _Course, validator: Validator, loader: PackedLoader
) -> tuple[Pacer, TrainingMonitor]:
    config, context, ready, length = course.config, course.context, course.ready, course.length
    settings, folder, earlier = config.trainer, course.folder, course.earlier
    average = None if settings.ema is None else Average(settings.ema)
    sample = partial(context.sample, ready.chosen.name)
    measuring = Measuring(validator, ready.chosen.context_length, ready.data, sample)
    n_steps = loader.n_steps
    every = length.validate_every_steps(config.callbacks, n_steps)
    max_seconds = None if settings.max_time is None else seconds_of(settings.max_time)
    if max_seconds is not None and earlier is not None:
        max_seconds = max(0.0, max_seconds - earlier.seconds)
    is_first = earlier is None
    outlook = Outlook(
        student=ready.chosen.name,
        n_steps=n_steps,
        tokens_per_step=length.tokens / n_steps,
        n_validations=1 + (n_steps // every if every else 0),
        epochs=length.epochs,
        # What follows a training is a part of it: it is never refused once the student is there.
        max_hours=config.limits.train_hours if is_first else None,
        deadline_hours=config.limits.deadline_hours if is_first else None,
        max_seconds=max_seconds,
        smaller=_smaller(config.students, ready.model.num_parameters()),
        passed_hours=context.spent_seconds / 3600,
        planned=_planned(course.plan) if is_first else "",
    )
    pacer = Pacer(
        context,
        outlook,
        loader,
        measuring.foretell_seconds,
        folder / "pace.json",
        settings,
    )
    usd_per_hour, price = _price(config, course.plan)
    watching = Watching(
        n_steps=n_steps,
        validate_every_steps=every,
        callbacks=config.callbacks,
        max_seconds=max_seconds,
        usd_per_hour=usd_per_hour,
        price=price,
        n_before=0 if earlier is None else earlier.steps,
    )
    checkpoints = Checkpoints(folder / "checkpoints", config.callbacks)
    monitor = TrainingMonitor(context, watching, measuring, checkpoints, Interrupts(), average)
    return pacer, monitor


def _fit(
    settings: TrainerConfig,
    module: StudentModule,
    loader: PackedLoader,
    pacer: Pacer,
    monitor: TrainingMonitor,
    checkpoint: Path | None,
    folder: Path,
) -> int:
    """Train from a checkpoint, or from the beginning; return the steps that were made.

    Raises:
        NotFinite: a loss or a gradient is not a number.
    """
    callbacks: list[L.Callback] = [pacer, monitor, RandomStates()]
    if monitor.average is not None:
        callbacks.insert(0, monitor.average)
    closing = contextlib.closing
    with quiet_lightning():
        trainer = make_trainer(settings, loader.n_steps, callbacks, folder)
        with (
            interruptible(),
            closing(monitor.interrupts),
            closing(pacer),
            threads_kept(),
            speedups().allocator(),
        ):
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
            monitor.catch_up(trainer, module)
            module.on_fit_end()  # a measurement leaves it as a training wants it
    return trainer.global_step


def _student(
    course: _Course,
    validator: Validator,
    pacer: Pacer,
    monitor: TrainingMonitor,
    n_steps: int,
    began: float,
) -> Student:
    """Save the best weights, and measure them once more on items that chose nothing."""
    ready, context, folder = course.ready, course.context, course.folder
    best = monitor.best.measured
    assert best is not None
    untouched = context.run_dir / "distill" / "untouched"
    base = untouched if course.earlier is None else Path(course.earlier.path)
    model, n_params, digest = _save(ready, monitor.best.weights, base, folder / "student")
    cut, depth = ready.vocabulary, ready.depth
    validated = validator.validate_kept(
        model,
        monitor.seconds,
        lambda done, total: context.tick(done, total, "validating the kept weights"),
    )
    if ready.labels:
        LabelAnswers(ready.labels, validated.temperature).write(folder / "student")
    student = Student(
        name=ready.chosen.name,
        path=str(folder / "student"),
        untouched_path=str(untouched),
        n_params=n_params,
        vocabulary=None if cut is None else (len(cut.ids), cut.n_before),
        layers=None if depth is None else (len(depth.layers), depth.n_before),
        depth_curve=() if depth is None else depth.curve,
        steps=n_steps,
        train_tokens=monitor.tokens,
        best_step=monitor.best.step,
        best_exact=best.exact,
        validation_loss=best.loss,
        validation_exact=validated.exact,
        n_validation_items=validated.n_items,
        n_validation_reused=validated.n_reused,
        n_choosing_items=validated.n_choosing,
        threads=pacer.threads,
        processes=pacer.processes,
        expected_seconds=pacer.expected_seconds,
        epochs=monitor.tokens / max(1, int(ready.data.lengths.sum())),
        curve=tuple(monitor.curve),
        weights_sha256=digest,
        seconds=monitor.seconds,
        cpu_seconds=monitor.cpu_seconds,
        n_resumed=monitor.n_resumed,
        cut_at_usd=context.ledger.cut_at_usd,
        content=content_of(course.config, ready.chosen),
        setup_seconds=time.monotonic() - began - (monitor.seconds - monitor.earlier_seconds),
    )
    return student if course.earlier is None else _following(student, course.earlier)


def _following(student: Student, earlier: Student) -> Student:
    """Return a student whose training followed that of another, with what both took."""
    expected = student.expected_seconds, earlier.expected_seconds
    threads = tuple((step + earlier.steps, number) for step, number in student.threads)
    return replace(
        student,
        steps=student.steps + earlier.steps,
        best_step=student.best_step + earlier.steps,
        train_tokens=student.train_tokens + earlier.train_tokens,
        epochs=(student.epochs or 0.0) + (earlier.epochs or 0.0),
        curve=(*earlier.curve, *student.curve),
        seconds=student.seconds + earlier.seconds,
        cpu_seconds=student.cpu_seconds + earlier.cpu_seconds,
        setup_seconds=student.setup_seconds + earlier.setup_seconds,
        expected_seconds=None if None in expected else sum(filter(None, expected)),
        n_resumed=student.n_resumed + earlier.n_resumed,
        threads=earlier.threads + threads,
    )


def _save(ready: Ready, weights: dict[str, Any], base: Path, folder: Path) -> tuple[Any, int, str]:
    """Write the student with its best weights; return it, its size and its weights' digest.

    Args:
        ready: the trained model.
        weights: that are kept; of adapters, those alone.
        base: folder of the weights that adapters were trained beside.
        folder: where the student goes.
    """
    model = ready.model
    if hasattr(model, "peft_config"):
        model.load_state_dict(weights, strict=False)
        weights = merged_weights(model)
    if not _is_plain(model):
        model = load_model(base, dtype="float32")
        if ready.vocabulary is not None and ready.depth is None:
            cut_model(model, ready.vocabulary)
        if ready.depth is not None:
            keep_layers(model, ready.depth.layers)
    model.load_state_dict(weights, strict=False)
    save_student(model.float().eval(), ready.tokenizer, folder)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return model, n_params, _digest(folder)


def _is_plain(model: Any) -> bool:
    """Return whether a model has neither adapters nor weights that are split over processes."""
    is_split = any(hasattr(weight, "full_tensor") for weight in model.parameters())
    return not is_split and not hasattr(model, "peft_config")


def _digest(folder: Path) -> str:
    """Return the digest of the weights in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()


def _planned(plan: Plan) -> str:
    """Say what the plan has for the training, and for which server."""
    for role in plan.roles_of("train"):
        if role.offer is not None and role.hours:
            return f"Planned: {about(3600 * role.hours)} on {role.offer.name}."
    return ""


def _smaller(students: Sequence[StudentConfig], n_params: int) -> tuple[tuple[str, float], ...]:
    """Return the smaller ones of some students, and the part of the time that each would take."""
    models = [student for student in students if student.is_lm]
    sizes = {student.name: _about_params(student) for student in models}
    shares = [(name, n / n_params) for name, n in sizes.items() if 0 < n < n_params]
    return tuple(sorted(shares, key=lambda share: -share[1]))


def _about_params(student: StudentConfig) -> int:
    """Return about how many parameters a student has; 0 where nobody knows."""
    if student.path is not None:
        return student.facts.get("n_params", 0)
    width = student.hidden_size
    block = 4 * width**2 + 3 * width * student.intermediate_size
    return student.n_layers * block + student.vocab_size * width


def _recipe(student: str, length: Length, rates: Rates, precision: str) -> str:
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


def _beginnings(loader: PackedLoader, ready: Ready, is_compiled: bool) -> Reason | None:
    """Return what comes of it that rows begin alike; None where they do not."""
    data = ready.data
    n_trained, n_computed = _computed(loader, ready, shares=True)
    if n_computed >= n_trained:
        return None
    if data.shares:
        return BeginningsShared(n_trained, n_computed, data.n_turns)
    return BeginningsApart(type(ready.model).__name__, is_compiled)


def _computed(loader: PackedLoader, ready: Ready, *, shares: bool | None = None) -> tuple[int, int]:
    """Return how many tokens the documents of the first row have, and how many it computes."""
    row, data = loader.corpus_row(0), ready.data
    conversations = data.conversations_of(row.document_ids_D)
    shares = data.shares if shares is None else shares
    shared = Row.of(row.texts, row.prompt_lengths.tolist(), shares, conversations)
    return row.n_trained, shared.tokens_N.numel()


def _price(config: Config, plan: Plan) -> tuple[float, str]:
    """Return what the servers that train cost together an hour, and whose price that is."""
    usd_per_hour = sum(
        (role.usd / role.hours if role.hours else 0.0) for role in plan.roles_of("train")
    )
    if JOB not in os.environ or (executor := config.executor).kind == "here":
        return usd_per_hour, "at the plan's price"
    if executor.usd_per_hour is not None:
        usd_per_hour = executor.usd_per_hour * config.trainer.num_nodes
    return usd_per_hour, "for the job's servers"


def _not_finite(error: Any, ready: Ready, folder: Path, checkpoint_every_steps: int) -> str:
    """Name the batch and say what to do."""
    items = ready.data.items[error.documents].tolist()
    shown = ", ".join(map(str, items[:8])) + (", …" if len(items) > 8 else "")
    checkpoints = checkpoints_in(folder / "checkpoints")
    if checkpoints:
        good = f"The last good checkpoint is kept: {checkpoints[0]}."
    else:
        every = counted(checkpoint_every_steps, "step")
        good = (
            f"There is no checkpoint yet: the first is made after {every} "
            "(callbacks.checkpoint_every_steps)."
        )
    return (
        f"{error}, on the batch of training items {shown} (rows of the corpus, from 0). {good} "
        "Lower trainer.lr_muon and trainer.lr_adamw, or raise trainer.warmup_steps, and give the "
        "command again: with other settings the training starts again."
    )
