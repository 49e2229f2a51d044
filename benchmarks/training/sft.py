r"""Plain fine-tuning beside TRL's SFTTrainer and a plain loop: tokens per CPU second.

    python benchmarks/training/sft.py
    python benchmarks/training/sft.py --student stratos_300k --dtype bfloat16 --keep

The same student, the same Mahjong items (prompt and completion, loss on the completion), fused
AdamW at a constant rate, one thread; about 4,096 tokens a step on all sides. TRL runs in two ways:
packed with `bfd`, which keeps documents whole but attends without a fast kernel on a CPU, a row of
1,024 tokens at a time, and without packing, documents of one length together, its best setting
here. The plain loop has the very documents of our steps, pads them, and takes transformers' own
loss: its losses are ours. Each case is a process of its own; ratios are medians over pairs of runs
that follow each other. The floor is the multiplications of a step, at the rate at which this
machine multiplies large matrices.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import record
from peers import Marks, reset_peak

BATCH_TOKENS, LENGTH = 4096, 1024
N_ITEMS = 8000
"""Enough for TRL to sort as many batches by length together as it does at most: 50."""
BODIES: dict[str, dict[str, Any]] = {
    "body_10m": {
        "name": "body_10m",
        "hidden_size": 256,
        "n_layers": 12,
        "n_heads": 4,
        "intermediate_size": 768,
    },
}
"""Larger bodies than those of conf/student, to see where the ratio goes."""


def make_student(settings: argparse.Namespace) -> tuple[Any, Any]:
    """Return the student of a YAML with its tokenizer."""
    import yaml

    from stratos.config import StudentConfig
    from stratos.distill.tokenizer import make_student as make
    from stratos.tasks.mahjong import MahjongTask

    facts = BODIES.get(settings.student)
    if facts is None:
        path = record.ROOT / "conf" / "student" / f"{settings.student}.yaml"
        facts = yaml.safe_load(path.read_text())
        facts.pop("runs", None)
    return make(StudentConfig(**facts), MahjongTask().vocabulary(), [], 0)


def make_texts(settings: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return chats and completions, enough for all steps."""
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    items = list(task.reverse(max(N_ITEMS, settings.steps * 60)))
    return [task.student_messages(item) for item in items], [task.completion(i) for i in items]


def rows_of(settings: argparse.Namespace, tokenizer: Any) -> tuple[Any, Any]:
    """Return the encoded documents, and the loader that packs them."""
    from stratos.distill.data import PackedLoader, encode

    data, _ = encode(tokenizer, *make_texts(settings), LENGTH)
    return data, PackedLoader(data, BATCH_TOKENS, BATCH_TOKENS * settings.steps, 0)


def stratos(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with our module, loader and trainer."""
    model, tokenizer = make_student(settings)
    _, rows = rows_of(settings, tokenizer)
    config, before = peers.trainer_config(settings.dtype), reset_peak()
    marks, sizes = peers.ours(model, config, settings.steps, rows, Path(settings.folder))
    return marks.result(sizes, before)


def trl_packed(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL's packing, which keeps documents whole (`bfd`)."""
    rows = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return trl(settings, packing=True, packing_strategy="bfd", **rows)


def trl_sorted(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL without packing, documents of one length together: little padding."""
    data, _ = rows_of(settings, make_student(settings)[1])
    n = max(1, round(BATCH_TOKENS / float(data.lengths.mean())))
    sampling = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": n}
    return trl(settings, packing=False, **sampling)


def trl(settings: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """Train with TRL's SFTTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = make_student(settings)
    chats, completions = make_texts(settings)
    rows = {
        "prompt": chats,
        "completion": [[{"role": "assistant", "content": text}] for text in completions],
    }
    marks, sizes = Marks(), []

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.step()

    class Counted(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
            mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
            sizes.append(int((ids != tokenizer.pad_token_id if mask is None else mask).sum()))
            return super().training_step(model, inputs, *more)

    config = SFTConfig(
        output_dir=str(Path(settings.folder) / "trl"),
        max_length=LENGTH,
        max_steps=settings.steps,
        logging_steps=settings.steps,
        bf16=settings.dtype == "bfloat16",
        **peers.TRAINER,
        **options,
    )
    before = reset_peak()
    trainer = Counted(
        model=model,
        args=config,
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
        callbacks=[Mark()],
    )
    trainer.train()
    marks.losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    n = options.get("gradient_accumulation_steps", 1)
    return marks.result([sum(sizes[i : i + n]) for i in range(0, len(sizes), n)], before)


def plain_loop(settings: argparse.Namespace) -> dict[str, Any]:
    """Train in a plain loop: our steps' documents, padded, transformers' own loss."""
    import torch

    model, tokenizer = make_student(settings)
    data, loader = rows_of(settings, tokenizer)
    sizes = []

    def losses() -> Iterator[Callable[[], Any]]:
        for step in range(settings.steps):
            documents = loader.documents(step).tolist()
            texts = [torch.as_tensor(data.text(i).astype("int64")) for i in documents]
            ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
            positions = torch.arange(ids.shape[1])
            lengths = torch.tensor([len(text) for text in texts])
            prompts = torch.tensor([int(data.prompt_lengths[i]) for i in documents])
            is_learned = (positions < lengths[:, None]) & (positions >= prompts[:, None])
            labels = ids.masked_fill(~is_learned, -100)
            sizes.append(int(lengths.sum()))
            # Nothing attends to the padding, which comes later: no mask is needed.
            yield lambda ids=ids, labels=labels: model(input_ids=ids, labels=labels).loss

    before = reset_peak()
    return peers.loop(model, settings.dtype, losses()).result(sizes, before)


def floor(settings: argparse.Namespace) -> tuple[float, float]:
    """Return multiply-adds' FLOPs of a token, and FLOPs a second of a large product here."""
    import torch

    model, _ = make_student(settings)
    config = model.config
    inside = sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2)
    # Forward 2, backward 4 FLOPs a weight. The head sees the learned half; attention is causal.
    head = config.vocab_size * config.hidden_size * 0.9
    attention = config.num_hidden_layers * 2 * config.hidden_size * 180 / 2
    a, b = torch.randn(2, 2048, 2048).to(getattr(torch, settings.dtype)).unbind()
    a @ b
    start = time.process_time()
    for _ in range(5):
        a @ b
    rate = 5 * 2 * 2048**3 / (time.process_time() - start)
    return 6.0 * (inside + head + attention), rate


CASES: dict[str, peers.Case] = {
    "stratos": stratos,
    "trl packed": trl_packed,
    "trl sorted": trl_sorted,
    "plain loop": plain_loop,
}


def compare(student: str, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all cases of one student in turn; return what they showed."""
    with tempfile.TemporaryDirectory() as folder:
        settings = argparse.Namespace(
            student=student, dtype=dtype, steps=options.steps, folder=folder
        )
        measured = peers.compared(CASES, settings, options.runs)
    flops, rate = floor(settings)
    shares = {case: row["tokens_per_s"] * flops / rate for case, row in measured["median"].items()}
    return {
        "flops_per_token": flops, "flops_per_s": rate, "share_of_floor": shares, **measured
    }  # fmt: skip


def main() -> None:
    """Measure the students."""
    parser = peers.arguments(__doc__)
    students = ["stratos_300k", "stratos_1m", "stratos_3m", *BODIES]
    parser.add_argument("--student", nargs="+", default=students)
    parser.add_argument("--steps", type=int, default=10)
    options = peers.enter(parser)
    from trl import SFTTrainer  # noqa: F401

    result = {
        f"{student}, {dtype}": compare(student, dtype, options)
        for student in options.student
        for dtype in options.dtype
    }
    record.finish("distillation/sft", result, options, seed=0)


if __name__ == "__main__":
    main()
