r"""Plain fine-tuning beside TRL's SFTTrainer with packing: tokens per CPU second.

    python benchmarks/distillation/sft.py
    python benchmarks/distillation/sft.py --student stratos_300k --dtype bfloat16

The same student, the same Mahjong items (prompt and completion, loss on the completion), AdamW at a
constant rate, one thread; about 4,096 tokens a step on both sides. TRL packs with `bfd`, which
keeps documents whole. Each case is a process of its own. The last lines hold the speed against the
floor: the multiplications of a step, at the rate at which this machine multiplies large matrices.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import step
from head_peers import enter_peers
from step import RATE, WARM_UP, Marks, cpu_seconds, reset_peak

ROOT = Path(__file__).resolve().parents[2]
BATCH_TOKENS, LENGTH = 4096, 1024


def make_student(settings: argparse.Namespace) -> tuple[Any, Any]:
    """Return the student of a YAML with its tokenizer."""
    import yaml

    from stratos.config import StudentConfig
    from stratos.distill.model import make_student as make
    from stratos.tasks.mahjong import MahjongTask

    plain = yaml.safe_load((ROOT / "conf" / "student" / f"{settings.student}.yaml").read_text())
    plain.pop("runs")
    return make(StudentConfig(**plain), MahjongTask().vocabulary(), [], 0)


def make_texts(settings: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return chats and completions, enough for all steps."""
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    items = list(task.reverse(settings.steps * 60))
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
    from stratos.distill.module import TextModule
    from stratos.distill.trainer import make_trainer, quiet_lightning

    model, tokenizer = make_student(settings)
    data, _ = encode(tokenizer, *make_texts(settings), LENGTH)
    marks, sizes = Marks(), []

    class Module(TextModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0)

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


def trl(settings: argparse.Namespace) -> dict[str, Any]:
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
        per_device_train_batch_size=BATCH_TOKENS // LENGTH,
        max_length=LENGTH,
        packing=True,
        packing_strategy="bfd",
        max_steps=settings.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=settings.dtype == "bfloat16",
        gradient_checkpointing=False,
        disable_tqdm=True,
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


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="stratos_1m")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="and with trainer.compile=true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    enter_peers(settings.peers.resolve())
    import torch
    import trl as peer
    from trl import SFTTrainer  # noqa: F401

    sys.path.insert(0, str(ROOT))
    importlib.import_module("stratos.distill.module")

    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; torch "
        f"{torch.__version__}, trl {peer.__version__}; {settings.student}, {settings.dtype}, "
        f"steps {WARM_UP + 1} to {settings.steps} of about {BATCH_TOKENS} tokens"
    )
    cases = {"stratos": stratos, "trl SFT": trl}
    if settings.compile:
        cases["compiled"] = compiled
    results: dict[str, list[Any]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        settings.folder = folder
        for _ in range(settings.runs):
            for case, train in cases.items():
                results[case].append(step.forked(train, settings))
    flops, rate = floor(settings)
    theirs = max(run["tokens_per_s"] for run in results["trl SFT"])
    print("case      tokens/CPU s   ratio    MiB   first loss   last loss   of the floor")
    for case, runs in results.items():
        best = max(runs, key=lambda run: run["tokens_per_s"])
        speed = best["tokens_per_s"]
        print(
            f"{case:9} {speed:12,.0f} {speed / theirs:6.2f}x {best['mib']:6.0f} "
            f"{best['losses'][0]:12.4f} {best['losses'][-1]:11.4f} {speed * flops / rate:13.0%}"
        )
    print(
        f"The floor: {flops / 1e6:.1f} MFLOP a token at {rate / 1e9:.0f} GFLOP/s (a product of two "
        f"2048 x 2048 matrices) is {rate / flops:,.0f} tokens a CPU second."
    )


if __name__ == "__main__":
    main()
