r"""Whole training steps beside TRL's GKDTrainer and plain loops, over several shapes of models.

    python benchmarks/distillation/step.py                    all shapes
    python benchmarks/distillation/step.py --shape large_vocabulary --keep

The same pair of Qwen2 models of random weights, the same documents in the same batches, the same
optimizer (fused AdamW, constant rate, clipped), forward KL on the completions, one thread; in
float32, and in bfloat16 (autocast for the student, the teacher's weights in bfloat16, in all
cases). Each case is a process of its own, forked from one that has imported everything; on all
sides glibc keeps what is freed, as it does in a process that has freed something large. CPU seconds
are of the steps behind the first two; memory is the rise of the peak from when models and data are
there. Ratios are medians over pairs of runs that follow each other.

What is compared:
- `stratos`: our module and trainer; `cached`: an epoch behind the first, the teacher's 64 likeliest
  tokens come from the disk (its loss is lower: the tail of this random teacher is one bucket).
- `trl GKD`: TRL's GKDTrainer on fixed data (lmbda=0).
- `plain loop`: batches padded at the end, which needs no mask, through both models; the loss on all
  logits of the completions, for which alone the head is multiplied.
- `plain loop, TRL's chunked loss`: the same with the loss of TRL's DistillationTrainer (it trains
  on the student's own texts), on hidden states of the completions: the best public loss.

The shapes span what a step spends in the head and in the body: a tiny body beside a large
vocabulary, and bodies of 9M and 28M parameters beside a vocabulary of 15,000. A second set of
documents has unequal lengths, which padding pays for.

A first run makes a virtual environment for TRL (`--peers`), over the packages of this Python.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from head_peers import enter_peers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
RATE = 1e-3
WARM_UP = 2
"""Steps that are not counted: allocators and thread pools are set up."""


@dataclass(frozen=True)
class Shape:
    """Models and documents of one comparison."""

    vocab: int
    width: int
    layers: int
    teacher_width: int
    teacher_layers: int
    unequal: bool = False
    """Documents of a quarter to twice the length, in place of about the same."""
    steps: int = 10
    batch: int = 8
    length: int = 160


SHAPES = {
    "medium_vocabulary": Shape(50_000, 128, 2, 256, 4),
    "large_vocabulary": Shape(152_000, 128, 2, 256, 4, steps=8),
    "body": Shape(15_000, 256, 12, 384, 16),
    "body_unequal": Shape(15_000, 256, 12, 384, 16, unequal=True),
    "deep_body": Shape(15_000, 384, 16, 512, 20, steps=7),
}


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
    longest = np.full(n, settings.length)
    if settings.unequal:
        longest = (settings.length * rng.choice([0.25, 0.5, 1.0, 2.0], n)).astype(int)
    prompts = rng.integers(longest // 4, longest // 2)
    lengths = prompts + rng.integers(longest // 4, longest // 2)
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
    from stratos.core.context import Context
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule
    from stratos.distill.objectives.base import Objective
    from stratos.distill.signal.source import open_source
    from stratos.distill.trainer import make_trainer, quiet_lightning
    from stratos.ledger import Ledger
    from stratos.synthesize.white_box import AlignmentLogits
    from stratos.teachers.huggingface import HuggingFaceTeacher

    data, marks = make_documents(settings), Marks()
    student = make_model(1, settings.vocab, settings.width, settings.layers)
    folder = Path(settings.folder)
    teacher = HuggingFaceTeacher("teacher", path=str(folder / "teacher"), dtype=settings.dtype)
    strategy = AlignmentLogits(cache=cache)
    context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
    source = open_source(teacher, strategy.signal, teacher.tokenizer(), data, context)

    class Module(StudentModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    class InTheirOrder(PackedLoader):
        def __len__(self) -> int:
            return settings.steps

        def row(self, index: int) -> Any:
            return self.batch(batches(data, settings)[index])

    class Mark(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            marks.losses.append(float(outputs["loss"]))
            marks.times.append(cpu_seconds())

    precision = "bf16" if settings.dtype == "bfloat16" else "fp32"
    config = TrainerConfig(precision=precision, accelerator="cpu")
    rows = InTheirOrder(data, 1, 1, 0)
    before = reset_peak()
    with quiet_lightning():
        trainer = make_trainer(config, settings.steps, [Mark()], folder / "stratos")
        trainer.fit(Module(student, config, settings.steps, source, Objective()), rows)
    return marks.result(sizes(data, settings), before)


def as_rows(data: Any) -> dict[str, list[Any]]:
    """Return documents as columns."""
    return {
        "ids": [data.text(i).tolist() for i in range(len(data))],
        "prompt": data.prompt_lengths.tolist(),
    }


def padded(examples: list[dict[str, Any]], at_end: bool = False) -> dict[str, Any]:
    """Return a padded batch, with labels on the completions.

    Behind documents that end earlier, padding needs no mask: nothing attends to what comes later.
    """
    import torch

    width = max(len(example["ids"]) for example in examples)
    ids = torch.ones(len(examples), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for place, example in enumerate(examples):
        start = 0 if at_end else width - len(example["ids"])
        end = start + len(example["ids"])
        ids[place, start:end] = torch.tensor(example["ids"])
        mask[place, start:end] = 1
        learned = slice(start + example["prompt"], end)
        labels[place, learned] = ids[place, learned]
    # TRL's own collator hands the prompts on, too; with lmbda=0 nothing reads them.
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "prompts": ids[:, :1]}


def plain_loop(settings: argparse.Namespace) -> dict[str, Any]:
    """Train in twenty lines of PyTorch: the loss on all logits of the completions."""
    return loop(settings, of_logits)


def chunked_loop(settings: argparse.Namespace) -> dict[str, Any]:
    """Train likewise, with the loss of TRL's DistillationTrainer."""
    return loop(settings, of_states)


def of_logits(student: Any, teacher: Any, batch: dict[str, Any]) -> Any:
    """Return the forward KL on the logits of all learned places."""
    import torch

    ids, learned = batch["input_ids"], batch["labels"][:, 1:] != -100
    with torch.no_grad():
        states = teacher.model(ids).last_hidden_state[:, :-1][learned]
        target = teacher.lm_head(states).log_softmax(-1)
    states = student.model(ids).last_hidden_state[:, :-1][learned]
    ours = student.lm_head(states).log_softmax(-1)
    return torch.nn.functional.kl_div(ours, target, log_target=True, reduction="batchmean")


def of_states(student: Any, teacher: Any, batch: dict[str, Any]) -> Any:
    """Return TRL's chunked forward KL on the states before the head."""
    import torch
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    ids = batch["input_ids"]
    with torch.no_grad():
        target = teacher.model(ids).last_hidden_state[:, :-1]
    ours = student.model(ids).last_hidden_state[:, :-1]
    mask = batch["labels"][:, 1:] != -100
    heads = (student.lm_head.weight, teacher.lm_head.weight)
    return _chunked_divergence_loss(ours, target, *heads, mask, 0.0)[0]


def loop(settings: argparse.Namespace, loss_of: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
    """Train in a plain loop over padded batches."""
    import torch
    from transformers import AutoModelForCausalLM

    data, marks = make_documents(settings), Marks()
    student = make_model(1, settings.vocab, settings.width, settings.layers)
    folder = Path(settings.folder)
    teacher = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=settings.dtype)
    rows = as_rows(data)
    before = reset_peak()
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for documents in batches(data, settings):
        examples = [{name: column[i] for name, column in rows.items()} for i in documents]
        batch = padded(examples, at_end=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss = loss_of(student, teacher, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        marks.losses.append(loss.item())
        marks.times.append(cpu_seconds())
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
    teacher = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=settings.dtype)
    rows = as_rows(data)

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
        optim="adamw_torch_fused",
        lmbda=0.0,
        beta=0.0,
        temperature=1.0,
        logging_steps=settings.steps,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=settings.dtype == "bfloat16",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    before = reset_peak()
    trainer = InOrder(
        model=student,
        teacher_model=teacher,
        args=config,
        data_collator=padded,
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
        import torch

        from stratos.contrib.cpu import cpu_speedups as heap

        torch.set_num_threads(1)  # before threads load weights: the pool of a fork is made once
        heap.keep()
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


CASES = {
    "stratos": stratos,
    "cached": cached,
    "trl GKD": trl,
    "plain loop": plain_loop,
    "plain loop, TRL's chunked loss": chunked_loop,
}


def compare(shape: Shape, dtype: str, runs: int) -> dict[str, Any]:
    """Run all cases of one shape in turn; return what they showed."""
    with tempfile.TemporaryDirectory() as folder:
        settings = argparse.Namespace(**asdict(shape), folder=folder, dtype=dtype)
        teacher = make_model(2, shape.vocab, shape.teacher_width, shape.teacher_layers)
        teacher.save_pretrained(Path(folder) / "teacher")
        make_tokenizer(shape.vocab).save_pretrained(Path(folder) / "teacher")
        student = make_model(1, shape.vocab, shape.width, shape.layers)
        bodies = {
            name: sum(p.numel() for p in model.model.layers.parameters())
            for name, model in (("student", student), ("teacher", teacher))
        }
        forked(cached, settings)  # fills the cache
        results: dict[str, list[Any]] = {case: [] for case in CASES}
        for _ in range(runs):
            for case, train in CASES.items():
                results[case].append(forked(train, settings))
    return {"shape": asdict(shape), "body_params": bodies, "runs": results} | ratios(results)


def ratios(results: dict[str, list[Any]]) -> dict[str, Any]:
    """Return medians of speed and memory, and of our ratio to each peer, run by run."""
    medians = {
        case: {
            name: statistics.median(run[name] for run in runs) for name in ("tokens_per_s", "mib")
        }
        for case, runs in results.items()
    }
    ours = results["stratos"]
    speed, memory = {}, {}
    for case, runs in results.items():
        pairs = list(zip(ours, runs, strict=True))
        speed[case] = statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs)
        memory[case] = statistics.median(a["mib"] / b["mib"] for a, b in pairs)
    return {"median": medians, "stratos_times_as_fast_as": speed, "stratos_memory_over": memory}


def main() -> None:
    """Measure the shapes and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    enter_peers(options.peers.resolve())
    import torch
    from record import circumstances, keep, load

    sys.path.insert(0, str(ROOT))
    importlib.import_module("trl.experimental.gkd")
    importlib.import_module("stratos.distill.module")
    torch.set_num_threads(1)
    found = {}
    for shape in options.shape:
        for dtype in options.dtype:
            name = f"{shape}, {dtype}"
            found[name] = compare(SHAPES[shape], dtype, options.runs)
            show(name, found[name])
    if options.keep:
        kept = load("distillation/step")
        if of_code(kept) == of_code(circumstances()):  # what else was measured of it stays
            found = {**kept["result"], **found}
        keep("distillation/step", found, seed=0)


def of_code(kept: dict[str, Any]) -> str:
    """Return the commit that a result is of."""
    commit: str = kept["commit"]
    return commit.removesuffix("-dirty")


def show(name: str, found: dict[str, Any]) -> None:
    """Print one shape."""
    print(f"{name}: {found['shape']}, bodies {found['body_params']}")
    print("case                             tokens/CPU s   MiB   ours is   our memory   last loss")
    for case, one in found["median"].items():
        print(
            f"{case:31} {one['tokens_per_s']:13,.0f} {one['mib']:5.0f} "
            f"{found['stratos_times_as_fast_as'][case]:8.2f}x "
            f"{found['stratos_memory_over'][case]:11.2f}x "
            f"{found['runs'][case][0]['losses'][-1]:11.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
