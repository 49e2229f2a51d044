r"""Training, distillation, decoding and serving on one GPU, beside plain torch and the estimate.

    make gpu
    python benchmarks/training/gpu.py --cpu       the same code on small shapes, without a GPU

At most ten minutes on a card of the H100 class. Weights and tokens are random, at the shapes of
SmolLM2-135M and 1.7B, in bfloat16 autocast; each case is a process of its own. Tokens are those of
the documents, also where what all begin with is computed once; seconds are those of the clock
behind the first steps, memory is the card's peak.

- `train`: our module with and without the common beginning (`beginning.py`), and a plain loop.
- `distil`: logits of the 1.7B shape to the 135M shape (`step.py`), and a plain loop.
- `decode`: an evaluation's answers, and those of `model.generate`, `--answers` at once.
- `serve`: the same student by vLLM, where it is installed.

`expected` are the tokens a second that a plan counts with, for documents computed whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

import beginning
import decoding
import peers
import record
import step
from engines import SHAPE_TOKENS, Shape, one_case, untrained

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BATCH = {"135m": 256, "1.7b": 64, "tiny": 8}
"""Documents of a step."""


def train(shape: str, rows: str, folder: str, steps: int) -> dict[str, Any]:
    """Return what each training of a shape showed."""
    settings = argparse.Namespace(
        shape=shape, rows=rows, adapter="none", dtype="bfloat16", folder=folder, steps=steps,
        batch=BATCH[shape],
    )  # fmt: skip
    names = ("stratos", "single documents", "plain loop")
    cases = {name: beginning.CASES[name] for name in names}
    plan = peers.forked(lambda given: expected(shape, given), settings)
    return peers.compared(cases, settings, 1) | {"expected": plan}


def expected(shape: str, settings: argparse.Namespace) -> float | None:
    """Return the tokens a second that a plan counts with on this card; None on no GPU known."""
    import torch

    from stratos.catalog.gpus import find_gpu
    from stratos.estimate.cards import TrainingJob, llama_params
    from stratos.estimate.hours import train as hours
    from stratos.records import ModelCard, Offer

    if peers.DEVICE == "cpu":
        return None
    words = torch.cuda.get_device_name().replace("NVIDIA", "").split()
    gpu = next((gpu for word in words if (gpu := find_gpu(word)) is not None), None)
    if gpu is None:
        return None
    sizes = beginning.SHAPES[shape]
    width, layers, mlp = (
        sizes[name] for name in ("hidden_size", "num_hidden_layers", "intermediate_size")
    )
    heads = sizes["num_attention_heads"], sizes["num_key_value_heads"]
    card = ModelCard(
        name=shape, n_params=llama_params(beginning.VOCAB, width, layers, *heads, mlp),
        n_layers=layers, hidden_size=width, n_heads=heads[0], n_kv_heads=heads[1],
        intermediate_size=mlp, vocab_size=beginning.VOCAB, context_length=2048, license="",
    )  # fmt: skip
    offer = Offer("", "", "", gpu.name, 1, 16.0, 128.0, gpu.memory_gib, 0.0)
    lengths = beginning.data_of(settings).lengths
    step_tokens = int(lengths.sum()) // settings.steps
    longest = int(lengths.max())
    taken = [
        hours(card, offer, TrainingJob(tokens, step_tokens, longest, optimizer="adamw"))
        for tokens in (10**9, 2 * 10**9)
    ]
    if taken[0] is None or taken[1] is None:
        return None
    return 1e9 / (3600 * (taken[1].mean - taken[0].mean))


def distil(folder: Path, tiny: bool, steps: int) -> dict[str, Any]:
    """Return what each distillation of logits showed."""
    shape = step.Shape(beginning.VOCAB, 576, 30, 2048, 24, steps=steps, batch=64)
    if tiny:
        shape = step.Shape(1000, 64, 2, 128, 2, steps=steps)
    teacher = step.make_model(2, shape.vocab, shape.teacher_width, shape.teacher_layers)
    teacher.save_pretrained(folder / "teacher")
    step.make_tokenizer(shape.vocab).save_pretrained(folder / "teacher")
    settings = argparse.Namespace(**asdict(shape), folder=str(folder), dtype="bfloat16")
    cases = {name: step.CASES[name] for name in ("stratos", "plain loop")}
    return peers.compared(cases, settings, 1)


def decode(folder: Path, tiny: bool, n_answers: int) -> dict[str, Any]:
    """Return seconds and tokens of answers by an evaluation, by `generate` and by vLLM."""
    from stratos.deploy.engines.vllm import Vllm
    from stratos.models.pretrained import load_model, load_tokenizer
    from stratos.records import ServingSetting

    shape = Shape(64, 128, 2, 4) if tiny else Shape(576, 1536, 30, 9)
    bundle, chats = untrained(folder, n_answers, shape)
    shown: dict[str, Any] = {}
    if Vllm().unusable() is None:
        setting = ServingSetting("vllm", 32, format="bf16")
        shown["vllm"] = one_case(bundle, setting, chats, SHAPE_TOKENS)[0]
    model = load_model(bundle, dtype="bfloat16").eval().to(peers.DEVICE)
    tokenizer = load_tokenizer(bundle)
    for name in ("transformers", "model.generate"):
        decoding.DECODERS[name](model, tokenizer, chats[:2], 2, 8)
        start = peers.seconds()
        texts, n_tokens = decoding.DECODERS[name](model, tokenizer, chats, n_answers, SHAPE_TOKENS)
        shown[name] = {"seconds": peers.seconds() - start, "answers": len(texts)}
        shown[name] |= {"tokens": n_tokens} if n_tokens else {}
    return shown


def main() -> None:
    """Measure all of it."""
    parser = record.arguments(__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--answers", type=int, default=128)
    parser.add_argument("--cpu", action="store_true", help="small shapes, on the CPU")
    options = parser.parse_args()
    beginning.SHAPES["tiny"] = TINY
    peers.DEVICE = "cpu" if options.cpu else "cuda"
    shapes = ["tiny"] if options.cpu else ["135m", "1.7b"]
    started = time.perf_counter()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in shapes:
            for rows in beginning.ROWS:
                result[f"train {shape}, {rows}"] = train(shape, rows, folder, options.steps)
        result["distil"] = distil(Path(folder), options.cpu, options.steps)
        result["decode"] = peers.forked(
            lambda _: decode(Path(folder) / "student", options.cpu, options.answers), options
        )
        result["minutes"] = round((time.perf_counter() - started) / 60, 1)
    record.finish("distillation/gpu", result, options, seed=0)


if __name__ == "__main__":
    main()
