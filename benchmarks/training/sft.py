r"""Plain fine-tuning beside TRL's SFTTrainer and a plain loop: tokens per CPU second.

    python benchmarks/training/sft.py
    python benchmarks/training/sft.py --student stratos_300k --dtype bfloat16

The same student, the same Mahjong items (prompt and completion, loss on the completion), fused
AdamW at a constant rate, one thread; about 4,096 tokens a step on all sides. TRL runs in two ways:
packed with `bfd`, which keeps documents whole but attends without a fast kernel on a CPU, a row of
1,024 tokens at a time, and without packing, documents of one length together, its best setting
here. The plain loop has the very documents of our steps, pads them, and takes transformers' own
loss: its losses are ours. Each case is a process of its own; ratios are medians over pairs of runs
that follow each other. The last line holds the speed against the floor: the multiplications of a
step, at the rate at which this machine multiplies large matrices. `--compiled` adds our module with
trainer.compile, which compiles anew in most of so few steps.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import step
from head_peers import enter_peers
from step import RATE, Marks, cpu_seconds, reset_peak

ROOT = Path(__file__).resolve().parents[2]
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
    from stratos.distill.student_model import make_student as make
    from stratos.tasks.mahjong import MahjongTask

    if settings.student in BODIES:
        student = BODIES[settings.student]
    else:
        path = ROOT / "conf" / "student" / f"{settings.student}.yaml"
        plain = yaml.safe_load(path.read_text())
        plain.pop("runs", None)
        student = plain
    return make(StudentConfig(**student), MahjongTask().vocabulary(), [], 0)


def make_texts(settings: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return chats and completions, enough for all steps."""
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    items = list(task.reverse(max(N_ITEMS, settings.steps * 60)))
    return [task.student_messages(item) for item in items], [task.completion(i) for i in items]


def compiled(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with our module, its body compiled."""
    return stratos(settings, True)


def stratos(settings: argparse.Namespace, compiled: bool = False) -> dict[str, Any]:
    """Train with our module, loader and trainer."""
    import lightning as L
    import torch

    from stratos.config import TrainerConfig
    from stratos.distill.data import PackedLoader, encode
    from stratos.distill.module import StudentModule
    from stratos.distill.trainer import make_trainer, quiet_lightning

    model, tokenizer = make_student(settings)
    data, _ = encode(tokenizer, *make_texts(settings), LENGTH)
    marks, sizes = Marks(), []

    class Module(StudentModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    class Mark(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            marks.losses.append(float(outputs["loss"]))
            sizes.append(outputs["tokens"])
            marks.times.append(cpu_seconds())

    config = TrainerConfig(
        precision="bf16" if settings.dtype == "bfloat16" else "fp32",
        accelerator="cpu",
        compile=compiled,
    )
    loader = PackedLoader(data, BATCH_TOKENS, BATCH_TOKENS * settings.steps, 0)
    before = reset_peak()
    with quiet_lightning():
        trainer = make_trainer(config, settings.steps, [Mark()], Path(settings.folder) / "stratos")
        trainer.fit(Module(model, config, settings.steps), loader)
    return marks.result(sizes, before)


def trl_packed(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL's packing, which keeps documents whole (`bfd`)."""
    rows = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return trl(settings, packing=True, packing_strategy="bfd", **rows)


def trl_sorted(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL without packing, documents of one length together: little padding."""
    n = documents_per_step(settings)
    return trl(
        settings,
        packing=False,
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=n,
    )


def documents_per_step(settings: argparse.Namespace) -> int:
    """Return how many documents have about the tokens of a step."""
    from stratos.distill.data import encode

    _, tokenizer = make_student(settings)
    data, _ = encode(tokenizer, *make_texts(settings), LENGTH)
    return max(1, round(BATCH_TOKENS / float(data.lengths.mean())))


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
            marks.times.append(cpu_seconds())

    class Counted(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *given: Any) -> Any:
            mask = inputs.get("attention_mask")
            ids = inputs["input_ids"]
            padding = int((ids == tokenizer.pad_token_id).sum()) if mask is None else 0
            sizes.append(ids.numel() - padding if mask is None else int(mask.sum()))
            return super().training_step(model, inputs, *given)

    config = SFTConfig(
        output_dir=str(Path(settings.folder) / "trl"),
        max_length=LENGTH,
        max_steps=settings.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch_fused",
        logging_steps=settings.steps,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=settings.dtype == "bfloat16",
        gradient_checkpointing=False,
        disable_tqdm=True,
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
    import contextlib

    import torch

    from stratos.distill.data import PackedLoader, encode

    model, tokenizer = make_student(settings)
    data, _ = encode(tokenizer, *make_texts(settings), LENGTH)
    marks, sizes = Marks(), []
    loader = PackedLoader(data, BATCH_TOKENS, BATCH_TOKENS * settings.steps, 0)
    if settings.dtype == "bfloat16":
        precision: Any = torch.autocast("cpu", torch.bfloat16)
    else:
        precision = contextlib.nullcontext()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    before = reset_peak()
    for turn in range(settings.steps):
        documents = loader.documents(turn).tolist()
        texts = [torch.as_tensor(data.text(i).astype("int64")) for i in documents]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        places = torch.arange(ids.shape[1])
        lengths = torch.tensor([len(text) for text in texts])
        mask = places < lengths[:, None]
        prompts = torch.tensor([int(data.prompt_lengths[i]) for i in documents])
        labels = ids.masked_fill(~mask | (places < prompts[:, None]), -100)
        with precision:
            # Nothing attends to the padding, which comes later: no mask is needed.
            loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        marks.losses.append(loss.item())
        sizes.append(int(lengths.sum()))
        marks.times.append(cpu_seconds())
    return marks.result(sizes, before)


def floor(settings: argparse.Namespace) -> tuple[float, float]:
    """Return multiply-adds' FLOPs of a token, and FLOPs a second of a large product here."""
    import torch

    model, _ = make_student(settings)
    config = model.config
    inside = sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2)
    # Forward 2, backward 4 FLOPs a weight. The head sees the learned half; attention is causal.
    head = config.vocab_size * config.hidden_size * 0.9
    attention = config.num_hidden_layers * 2 * config.hidden_size * 180 / 2
    dtype = getattr(torch, settings.dtype)
    a, b = torch.randn(2, 2048, 2048).to(dtype).unbind()
    a @ b
    start = time.process_time()
    for _ in range(5):
        a @ b
    rate = 5 * 2 * 2048**3 / (time.process_time() - start)
    return 6.0 * (inside + head + attention), rate


CASES = {
    "stratos": stratos,
    "trl packed": trl_packed,
    "trl sorted": trl_sorted,
    "plain loop": plain_loop,
}


def compare(settings: argparse.Namespace) -> dict[str, Any]:
    """Run all cases of one student in turn; return what they showed."""
    cases = CASES | ({"compiled": compiled} if settings.compiled else {})
    results: dict[str, list[Any]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        settings.folder = folder
        for _ in range(settings.runs):
            for case, train in cases.items():
                results[case].append(step.forked(train, settings))
    flops, rate = floor(settings)
    speed = {
        case: statistics.median(run["tokens_per_s"] for run in runs)
        for case, runs in results.items()
    }
    return {
        "runs": results,
        "flops_per_token": flops,
        "flops_per_s": rate,
        "share_of_floor": {case: one * flops / rate for case, one in speed.items()},
    } | step.ratios(results)


def main() -> None:
    """Measure the students and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students = ["stratos_300k", "stratos_1m", "stratos_3m", *BODIES]
    parser.add_argument("--student", nargs="+", default=students)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="with trainer.compile, too")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    enter_peers(options.peers.resolve())
    import torch
    from record import keep
    from trl import SFTTrainer  # noqa: F401

    sys.path.insert(0, str(ROOT))
    importlib.import_module("stratos.distill.module")
    torch.set_num_threads(1)
    found = {}
    for student in options.student:
        for dtype in options.dtype:
            name = f"{student}, {dtype}"
            given = {"student": student, "dtype": dtype}
            found[name] = compare(argparse.Namespace(**{**vars(options), **given}))
            show(name, found[name])
    if options.keep:
        keep("distillation/sft", found, seed=0)


def show(name: str, found: dict[str, Any]) -> None:
    """Print one student."""
    print(f"{name}: {found['flops_per_token'] / 1e6:.1f} MFLOP a token")
    print("case         tokens/CPU s    MiB   ours is   of the floor   last loss")
    for case, one in found["median"].items():
        print(
            f"{case:11} {one['tokens_per_s']:13,.0f} {one['mib']:6.0f} "
            f"{found['stratos_times_as_fast_as'][case]:8.2f}x "
            f"{found['share_of_floor'][case]:13.0%} {found['runs'][case][0]['losses'][-1]:11.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
