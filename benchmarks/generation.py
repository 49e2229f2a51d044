"""Measure `stratos.decode.batched.complete` against `model.generate` on a CPU.

    python benchmarks/generation.py                  # 1M parameters, 256 answers, one thread
    python benchmarks/generation.py --threads 2 --answers 1000

Both answer the same questions greedily with the same random Llama; answers have very unlike
lengths, as those of a student have. Printed are CPU seconds, tokens per CPU second, their ratio
and the share of answers that are the same to the last token (rounding differs with the size of a
batch, and a random model is quick to tip over).
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    """Run both on one model and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-new-tokens", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from stratos.decode.batched import complete

    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
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
    chats = [
        [{"role": "user", "content": " ".join(draw.choices(words, k=draw.randint(14, 24)))}]
        for _ in range(options.answers)
    ]

    started = time.process_time()
    ours = complete(
        model,
        tokenizer,
        chats,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
    )
    ours_seconds = time.process_time() - started

    started = time.process_time()
    theirs: list[str] = []
    for start in range(0, len(chats), options.batch_size):
        inputs = tokenizer.apply_chat_template(
            chats[start : start + options.batch_size],
            return_tensors="pt",
            return_dict=True,
            padding=True,
        )
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=options.max_new_tokens,
            do_sample=False,
        )
        theirs += tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
    theirs_seconds = time.process_time() - started

    tokens = [completion.output_tokens for completion in ours]
    n_tokens = sum(tokens)
    same = sum(ours.text == text for ours, text in zip(ours, theirs, strict=True)) / len(ours)
    print(
        f"{model.num_parameters():,} parameters, {len(ours)} answers of {min(tokens)} to "
        f"{max(tokens)} tokens (mean {n_tokens / len(ours):.0f}), {options.threads} thread(s)"
    )
    for name, seconds in (("complete", ours_seconds), ("model.generate", theirs_seconds)):
        print(f"{name:15} {seconds:8.1f} CPU s {n_tokens / seconds:10,.0f} tokens/CPU s")
    print(f"ratio {theirs_seconds / ours_seconds:.2f}, same answers {same:.1%}")
    if options.keep:
        from record import keep

        found = {
            "settings": vars(options),
            "parameters": model.num_parameters(),
            "tokens": n_tokens,
            "cpu_s": {"stratos": ours_seconds, "model.generate": theirs_seconds},
            "ratio": theirs_seconds / ours_seconds,
            "same": same,
        }
        keep("generation", found, seed=0)


if __name__ == "__main__":
    main()
