"""One training in this process: prepare, set up, fit, and save the best weights.

The student and its corpus in tokens, the rows and the teacher's signal are set up first.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from stratos.config import Config, StudentConfig, TrainerConfig
from stratos.core.context import Context
from stratos.core.errors import StratosError, TeacherError
from stratos.core.formats import about, counted
from stratos.core.process import JOB
from stratos.core.reasons import Reason
from stratos.core.values import find, named
from stratos.distill.checkpoints import (
    Checkpoints,
    RandomStates,
    checkpoints_in,
    newest,
    note_unpaid_signal,
)
from stratos.distill.data import (
    Encoded,
    OnPolicyLoader,
    PackedLoader,
    conversations_in,
    encode,
    writer,
)
from stratos.distill.module import NotFinite, StudentModule
from stratos.distill.monitor import Average, TrainingMonitor, Watching
from stratos.distill.objectives import check_head
from stratos.distill.pace import Outlook, Pacer
from stratos.distill.packed import TOLERANCE, Row, check_packs, packs
from stratos.distill.signal.source import open_source
from stratos.distill.signal_config import SignalConfig
from stratos.distill.speedups import speedups
from stratos.distill.tokenizer import (
    add_adapters,
    checkpoint_blocks,
    make_student,
    merged_weights,
    save_student,
)
from stratos.distill.trainer import (
    Interrupts,
    Length,
    Rates,
    check_adapter,
    few_passes,
    interruptible,
    learning_rates,
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
    LayersRemoved,
    LayersUnknown,
    RowsTooLong,
    VocabularyCut,
)
from stratos.models.decode.label_scores import LabelAnswers
from stratos.models.pretrained import load_model
from stratos.models.pretrained.depth import Depth, fit_depth, keep_layers
from stratos.models.pretrained.vocabulary import (
    Vocabulary,
    cut_model,
    cut_tokenizer,
    model_vocabulary,
)
from stratos.models.students import content_of, ready
from stratos.records import Corpus, Plan, Student, corpus_rows
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import prefix_template
from stratos.teachers.base import SignalKind, Teacher
from stratos.teachers.prompting import chat, prompting


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
    checkpoint = newest(folder / "checkpoints", context.warn)
    has_twin = checkpoint is not None and (folder / "untouched").exists()
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
    with open_training(config, plan, ready, length, rates, context, rank, n_ranks) as training:
        if rank == 0:
            note_unpaid_signal(folder, context.ledger.cut_at_usd)
        module, loader = training
        if rank == 0 and (cut := ready.vocabulary):
            context.note(str(VocabularyCut(len(cut.ids), cut.n_before)))
        if rank == 0 and (depth := ready.depth):
            context.note(str(_layers(depth)))
        if rank == 0 and (note := _beginnings(loader, ready, settings.compile)):
            context.note(str(note))
        validator = Validator(
            config.task, config.callbacks, config.evaluate, ready.tokenizer, ready.labels
        )
        pacer, monitor = _callbacks(config, plan, ready, validator, length, loader, context)
        try:
            n_steps = _fit(settings, module, loader, pacer, monitor, checkpoint, folder)
        except NotFinite as error:
            every = config.callbacks.checkpoint_every_steps
            raise StratosError(_not_finite(error, ready, folder, every)) from error
    if rank:
        return None
    if settings.checkpointing:
        checkpoint_blocks(ready.model, False)
    content = content_of(config, ready.chosen)
    student = _student(ready, validator, pacer, monitor, n_steps, content, context, began)
    n_trained, n_computed = _computed(loader, ready)
    return replace(student, computed=min(1.0, n_computed / max(1, n_trained)))


def _callbacks(
    config: Config,
    plan: Plan,
    ready: Ready,
    validator: Validator,
    length: Length,
    loader: PackedLoader,
    context: Context,
) -> tuple[Pacer, TrainingMonitor]:
    settings, folder = config.trainer, context.run_dir / "distill"
    average = None if settings.ema is None else Average(settings.ema)
    sample = partial(context.sample, ready.chosen.name)
    measuring = Measuring(validator, ready.chosen.context_length, ready.data, sample)
    n_steps = loader.n_steps
    every = length.validate_every_steps(config.callbacks, n_steps)
    max_seconds = None if settings.max_time is None else seconds_of(settings.max_time)
    outlook = Outlook(
        student=ready.chosen.name,
        n_steps=n_steps,
        tokens_per_step=length.tokens / n_steps,
        n_validations=1 + (n_steps // every if every else 0),
        epochs=length.epochs,
        max_hours=config.limits.train_hours,
        deadline_hours=config.limits.deadline_hours,
        max_seconds=max_seconds,
        smaller=_smaller(config.students, ready.model.num_parameters()),
        passed_hours=context.spent_seconds / 3600,
        planned=_planned(plan),
    )
    pacer = Pacer(
        context,
        outlook,
        loader,
        measuring.foretell_seconds,
        folder / "pace.json",
        settings,
    )
    usd_per_hour, price = _price(config, plan)
    watching = Watching(
        n_steps=n_steps,
        validate_every_steps=every,
        callbacks=config.callbacks,
        max_seconds=max_seconds,
        usd_per_hour=usd_per_hour,
        price=price,
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
    ready: Ready,
    validator: Validator,
    pacer: Pacer,
    monitor: TrainingMonitor,
    n_steps: int,
    content: dict[str, str],
    context: Context,
    began: float,
) -> Student:
    """Save the best weights, and measure them once more on items that chose nothing."""
    folder = context.run_dir / "distill"
    best = monitor.best.measured
    assert best is not None
    model, n_params, digest = _save(ready, monitor.best.weights, folder)
    cut, depth = ready.vocabulary, ready.depth
    validated = validator.validate_kept(
        model,
        monitor.seconds,
        lambda done, total: context.tick(done, total, "validating the kept weights"),
    )
    if ready.labels:
        LabelAnswers(ready.labels, validated.temperature).write(folder / "student")
    return Student(
        name=ready.chosen.name,
        path=str(folder / "student"),
        untouched_path=str(folder / "untouched"),
        n_params=n_params,
        vocabulary=None if cut is None else (len(cut.ids), cut.n_before),
        layers=None if depth is None else (len(depth.layers), depth.n_before),
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
        content=content,
        setup_seconds=time.monotonic() - began - (monitor.seconds - monitor.earlier_seconds),
    )


def _save(ready: Ready, weights: dict[str, Any], folder: Path) -> tuple[Any, int, str]:
    """Write the student with its best weights; return it, its size and its weights' digest."""
    model = ready.model
    adapted = hasattr(model, "peft_config")
    if adapted:
        model.load_state_dict(weights, strict=False)
        weights = merged_weights(model)
    if adapted or any(hasattr(weight, "full_tensor") for weight in model.parameters()):
        model = load_model(folder / "untouched", dtype="float32")
        if ready.vocabulary is not None:
            cut_model(model, ready.vocabulary)
        if ready.depth is not None:
            keep_layers(model, ready.depth.layers)
    model.load_state_dict(weights, strict=False)
    save_student(model.float().eval(), ready.tokenizer, folder / "student")
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return model, n_params, _digest(folder / "student")


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


@dataclass(frozen=True)
class Ready:
    """The student before its training, and its corpus in tokens."""

    chosen: StudentConfig
    model: Any
    tokenizer: Any
    data: Any
    questions: list[str]
    labels: tuple[str, ...] = ()
    """Those that it learns to answer with, where each completion is one; else none."""
    vocabulary: Vocabulary | None = None
    """What stays of its own; None for the whole."""
    depth: Depth | None = None
    """Which of its layers stay; None where none was to go."""


def prepare(config: Config, plan: Plan, corpus: Corpus, context: Context, untouched: bool) -> Ready:
    """Make the student and tokenize the corpus; write its untouched twin if wanted."""
    settings = config.trainer
    chosen = named(config.students, plan.student)
    check_adapter(settings, [chosen])
    chosen = ready(chosen, context.cache_dir)
    instruction = config.task.system_prompt
    rows = list(corpus_rows(corpus.path))
    questions = [row.question for row in rows]
    completions = [row.completion for row in rows]
    context.tick(0, 1, f"loading {chosen.name}, and tokenizing")
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    shared = shared_tokens(signal, find(config.teachers, plan.teacher), chosen, config.task)
    chats = [config.task.student_messages(Item("", "", question, "")) for question in questions]
    model, tokenizer = make_student(
        chosen,
        config.task.vocabulary(),
        chain((message["content"] for chat in chats for message in chat), completions),
        config.seed,
        in_4_bits=settings.adapter == "qlora",
        tokenizer=None if shared is None else shared.tokenizer,
        instruction=instruction,
    )
    is_rounded = settings.adapter == "qlora"  # 4 bits round what they compute
    if chosen.path is not None and not is_rounded:
        check_packs(chosen.name, model)
    if chosen.path is not None:
        check_head(chosen.name, model)
    # Compiled, each length of a beginning would be another graph.
    tolerance = 0.05 if is_rounded else TOLERANCE
    shares = not settings.compile and packs(model, True, tolerance, evaluates=not is_rounded)
    if config.task.template_prefix:
        prefix_template(tokenizer, config.task.template_prefix)
    if shared is not None:
        # The teacher may end its answers with another token than its texts.
        model.generation_config.eos_token_id = list(shared.end_ids)
    if shared is not None and len(tokenizer) > chosen.vocab_size:
        n_embedded = len(tokenizer) * chosen.hidden_size
        context.warn(
            f"Student {chosen.name} uses the {len(tokenizer):,} tokens of its teacher, but was "
            f"planned with {chosen.vocab_size:,} (student.vocab_size), which is a smaller model: "
            f"{n_embedded:,} of its {model.num_parameters():,} parameters are embeddings."
        )
    if untouched:
        whole = model, tokenizer
        if settings.adapter == "qlora":
            whole = make_student(chosen, None, [], config.seed, instruction=instruction)
        save_student(*whole, context.run_dir / "distill" / "untouched")
    vocabulary = None
    if chosen.path is not None and chosen.fit.share is not None:
        texts = _task_texts(config, tokenizer, chats, completions)
        vocabulary = model_vocabulary(model, tokenizer, texts, chosen.fit.share)
        cut_model(model, vocabulary)
        tokenizer = cut_tokenizer(tokenizer, vocabulary)
    labels = config.task.all_labels if set(completions) <= {*config.task.all_labels} else ()
    depth = None
    if chosen.path is not None and chosen.fit.depth:

        def trying(done: int, total: int) -> None:
            context.tick(done, total, "removing layers")

        depth = fit_depth(config.task, model, tokenizer, labels, chosen.fit, trying)
    data, n_too_long = encode(tokenizer, chats, completions, chosen.context_length)
    conversations = conversations_in(data, [row.family for row in rows]) if shares else None
    data = replace(data, shares=shares, conversations=conversations)
    if n_too_long:
        context.warn(str(RowsTooLong(n_too_long)))
    model = add_adapters(model, settings, config.seed)
    if settings.checkpointing:
        checkpoint_blocks(model, True)
    return Ready(chosen, model, tokenizer, data, questions, labels, vocabulary, depth)


def _layers(depth: Depth) -> Reason:
    """Return how many layers went, or why none did."""
    n = depth.n_before
    if not depth.is_known:
        return LayersUnknown(n, depth.n_right, depth.n_rows, depth.n_by_chance)
    rights = depth.n_right, depth.n_right_before, depth.n_rows
    return LayersRemoved(len(depth.layers), n, *rights)


def _task_texts(
    config: Config, tokenizer: Any, chats: Sequence[list[Message]], completions: Sequence[str]
) -> list[str]:
    """Return what a student of a task reads and writes; never a test row."""
    task = config.task
    items = task.items("validation", config.callbacks.n_validation_read)
    prompts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in (*chats, *map(task.student_messages, items))
    ]
    answers = (*completions, *map(task.completion, items), *task.all_labels)
    return [*prompts, *answers, *(text + tokenizer.eos_token for text in answers)]


@contextmanager
def open_training(
    config: Config,
    plan: Plan,
    ready: Ready,
    length: Length,
    rates: Rates,
    context: Context,
    rank: int,
    n_ranks: int,
) -> Iterator[tuple[StudentModule, PackedLoader]]:
    """Open a module and the rows that it is trained on; the teacher is closed at the end.

    Args:
        config: the run.
        plan: names the strategy and the teacher.
        ready: the student, and the corpus in its tokens.
        length: how long to train.
        rates: learning rates.
        context: of the stage.
        rank: of this process.
        n_ranks: processes that train together.
    """
    trainer, data = config.trainer, ready.data
    shared: tuple[Any, ...] = (data, length.batch_tokens, length.tokens, config.seed)
    parts: dict[str, Any] = {"accumulate": trainer.accumulate, "rank": rank, "n_ranks": n_ranks}
    loader = PackedLoader(*shared, **parts)
    made = partial(StudentModule, ready.model, trainer, loader.n_steps, rates=rates)
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    if strategy is None or signal is None:
        yield made(), loader
        return
    teacher = find(config.teachers, plan.teacher)
    if teacher is None:
        raise TeacherError(f"The plan's teacher {plan.teacher} is not configured.")
    prompts = _teacher_prompts(config.task, plan.prompt, teacher, data, ready.questions)
    # Processes that train together would each decide for themselves, by what the others have spent.
    is_forced = len(config.strategies) == 1 or n_ranks > 1
    source = open_source(teacher, signal, ready.tokenizer, data, context, prompts, is_forced)
    try:
        if source.kind == "text":
            yield made(), loader
            return
        objective = signal.to_minimize()
        module = made(source, objective, signal.hidden_match)
        if (on_policy := strategy.on_policy) is not None:
            loader = OnPolicyLoader(
                *shared,
                **parts,
                write=writer(
                    module.learner,
                    ready.tokenizer,
                    on_policy.max_new_tokens or int((data.lengths - data.prompt_lengths).max()),
                    on_policy.temperature,
                    config.evaluate.batch_size,
                    config.evaluate.decoder,
                ),
                lmbda=on_policy.share,
                buffer_steps=on_policy.buffer_steps,
            )
        yield module, loader
    finally:
        source.close()


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, and the ids at which a text in it ends."""

    tokenizer: Any
    end_ids: tuple[int, ...]


def shared_tokens(
    signal: SignalConfig | None, teacher: Teacher | None, student: StudentConfig, task: Task
) -> Tokens | None:
    """Return the teacher's tokenizer where the student is to read in it, else None.

    A student of random weights, for a task without symbols of its own, may have any tokenizer. It
    takes that of a teacher whose distribution it is to learn token by token.
    """
    if signal is None or signal.reads_any_tokens:
        return None
    if student.path is not None or task.vocabulary() is not None:
        return None
    if teacher is None or teacher.signal is not SignalKind.WEIGHTS:
        return None
    tokenizer = copy.deepcopy(teacher.tokenizer())
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Tokens(tokenizer, teacher.end_ids())


def _teacher_prompts(
    task: Task, prompt: str, teacher: Any, data: Encoded, questions: list[str]
) -> list[np.ndarray] | None:
    """Return the prompts under which the teacher answered, None where they are the student's.

    A teacher that was shown examples is to score the answers that it gave with them in view.
    """
    tokenizer = teacher.tokenizer()
    if tokenizer is None:
        return None
    prompt = prompt or prompting(teacher, task).prompts[0]
    items = range(len(questions)) if data.items is None else data.items
    chats = [chat(task, Item("", "", questions[item], ""), prompt) for item in items]
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for messages in chats
    ]
    prompts = [
        np.array(ids, np.int64) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    same = all(np.array_equal(ids, data.prompt(index)) for index, ids in enumerate(prompts))
    return None if same else prompts
