"""The distill stage: corpus in, student out; a killed training goes on from its last checkpoint."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.config import Config, StudentConfig
from stratos.context import Context
from stratos.errors import StratosError
from stratos.records import Corpus, Plan, Student
from stratos.words import counted

_CUT = "cut_at_usd.txt"
"""Beside checkpoints of a training whose signal there was no money for: at which cap that was."""


def distill(config: Config, plan: Plan, corpus: Corpus, context: Context) -> Student:
    """Train the planned student on the corpus.

    The training goes on from the last checkpoint in the run folder if that was made from the same
    inputs (`context.fingerprint`), and ends with the same weights as one that was never stopped.
    Several devices are several processes, which this one starts and listens to.
    """
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
        trained = train(config, plan, corpus, context)
        assert trained is not None
        student = trained
    for left_over in ("checkpoints", "checkpoints.other"):
        shutil.rmtree(folder / left_over, ignore_errors=True)
    return student


def train(
    config: Config, plan: Plan, corpus: Corpus, context: Context, rank: int = 0, n_ranks: int = 1
) -> Student | None:
    """Train in this process, which is one of `n_ranks`; the first returns the student."""
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    from stratos.distill.adapter import checkpoint_blocks
    from stratos.distill.average import Average
    from stratos.distill.callbacks import RandomStates, Watch, Watching
    from stratos.distill.lesson import open_lesson
    from stratos.distill.module import NotFinite
    from stratos.distill.trainer import (
        interruptible,
        make_trainer,
        quiet_lightning,
        seconds_of,
    )

    settings, folder = config.trainer, context.run_dir / "distill"
    if settings.n_threads:
        torch.set_num_threads(settings.n_threads)
    L.seed_everything(config.seed, verbose=False)
    checkpoint = _checkpoint(folder, context.fingerprint)
    ready = _prepare(config, plan, corpus, context, untouched=rank == 0 and checkpoint is None)
    opened = open_lesson(
        config,
        plan,
        ready.model,
        ready.tokenizer,
        ready.data,
        ready.questions,
        settings.max_tokens or ready.chosen.train_tokens,
        context,
        rank,
        n_ranks,
    )
    with opened as lesson:
        if rank == 0:
            _note_cut(folder, context.ledger.cut_at_usd)
        average = None if settings.ema is None else Average(settings.ema)
        watch = Watch(
            context,
            Watching(
                lesson.loader.n_steps,
                config.callbacks.validate_every_steps,
                config.callbacks.stop_at_exact,
                None if settings.max_time is None else seconds_of(settings.max_time),
                _usd_per_hour(plan),
            ),
            _validator(config, ready.tokenizer),
            folder / "best.safetensors",
            average,
        )
        keep = ModelCheckpoint(
            dirpath=folder / "checkpoints",
            filename="step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=config.callbacks.checkpoint_every_steps,
            save_top_k=1,
            monitor=None,
            enable_version_counter=False,
        )
        averages = [] if average is None else [average]
        callbacks = [*averages, watch, RandomStates(), keep]
        with quiet_lightning():
            trainer = make_trainer(settings, lesson.loader.n_steps, callbacks, folder)
            try:
                with interruptible():
                    trainer.fit(
                        lesson.module, lesson.loader, ckpt_path=checkpoint, weights_only=False
                    )
            except NotFinite as error:
                raise StratosError(_not_finite(error, ready, folder, config)) from error
    if rank:
        return None
    if settings.checkpointing:
        checkpoint_blocks(ready.model, False)
    path, n_params, digest = _save(ready, folder)
    return Student(
        name=ready.chosen.name,
        path=str(path),
        untouched_path=str(folder / "untouched"),
        n_params=n_params,
        steps=trainer.global_step,
        train_tokens=watch.tokens,
        best_step=watch.best_step,
        validation_exact=watch.best_exact,
        curve=tuple(watch.curve),
        weights_sha256=digest,
        seconds=watch.seconds,
        cpu_seconds=watch.cpu_seconds,
        n_resumed=watch.n_resumed,
        cut_at_usd=context.ledger.cut_at_usd,
    )


@dataclass(frozen=True)
class _Ready:
    """The student before its training, and its corpus in tokens."""

    chosen: StudentConfig
    model: Any
    tokenizer: Any
    data: Any
    questions: list[str]


def _prepare(
    config: Config, plan: Plan, corpus: Corpus, context: Context, untouched: bool
) -> _Ready:
    """Make the student and tokenize the corpus; write its untouched twin if wanted."""
    import pyarrow.parquet as pq

    from stratos.distill.adapter import add_adapters, checkpoint_blocks
    from stratos.distill.data import encode
    from stratos.distill.lesson import shared_tokens
    from stratos.distill.model import make_student, save_student
    from stratos.distill.trainer import check_adapter

    settings = config.trainer
    chosen = next(student for student in config.students if student.name == plan.student)
    check_adapter(settings, [chosen])
    rows = pq.read_table(corpus.path, columns=["question", "completion"]).to_pydict()
    questions, completions = rows["question"], rows["completion"]
    context.tick(0, 1, "tokenizing")
    taken = shared_tokens(config, plan, chosen)
    model, tokenizer = make_student(
        chosen,
        config.task.vocabulary(),
        completions,
        config.seed,
        in_4_bits=settings.adapter == "qlora",
        tokenizer=None if taken is None else taken.tokenizer,
    )
    if taken is not None:
        # The teacher may end its answers with another token than its texts.
        model.generation_config.eos_token_id = list(taken.end_ids)
    if taken is not None and len(tokenizer) > chosen.vocab_size:
        n_embedded = len(tokenizer) * chosen.hidden_size
        context.warn(
            f"Student {chosen.name} reads in the {len(tokenizer):,} tokens of its teacher, and was "
            f"planned with {chosen.vocab_size:,} (student.vocab_size), as a smaller model: "
            f"{n_embedded:,} of its {model.num_parameters():,} parameters are embeddings."
        )
    data, n_too_long = encode(
        tokenizer,
        [_student_chat(config, question) for question in questions],
        completions,
        chosen.context_length,
    )
    if n_too_long:
        context.warn(
            f"{counted(n_too_long, 'training item is', 'training items are')} longer than the "
            "student's context: left out"
        )
    if untouched:
        whole = model, tokenizer
        if settings.adapter == "qlora":
            whole = make_student(chosen, None, [], config.seed)
        save_student(*whole, context.run_dir / "distill" / "untouched")
    model = add_adapters(model, settings, config.seed)
    if settings.checkpointing:
        checkpoint_blocks(model, True)
    return _Ready(chosen, model, tokenizer, data, questions)


def _save(ready: _Ready, folder: Path) -> tuple[Path, int, str]:
    """Write the student with its best weights; return its folder, size, and digest of weights."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from stratos.distill.adapter import merged_weights
    from stratos.distill.model import save_student

    model, weights = ready.model, load_file(folder / "best.safetensors")
    adapted = hasattr(model, "peft_config")
    if adapted:
        model.load_state_dict(weights, strict=False)
        weights = merged_weights(model)
    if adapted or any(hasattr(weight, "full_tensor") for weight in model.parameters()):
        model = AutoModelForCausalLM.from_pretrained(folder / "untouched", dtype="float32")
    model.load_state_dict(weights, strict=False)
    save_student(model.float().eval(), ready.tokenizer, folder / "student")
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return folder / "student", n_params, _digest(folder / "student")


def _digest(folder: Path) -> str:
    """Return the digest of the weights in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()


def _student_chat(config: Config, question: str) -> list[dict[str, str]]:
    from stratos.tasks.base import Item

    return config.task.student_messages(Item("", "", question, ""))


def _checkpoint(folder: Path, fingerprint: str) -> Path | None:
    """Return the checkpoint to go on from, which was made from the same inputs."""
    inputs, checkpoints = folder / "inputs.txt", folder / "checkpoints"
    if not inputs.exists() or inputs.read_text() != fingerprint:
        return None
    found = sorted(checkpoints.glob("step-*.ckpt"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _make_way(folder: Path, context: Context) -> None:
    """Put a checkpoint that was made from other inputs aside, and note those of this training."""
    inputs, checkpoints, aside = (
        folder / name for name in ("inputs.txt", "checkpoints", "checkpoints.other")
    )
    why = "by another config or corpus"
    if inputs.exists() and inputs.read_text() == context.fingerprint:
        if not _may_learn_more(folder, context.ledger.cap_usd()):
            return
        why = "from the text alone, for want of money that may be there now"
    if any(checkpoints.glob("step-*.ckpt")):
        shutil.rmtree(aside, ignore_errors=True)
        checkpoints.replace(aside)
        context.warn(
            f"The checkpoint in {checkpoints} was made {why}: it lies in {aside} now, and the "
            "training starts anew"
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    (folder / "best.safetensors").unlink(missing_ok=True)
    inputs.write_text(context.fingerprint)


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


def _usd_per_hour(plan: Plan) -> float:
    """Return what the planned training servers cost together."""
    return sum((role.usd / role.hours if role.hours else 0.0) for role in plan.roles_of("train"))


def _not_finite(error: Any, ready: _Ready, folder: Path, config: Config) -> str:
    """Name the batch and say what to do."""
    items = ready.data.items[error.documents].tolist()
    shown = ", ".join(map(str, items[:8])) + (", …" if len(items) > 8 else "")
    kept = sorted((folder / "checkpoints").glob("step-*.ckpt"))
    if kept:
        good = f"The last good checkpoint is kept: {kept[-1]}."
    else:
        every = counted(config.callbacks.checkpoint_every_steps, "step")
        good = (
            f"There is no checkpoint yet: the first is made after {every} "
            "(callbacks.checkpoint_every_steps)."
        )
    return (
        f"{error}, on the batch of training items {shown} (rows of the corpus, from 0). {good} "
        "Lower trainer.lr_muon and trainer.lr_adamw, or raise trainer.warmup_steps, and give the "
        "command again: with other settings the training starts anew."
    )


def _validator(config: Config, tokenizer: Any) -> Callable[[Any], float]:
    """Return a function that measures exact match of a model on validation items."""
    from stratos.evaluate.generate import complete

    items = config.task.items("validation", config.callbacks.n_validation_items)

    def validate(model: Any) -> float:
        completions = complete(
            model,
            tokenizer,
            [config.task.student_messages(item) for item in items],
            max_new_tokens=config.evaluate.max_new_tokens,
            batch_size=config.evaluate.batch_size,
        )
        scores = [
            config.task.score(completion.text, item).exact
            for completion, item in zip(completions, items, strict=True)
        ]
        return sum(scores) / len(scores)

    return validate
