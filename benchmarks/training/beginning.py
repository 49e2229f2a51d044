r"""Rows that begin alike, at the shape of SmolLM2-135M: training beside a plain loop and TRL.

    python benchmarks/training/beginning.py
    python benchmarks/training/beginning.py --adapter none lora --dtype bfloat16 --runs 2 --keep

A task's instruction and its labels are the same tokens in every row: 73 of about 100 with ten
labels of banking77, 560 of 587 with all 77. The weights are random, and so are the tokens. Each
step has as many documents as a training on 300 or 1,000 rows gives it; optimizer and documents are
the same on all sides, and each case is a process of its own on one thread.

- `stratos`: our module and trainer.
- `single documents`: the same with every document computed whole.
- `plain loop`: documents padded at the end, which needs no mask, and transformers' own loss.
- `plain loop, head of answers`: the same with the head multiplied for the answers alone.
- `trl`: TRL's SFTTrainer without packing, the loss on the completions.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import record
import step
from peers import Marks, reset_peak

ROWS = {"ten labels": (73, 19), "77 labels": (560, 7)}
"""Tokens that all rows begin with, and documents of a step."""
QUESTION, ANSWER = (14, 34), (2, 6)
"""Fewest tokens of a question and an answer, and one more than the most."""
VOCAB = 49152


SHAPES: dict[str, dict[str, int]] = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "1.7b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
}
"""Of SmolLM2."""


def model_of(settings: argparse.Namespace) -> Any:
    """Return a model of a shape of SmolLM2, with adapters where they are asked for."""
    import torch
    from peft.tuners.lora import torchao
    from transformers import LlamaConfig, LlamaForCausalLM

    from stratos.distill.tokenizer import add_adapters

    torchao.is_torchao_available = lambda: False  # peft refuses the version that torchtune needs
    torch.manual_seed(0)
    shape = {"vocab_size": VOCAB, "tie_word_embeddings": True, "pad_token_id": 1}
    model = LlamaForCausalLM(LlamaConfig(**SHAPES[settings.shape], **shape))
    return add_adapters(model, config_of(settings), 0)


def config_of(settings: argparse.Namespace) -> Any:
    """Return the settings of our training."""
    return peers.trainer_config(settings.dtype, adapter=settings.adapter)


def data_of(settings: argparse.Namespace) -> Any:
    """Return the documents in the order of the steps."""
    import numpy as np

    from stratos.distill.data import Encoded

    draw = np.random.default_rng(0)
    n_shared, n = ROWS[settings.rows][0], settings.steps * settings.batch
    beginning = draw.integers(2, VOCAB, n_shared)
    questions, answers = draw.integers(*QUESTION, n), draw.integers(*ANSWER, n)
    texts = [
        np.append(beginning, draw.integers(2, VOCAB, length)) for length in questions + answers
    ]
    starts = np.cumsum([0, *map(len, texts)])
    tokens = np.concatenate(texts).astype(np.int32)
    return Encoded(tokens, starts, n_shared + questions, np.arange(n), shares=True)


def stratos(settings: argparse.Namespace, shares: bool = True) -> dict[str, Any]:
    """Train with our module and trainer."""
    from stratos.distill.data import PackedLoader

    data = replace(data_of(settings), shares=shares)

    class InTheirOrder(PackedLoader):
        def __len__(self) -> int:
            return settings.steps

        def row(self, index: int) -> Any:
            return self.batch(step.batches(data, settings)[index])

    model, config, before = model_of(settings), config_of(settings), reset_peak()
    rows, folder = InTheirOrder(data, 1, 1, 0), Path(settings.folder)
    marks, _ = peers.ours(model, config, settings.steps, rows, folder)
    return marks.result(step.sizes(data, settings), before)


def single_documents(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with our module and trainer, every document whole."""
    return stratos(settings, shares=False)


def loss_of_all(model: Any, ids: Any, labels: Any) -> Any:
    """Return transformers' own loss, which multiplies the head for all tokens."""
    return model(input_ids=ids, labels=labels).loss


def loss_of_answers(model: Any, ids: Any, labels: Any) -> Any:
    """Return the same loss with the head multiplied for the answers alone."""
    import torch

    targets = labels[:, 1:]
    learned = targets != -100
    states = model.model(input_ids=ids).last_hidden_state[:, :-1][learned]
    return torch.nn.functional.cross_entropy(model.lm_head(states).float(), targets[learned])


def plain_loop(
    settings: argparse.Namespace, loss_of: Callable[..., Any] = loss_of_all
) -> dict[str, Any]:
    """Train in a plain loop over padded batches."""
    data, model = data_of(settings), model_of(settings)
    examples = step.examples_of(data)

    def losses() -> Iterator[Callable[[], Any]]:
        for documents in step.batches(data, settings):
            batch = step.padded([examples[i] for i in documents], at_end=True)
            ids, labels = batch["input_ids"].to(peers.DEVICE), batch["labels"].to(peers.DEVICE)
            yield lambda ids=ids, labels=labels: loss_of(model, ids, labels)

    before = reset_peak()
    marks = peers.loop(model.train(), settings.dtype, losses())
    return marks.result(step.sizes(data, settings), before)


def plain_loop_of_answers(settings: argparse.Namespace) -> dict[str, Any]:
    """Train likewise, the head multiplied for the answers alone."""
    return plain_loop(settings, loss_of_answers)


def trl(settings: argparse.Namespace) -> dict[str, Any]:
    """Train with TRL's SFTTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    data, model, marks = data_of(settings), model_of(settings), Marks()
    rows = [
        {
            "input_ids": row["ids"],
            "completion_mask": [int(i >= row["prompt"]) for i in range(len(row["ids"]))],
        }
        for row in step.examples_of(data)
    ]

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.step()

    config = SFTConfig(
        output_dir=str(Path(settings.folder) / "trl"),
        per_device_train_batch_size=settings.batch,
        max_steps=settings.steps,
        max_length=None,
        train_sampling_strategy="sequential",
        logging_steps=settings.steps,
        bf16=settings.dtype == "bfloat16",
        **peers.TRAINER,
    )
    before = reset_peak()
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=step.make_tokenizer(VOCAB),
        callbacks=[Mark()],
    )
    trainer.train()
    marks.losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return marks.result(step.sizes(data, settings), before)


CASES: dict[str, peers.Case] = {
    "stratos": stratos,
    "single documents": single_documents,
    "plain loop": plain_loop,
    "plain loop, head of answers": plain_loop_of_answers,
    "trl": trl,
}


def main() -> None:
    """Measure the rows."""
    parser = peers.arguments(__doc__)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--adapter", nargs="+", default=["none"], choices=["none", "lora"])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, default=5)
    options = peers.enter(parser)
    from trl import SFTTrainer  # noqa: F401

    import stratos.distill.module  # noqa: F401

    cases, result = {name: CASES[name] for name in options.cases}, {}
    for rows in options.rows:
        for adapter in options.adapter:
            for dtype in options.dtype:
                with tempfile.TemporaryDirectory() as folder:
                    settings = argparse.Namespace(
                        rows=rows, adapter=adapter, dtype=dtype, folder=folder, shape="135m",
                        steps=options.steps, batch=ROWS[rows][1],
                    )  # fmt: skip
                    measured = peers.compared(cases, settings, options.runs)
                result[f"{rows}, {adapter}, {dtype}"] = measured
    record.finish("distillation/beginning", result, options, seed=0)


if __name__ == "__main__":
    main()
