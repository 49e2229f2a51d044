"""Measure `stratos.models.decode.batched.complete` against `model.generate` on a CPU.

    python benchmarks/generation.py                           # a random Llama of 1M parameters
    python benchmarks/generation.py --run outputs/my_run      # the student of a run, its test items
    python benchmarks/generation.py --batch-sizes 8 --repeats 5 --threads 2

Three ways answer the same questions greedily, one behind the other, several times: directly, as an
evaluation does (`stratos.contrib.cpu.cpu_decoder`); by batches with transformers' own steps
(`evaluate.decoder=transformers`); and by `model.generate`. Answers have very unlike lengths, as
those of a student have. The steps are compiled before anything is timed. Printed are CPU
microseconds a token, the medians of the ratios within each round, and the share of answers that are
the same to the last token (rounding differs with the size of a batch, and a random model is quick
to tip over).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

BY_GENERATE = "model.generate"
Chats = list[list[dict[str, str]]]


def main() -> None:
    """Run all ways on one model and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder: its student and its test items")
    parser.add_argument("--answers", type=int, default=128, help="at most, of each batch size")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--max-new-tokens", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()

    import torch

    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    model, tokenizer, chats = (
        random_student(options.answers)
        if options.run is None
        else student_of(options.run, options.answers)
    )
    from stratos.contrib.cpu.cpu_decoder import load

    print(f"{model.num_parameters():,} parameters, {options.threads} thread(s)")
    if load() is None:
        print("No C compiler is found: transformers decodes.")
    batches = {}
    for size in options.batch_sizes:
        asked = chats[: max(8, min(len(chats), 4 * size))]
        batches[size] = compared(model, tokenizer, asked, size, options)
    if options.keep:
        from record import keep

        settings = {**vars(options), "run": options.run and options.run.name}
        found = {
            "settings": settings,
            "parameters": model.num_parameters(),
            "batches": batches,
        }
        keep("generation", found, seed=0)


def compared(
    model: Any, tokenizer: Any, chats: Chats, batch_size: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Answer by all ways in turns; return CPU microseconds a token, ratios and equal answers."""
    ways: dict[str, Callable[[], tuple[list[str], int]]] = {
        "direct": lambda: by_batches(model, tokenizer, chats, batch_size, options, "auto"),
        "transformers": lambda: by_batches(
            model, tokenizer, chats, batch_size, options, "transformers"
        ),
        BY_GENERATE: lambda: by_generate(model, tokenizer, chats, batch_size, options),
    }
    rounds: list[dict[str, float]] = []
    texts: dict[str, list[str]] = {}
    n_tokens = 0
    for _ in range(options.repeats):
        seconds = {}
        for name, answer in ways.items():
            started = time.process_time()
            texts[name], n = answer()
            seconds[name] = time.process_time() - started
            n_tokens = n or n_tokens
        rounds.append(seconds)
    found: dict[str, Any] = {"answers": len(chats), "tokens": n_tokens, "ways": {}}
    print(f"batch of {batch_size}: {len(chats)} answers of {n_tokens / len(chats):.0f} tokens")
    for name in ways:
        same = [a == b for a, b in zip(texts[name], texts["direct"], strict=True)]
        one = found["ways"][name] = {
            "cpu_us_per_token": statistics.median(r[name] for r in rounds) / n_tokens * 1e6,
            "ratio": statistics.median(r[name] / r["direct"] for r in rounds),
            "same": sum(same) / len(same),
        }
        print(
            f"  {name:16} {one['cpu_us_per_token']:8.1f} CPU µs a token, {one['ratio']:5.2f} times "
            f"direct, {one['same']:.1%} the same answers"
        )
    return found


def by_batches(
    model: Any,
    tokenizer: Any,
    chats: Chats,
    batch_size: int,
    options: argparse.Namespace,
    decoder: str,
) -> tuple[list[str], int]:
    """Answer as an evaluation does; return texts and the number of their tokens."""
    from stratos.models.decode.batched import complete
    from stratos.models.decode.decoder import Decoder, Decoding

    decoding = Decoding(Decoder(decoder))
    done = complete(
        model,
        tokenizer,
        chats,
        max_new_tokens=options.max_new_tokens,
        batch_size=batch_size,
        choose_threads=False,
        decoding=decoding,
    )
    assert decoding.used == ("direct" if decoder == "auto" else decoder)
    return [one.text for one in done], sum(one.output_tokens for one in done)


def by_generate(
    model: Any, tokenizer: Any, chats: Chats, batch_size: int, options: argparse.Namespace
) -> tuple[list[str], int]:
    """Answer by `model.generate`; return texts, and 0 for tokens, which it does not tell."""
    texts: list[str] = []
    for start in range(0, len(chats), batch_size):
        inputs = tokenizer.apply_chat_template(
            chats[start : start + batch_size],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
            padding_side="left",
        )
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=options.max_new_tokens,
            do_sample=False,
        )
        width = inputs["input_ids"].shape[1]
        texts += tokenizer.batch_decode(ids[:, width:], skip_special_tokens=True)
    return texts, 0


def student_of(run: Path, n_answers: int) -> tuple[Any, Any, Chats]:
    """Return the student of a run, and the questions that its evaluation asked."""
    from stratos.models.pretrained import load_model, load_tokenizer

    folder = run / "distill" / "student"
    lines = (run / "evaluate" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["messages"] for line in lines[:n_answers]]
    return load_model(folder, dtype="auto").eval(), load_tokenizer(folder), chats


def random_student(n_answers: int) -> tuple[Any, Any, Chats]:
    """Return a Llama of random weights, whose answers have very unlike lengths, and questions."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = [f"w{index}" for index in range(253)]
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<end>", "<sep>", *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.content }} <sep> {% endfor %}"
    )
    # Large random weights write varied text instead of one word over and over, so that the end
    # token comes up now and then.
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=384,
            max_position_embeddings=1024,
            initializer_range=0.3,
            tie_word_embeddings=True,
            eos_token_id=1,
            pad_token_id=0,
        )
    ).eval()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=draw.randint(14, 24))) for _ in range(n_answers)]
    return model, tokenizer, [[{"role": "user", "content": text}] for text in texts]


if __name__ == "__main__":
    main()
