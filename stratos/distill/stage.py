"""The distill stage: corpus in, student out; a killed training goes on from its last checkpoint."""

from __future__ import annotations

import hashlib
import logging
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.config import Config
from stratos.context import Context
from stratos.records import Corpus, Plan, Student

if TYPE_CHECKING:
    pass


def distill(config: Config, plan: Plan, corpus: Corpus, context: Context) -> Student:
    """Train the planned student on the corpus.

    The training goes on from the last checkpoint in the run folder if that was made from the same
    inputs (`context.fingerprint`), and ends with the same weights as one that was never stopped.
    """
    import lightning as L
    import pyarrow.parquet as pq
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from safetensors.torch import load_file

    from stratos.distill.callbacks import RandomStates, Watch
    from stratos.distill.data import PackedLoader, encode
    from stratos.distill.model import make_student, save_student
    from stratos.distill.module import TextModule

    chosen = next(student for student in config.students if student.name == plan.student)
    folder = context.run_dir / "distill"
    folder.mkdir(parents=True, exist_ok=True)
    if config.trainer.n_threads:
        torch.set_num_threads(config.trainer.n_threads)
    L.seed_everything(config.seed, verbose=False)

    rows = pq.read_table(corpus.path, columns=["question", "completion"]).to_pydict()
    questions, completions = rows["question"], rows["completion"]
    context.tick(0, 1, "tokenizing")
    model, tokenizer = make_student(chosen, config.task.vocabulary(), completions, config.seed)
    data, n_too_long = encode(
        tokenizer,
        [_student_chat(config, question) for question in questions],
        completions,
        chosen.context_length,
    )
    if n_too_long:
        context.warn(f"{n_too_long} training items are longer than the student's context: left out")
    loader = PackedLoader(
        data,
        config.trainer.batch_tokens,
        config.trainer.max_tokens or chosen.train_tokens,
        config.seed,
    )
    untouched, best = folder / "untouched", folder / "best.safetensors"
    checkpoint = _checkpoint(folder, context)
    if checkpoint is None:
        save_student(model, tokenizer, untouched)

    watch = Watch(
        context,
        len(loader),
        _validator(config, tokenizer),
        config.callbacks.validate_every_steps,
        config.callbacks.stop_at_exact,
        best,
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
    with _quiet_lightning():
        trainer = L.Trainer(
            max_steps=len(loader),
            max_epochs=-1,
            accelerator=config.trainer.accelerator,
            devices=config.trainer.devices,
            precision=_precision(config.trainer.precision, config.trainer.accelerator),
            gradient_clip_val=config.trainer.clip_norm,
            callbacks=[watch, RandomStates(), keep],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        module = TextModule(model, config.trainer, len(loader))
        with _interruptible():
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=False)

    model.load_state_dict(load_file(best), strict=False)
    model = model.float().eval()
    student_folder = folder / "student"
    save_student(model, tokenizer, student_folder)
    weights = (student_folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Student(
        name=chosen.name,
        path=str(student_folder),
        untouched_path=str(untouched),
        n_params=sum(parameter.numel() for parameter in model.parameters()),
        steps=trainer.global_step,
        train_tokens=watch.tokens,
        best_step=watch.best_step,
        validation_exact=watch.best_exact,
        curve=tuple(watch.curve),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        seconds=watch.seconds,
        cpu_seconds=watch.cpu_seconds,
        n_resumed=watch.n_resumed,
    )


def _student_chat(config: Config, question: str) -> list[dict[str, str]]:
    from stratos.tasks.base import Item

    return config.task.student_messages(Item("", "", question, ""))


def _checkpoint(folder: Path, context: Context) -> Path | None:
    """Return the checkpoint to go on from; one that was made from other inputs is removed."""
    inputs, checkpoints = folder / "inputs.txt", folder / "checkpoints"
    if not inputs.exists() or inputs.read_text() != context.fingerprint:
        shutil.rmtree(checkpoints, ignore_errors=True)
        (folder / "best.safetensors").unlink(missing_ok=True)
        inputs.write_text(context.fingerprint)
    found = sorted(checkpoints.glob("step-*.ckpt"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _validator(config: Config, tokenizer: Any) -> Any:
    """Return a function that measures exact match of a model on validation items."""
    from stratos.evaluate.generate import complete

    items = config.task.items("validation", config.callbacks.n_validation_items)

    def validate(model: Any) -> float:
        completions = complete(
            model,
            tokenizer,
            [config.task.student_messages(item) for item in items],
            max_new_tokens=min(
                config.evaluate.max_new_tokens, model.config.max_position_embeddings - 64
            ),
            batch_size=config.evaluate.batch_size,
        )
        scores = [
            config.task.score(completion.text, item).exact
            for completion, item in zip(completions, items, strict=True)
        ]
        return sum(scores) / len(scores)

    return validate


def _precision(precision: str, accelerator: str) -> Any:
    """Return Lightning's name of a precision; `auto` is bf16 where the machine gains from it.

    A CPU gains where it multiplies bf16 in hardware; elsewhere it only emulates it.
    """
    import torch

    if precision == "auto":
        gpu = accelerator != "cpu" and torch.cuda.is_available()
        cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precision = "bf16" if (torch.cuda.is_bf16_supported() if gpu else cpu) else "fp32"
    return {"bf16": "bf16-mixed", "fp32": "32-true"}[precision]


@contextmanager
def _interruptible() -> Iterator[None]:
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
def _quiet_lightning() -> Iterator[None]:
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
