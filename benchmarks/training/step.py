r"""Whole training steps beside TRL's GKDTrainer and plain loops, over several shapes of models.

    python benchmarks/training/step.py                    all shapes
    python benchmarks/training/step.py --shape large_vocabulary --keep

The same pair of Qwen2 models of random weights, the same documents in the same batches, the same
optimizer (fused AdamW, constant rate, clipped), forward KL on the completions, one thread; in
float32, and in bfloat16 (autocast for the student, the teacher's weights in bfloat16, in all
cases). Each case is a process of its own, forked from one that has imported everything. CPU seconds
are of the steps behind the first two; memory is the rise of the peak from when models and data are
there. Ratios are medians over pairs of runs that follow each other.

- `stratos`: our module and trainer.
- `trl GKD`: TRL's GKDTrainer on fixed data (lmbda=0).
- `plain loop`: batches padded at the end, which needs no mask, through both models; the head is
  multiplied for the completions alone.
- `plain loop, TRL's chunked loss`: the same with the loss of TRL's DistillationTrainer (it trains
  on the student's own texts), on hidden states of the completions: the best public loss.

`--shape few_shot`, which is kept apart: the teacher reads 1,500 tokens of examples that the student
does not, alike in all rows. TRL's trainer gives both the same text, and is left out there.

A first run makes a virtual environment for TRL (`--peers`), over the packages of this Python.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import peers
import record
from peers import Marks, reset_peak


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
    shots: int = 0
    """Tokens that the teacher reads, alike before every document, and the student does not."""


FEW_SHOT = "few_shot"
SHAPES = {
    "medium_vocabulary": Shape(50_000, 128, 2, 256, 4),
    "large_vocabulary": Shape(152_000, 128, 2, 256, 4, steps=8),
    "body": Shape(15_000, 256, 12, 384, 16),
    "body_unequal": Shape(15_000, 256, 12, 384, 16, unequal=True),
    "deep_body": Shape(15_000, 384, 16, 512, 20, steps=7),
    FEW_SHOT: Shape(15_000, 256, 12, 384, 16, steps=7, shots=1500),
}


def make_model(seed: int, vocab: int, width: int, n_layers: int) -> Any:
    """Return a Qwen2 model with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
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
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    return model


def student_of(settings: argparse.Namespace) -> Any:
    """Return the student of a case."""
    return make_model(1, settings.vocab, settings.width, settings.layers)


def teacher_of(settings: argparse.Namespace) -> Any:
    """Return the teacher of a peer."""
    from transformers import AutoModelForCausalLM

    folder = Path(settings.folder) / "teacher"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=settings.dtype)


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


def shots_of(settings: argparse.Namespace) -> Any:
    """Return what the teacher reads before every document."""
    import numpy as np

    draw = np.random.default_rng(1)
    return draw.zipf(1.3, settings.shots) % (settings.vocab - 2) + 2


def batches(data: Any, settings: argparse.Namespace) -> list[Any]:
    """Return the documents of each step."""
    import numpy as np

    return np.split(np.arange(len(data)), settings.steps)


def sizes(data: Any, settings: argparse.Namespace) -> list[int]:
    """Return the tokens of each step, without padding."""
    return [int(data.lengths[documents].sum()) for documents in batches(data, settings)]


def stratos(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with our module and trainer."""
    import numpy as np

    from stratos.core.context import Context
    from stratos.distill.data import PackedLoader
    from stratos.distill.objectives import Objective
    from stratos.distill.signal.source import open_source
    from stratos.ledger import Ledger
    from stratos.synthesize.alignment import AlignmentLogits
    from stratos.teachers.huggingface import HuggingFaceTeacher

    data, folder = make_documents(settings), Path(settings.folder)
    teacher = HuggingFaceTeacher("teacher", path=str(folder / "teacher"), dtype=settings.dtype)
    context = Context(folder, folder, Ledger(folder / "ledger.jsonl"))
    signal = AlignmentLogits(cache="none").signal
    shots, prompts = shots_of(settings), None
    if len(shots):
        prompts = [np.append(shots, data.prompt(i)) for i in range(len(data))]
    source = open_source(teacher, signal, teacher.tokenizer(), data, context, prompts)

    class InTheirOrder(PackedLoader):
        def __len__(self) -> int:
            return settings.steps

        def row(self, index: int) -> Any:
            return self.batch(batches(data, settings)[index])

    config = peers.trainer_config(settings.dtype)
    student, before = student_of(settings), reset_peak()
    marks, _ = peers.ours(
        student, config, settings.steps, InTheirOrder(data, 1, 1, 0), folder, source, Objective()
    )
    return marks.result(sizes(data, settings), before)


def examples_of(data: Any) -> list[dict[str, Any]]:
    """Return documents as dicts."""
    prompts = data.prompt_lengths.tolist()
    return [{"ids": data.text(i).tolist(), "prompt": prompts[i]} for i in range(len(data))]


def padded(examples: list[dict[str, Any]], at_end: bool = False) -> dict[str, Any]:
    """Return a padded batch, with labels on the completions.

    Behind documents that end earlier, padding needs no mask: nothing attends to what comes later.
    """
    import torch

    width = max(len(example["ids"]) for example in examples)
    ids = torch.ones(len(examples), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        start = 0 if at_end else width - len(example["ids"])
        end = start + len(example["ids"])
        ids[row, start:end] = torch.tensor(example["ids"])
        mask[row, start:end] = 1
        learned = slice(start + example["prompt"], end)
        labels[row, learned] = ids[row, learned]
    # TRL's own collator hands the prompts on, too; with lmbda=0 nothing reads them.
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "prompts": ids[:, :1]}


def states_of(teacher: Any, ids: Any, shots: Any) -> Any:
    """Return the teacher's states of a batch, behind what it alone reads (a row of ids)."""
    import torch

    with torch.no_grad():
        read = torch.cat([shots.expand(len(ids), -1), ids], dim=1)
        return teacher.model(read).last_hidden_state[:, shots.shape[1] : -1]


def of_logits(student: Any, teacher: Any, batch: dict[str, Any], shots: Any) -> Any:
    """Return the forward KL on the logits of all learned tokens."""
    import torch

    ids, learned = batch["input_ids"], batch["labels"][:, 1:] != -100
    with torch.no_grad():
        states = states_of(teacher, ids, shots)[learned]
        target = teacher.lm_head(states).log_softmax(-1)
    states = student.model(ids).last_hidden_state[:, :-1][learned]
    ours = student.lm_head(states).log_softmax(-1)
    return torch.nn.functional.kl_div(ours, target, log_target=True, reduction="batchmean")


def of_states(student: Any, teacher: Any, batch: dict[str, Any], shots: Any) -> Any:
    """Return TRL's chunked forward KL on the states before the head."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    ids = batch["input_ids"]
    target = states_of(teacher, ids, shots)
    ours = student.model(ids).last_hidden_state[:, :-1]
    mask = batch["labels"][:, 1:] != -100
    heads = (student.lm_head.weight, teacher.lm_head.weight)
    return _chunked_divergence_loss(ours, target, *heads, mask, 0.0)[0]


def plain_loop(
    settings: argparse.Namespace, loss_of: Callable[[Any, Any, Any, Any], Any] = of_logits
) -> dict[str, Any]:
    """Train in a plain loop over padded batches."""
    import torch

    data, shots = make_documents(settings), torch.from_numpy(shots_of(settings))[None]
    shots = shots.to(peers.DEVICE)
    student, examples = student_of(settings), examples_of(data)
    teacher = teacher_of(settings).to(peers.DEVICE)

    def losses() -> Iterator[Callable[[], Any]]:
        for documents in batches(data, settings):
            batch = padded([examples[i] for i in documents], at_end=True)
            batch = {name: values.to(peers.DEVICE) for name, values in batch.items()}
            yield lambda batch=batch: loss_of(student, teacher, batch, shots)

    before = reset_peak()
    return peers.loop(student, settings.dtype, losses()).result(sizes(data, settings), before)


def chunked_loop(settings: argparse.Namespace) -> dict[str, Any]:
    """Train likewise, with the loss of TRL's DistillationTrainer."""
    return plain_loop(settings, of_states)


def trl(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL's GKDTrainer on fixed data (lmbda=0)."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    data, marks = make_documents(settings), Marks()
    student, teacher = student_of(settings), teacher_of(settings)

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.step()

    class InOrder(GKDTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    config = GKDConfig(
        output_dir=str(Path(settings.folder) / "trl"),
        per_device_train_batch_size=settings.batch,
        max_steps=settings.steps,
        lmbda=0.0,
        beta=0.0,
        temperature=1.0,
        logging_steps=settings.steps,
        bf16=settings.dtype == "bfloat16",
        **peers.TRAINER,
    )
    before = reset_peak()
    trainer = InOrder(
        model=student,
        teacher_model=teacher,
        args=config,
        data_collator=padded,
        train_dataset=Dataset.from_list(examples_of(data)),
        processing_class=make_tokenizer(settings.vocab),
        callbacks=[Mark()],
    )
    trainer.train()
    marks.losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return marks.result(sizes(data, settings), before)


CASES: dict[str, peers.Case] = {
    "stratos": stratos,
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
        cases = {name: case for name, case in CASES.items() if not (shape.shots and case is trl)}
        return {"shape": asdict(shape), **peers.compared(cases, settings, runs)}


def main() -> None:
    """Measure the shapes."""
    parser = peers.arguments(__doc__)
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES),
                        default=[shape for shape in SHAPES if shape != FEW_SHOT])  # fmt: skip
    options = peers.enter(parser)
    import trl.experimental.gkd  # noqa: F401

    import stratos.distill.module  # noqa: F401

    result = {
        f"{shape}, {dtype}": compare(SHAPES[shape], dtype, options.runs)
        for shape in options.shape
        for dtype in options.dtype
    }
    name = "few_shot" if options.shape == [FEW_SHOT] else "step"
    record.finish(f"distillation/{name}", result, options, seed=0)


if __name__ == "__main__":
    main()
