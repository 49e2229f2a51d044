r"""Whole training steps beside TRL's GKDTrainer: tokens per CPU second, peak memory, loss curve.

    python benchmarks/distillation/step.py
    python benchmarks/distillation/step.py --vocab 152000 --steps 8

The same pair of tiny Qwen2 models, the same documents in the same batches, the same optimizer
(AdamW, constant rate, clipped), forward KL on the completions, float32, one thread. Each case is a
process of its own, forked from one that has imported everything. CPU seconds are of the steps
behind the first two; memory is the rise of the peak from when models and data are there. `cached`
is an epoch behind the first: the teacher's 64 likeliest tokens come from the disk (its loss is
lower, because the tail of this random teacher is one bucket).

A first run makes a virtual environment for TRL (`--peers`), over the packages of this Python.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from head_peers import enter_peers

ROOT = Path(__file__).resolve().parents[2]
RATE = 1e-3
WARM_UP = 2
"""Steps that are not counted: allocators and thread pools are set up."""


def cpu_seconds() -> float:
    """Return user and system seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Return the peak resident memory of this process since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak() -> float:
    """Count the peak from here, and return it."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def make_model(seed: int, vocab: int, width: int, n_layers: int) -> Any:
    """Return a Qwen2 model with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=n_layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            tie_word_embeddings=True,
            eos_token_id=0,
            pad_token_id=1,
        )
    )
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    return model


def make_tokenizer(vocab: int) -> Any:
    """Return a tokenizer of so many words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<pad>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", unk_token="<unk>"
    )


def make_documents(settings: argparse.Namespace) -> Any:
    """Return documents in the order of the batches: about half of their tokens are learned."""
    import numpy as np

    from stratos.distill.data import Encoded

    rng = np.random.default_rng(0)
    n = settings.steps * settings.batch
    prompts = rng.integers(settings.length // 4, settings.length // 2, n)
    lengths = prompts + rng.integers(settings.length // 4, settings.length // 2, n)
    tokens = rng.zipf(1.3, lengths.sum()) % (settings.vocab - 2) + 2
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(tokens.astype(np.int32), starts, prompts, np.arange(n))


def batches(data: Any, settings: argparse.Namespace) -> list[Any]:
    """Return the documents of each step."""
    import numpy as np

    return np.split(np.arange(len(data)), settings.steps)


def sizes(data: Any, settings: argparse.Namespace) -> list[int]:
    """Return the tokens of each step, without padding."""
    return [int(data.lengths[documents].sum()) for documents in batches(data, settings)]


class Marks:
    """CPU seconds at the end of each step, and losses."""

    def __init__(self) -> None:
        """Start without any."""
        self.times: list[float] = []
        self.losses: list[float] = []

    def result(self, tokens: list[int], before: float) -> dict[str, Any]:
        """Return what a case showed."""
        seconds = self.times[-1] - self.times[WARM_UP - 1]
        return {
            "tokens_per_s": sum(tokens[WARM_UP:]) / seconds,
            "mib": peak_mib() - before,
            "losses": self.losses,
        }


def cached(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with our module and trainer, the teacher's signal from the disk."""
    return stratos(settings, "topk")


def stratos(
    settings: argparse.Namespace, cache: Literal["none", "topk"] = "none"
) -> dict[str, Any]:
    """Train with our module and trainer."""
    import lightning as L
    import torch

    from stratos.config import TrainerConfig
    from stratos.context import Context
    from stratos.distill.data import PackedLoader
    from stratos.distill.logit_module import LogitModule
    from stratos.distill.objectives import Objective
    from stratos.distill.signal import open_source
    from stratos.distill.trainer import make_trainer, quiet_lightning
    from stratos.ledger import Ledger
    from stratos.synthesize.alignment_logits import AlignmentLogits
    from stratos.teachers.huggingface import HuggingFaceTeacher

    data, marks = make_documents(settings), Marks()
    student = make_model(1, settings.vocab, settings.width, settings.layers)
    folder = Path(settings.folder)
    teacher = HuggingFaceTeacher("teacher", path=str(folder / "teacher"), dtype="float32")
    strategy = AlignmentLogits(cache=cache)
    context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
    source = open_source(teacher, strategy, teacher.tokenizer(), data, context)

    class Module(LogitModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0)

    class InTheirOrder(PackedLoader):
        def __len__(self) -> int:
            return settings.steps

        def row(self, index: int) -> Any:
            return self.batch(batches(data, settings)[index])

    class Mark(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            marks.losses.append(float(outputs["loss"]))
            marks.times.append(cpu_seconds())

    config = TrainerConfig(precision="fp32", accelerator="cpu")
    rows = InTheirOrder(data, 1, 1, 0)
    before = reset_peak()
    with quiet_lightning():
        trainer = make_trainer(config, settings.steps, [Mark()], folder / "stratos")
        trainer.fit(Module(student, config, settings.steps, source, Objective()), rows)
    return marks.result(sizes(data, settings), before)


def trl(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL's GKDTrainer on fixed data (lmbda=0)."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    data, marks = make_documents(settings), Marks()
    student = make_model(1, settings.vocab, settings.width, settings.layers)
    folder = Path(settings.folder)
    teacher = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=torch.float32)
    rows = {"ids": [data.text(i).tolist() for i in range(len(data))]}
    rows["prompt"] = data.prompt_lengths.tolist()

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(example["ids"]) for example in examples)
        ids = torch.ones(len(examples), width, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for place, example in enumerate(examples):
            n = len(example["ids"])
            ids[place, width - n :] = torch.tensor(example["ids"])
            mask[place, width - n :] = 1
            labels[place, width - n + example["prompt"] :] = ids[
                place, width - n + example["prompt"] :
            ]
        # TRL's own collator hands the prompts on, too; with lmbda=0 nothing reads them.
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "prompts": ids[:, :1]}

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.times.append(cpu_seconds())

    class InOrder(GKDTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    config = GKDConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=settings.batch,
        max_steps=settings.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch",
        lmbda=0.0,
        beta=0.0,
        temperature=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    before = reset_peak()
    trainer = InOrder(
        model=student,
        teacher_model=teacher,
        args=config,
        data_collator=collate,
        train_dataset=Dataset.from_dict(rows),
        processing_class=make_tokenizer(settings.vocab),
        callbacks=[Mark()],
    )
    trainer.train()
    marks.losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return marks.result(sizes(data, settings), before)


def forked(train: Callable[[Any], dict[str, Any]], settings: argparse.Namespace) -> Any:
    """Run one case in a process of its own; what stops it is raised here."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def work() -> None:
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            theirs.send(train(settings))
        except Exception as error:
            theirs.send(error)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    result = ours.recv()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--teacher-width", type=int, default=256)
    parser.add_argument("--teacher-layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    enter_peers(settings.peers.resolve())
    import torch
    import trl as peer

    sys.path.insert(0, str(ROOT))
    importlib.import_module("trl.experimental.gkd")
    importlib.import_module("stratos.distill.logit_module")

    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; torch "
        f"{torch.__version__}, trl {peer.__version__}; vocabulary {settings.vocab}, student "
        f"{settings.layers} x {settings.width}, teacher {settings.teacher_layers} x "
        f"{settings.teacher_width}, {settings.batch} documents of up to {settings.length} tokens"
    )
    with tempfile.TemporaryDirectory() as folder:
        settings.folder = folder
        teacher = make_model(2, settings.vocab, settings.teacher_width, settings.teacher_layers)
        teacher.save_pretrained(Path(folder) / "teacher")
        make_tokenizer(settings.vocab).save_pretrained(Path(folder) / "teacher")
        cases = {"stratos": stratos, "cached": cached, "trl GKD": trl}
        forked(cached, settings)  # fills the cache
        results: dict[str, list[Any]] = {case: [] for case in cases}
        for _ in range(settings.runs):
            for case, train in cases.items():
                results[case].append(forked(train, settings))
    show(results)


def show(results: dict[str, list[Any]]) -> None:
    """Print the best of each case, and ratios."""
    best = {
        case: {
            "tokens_per_s": max(run["tokens_per_s"] for run in runs),
            "mib": min(run["mib"] for run in runs),
            "losses": runs[0]["losses"],
        }
        for case, runs in results.items()
    }
    peer = best["trl GKD"]
    print("case       tokens/CPU s   ratio    MiB   share of TRL's   largest gap of the losses")
    for case, one in best.items():
        gap = max(abs(a - b) for a, b in zip(one["losses"], peer["losses"], strict=True))
        print(
            f"{case:10} {one['tokens_per_s']:12,.0f} "
            f"{one['tokens_per_s'] / peer['tokens_per_s']:6.2f}x {one['mib']:6.0f} "
            f"{one['mib'] / peer['mib']:14.2f} {gap:22.5f}"
        )
    print("losses", [round(loss, 4) for loss in best["stratos"]["losses"]])


if __name__ == "__main__":
    main()
