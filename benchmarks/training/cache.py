r"""The signal cache: its size, and what it saves of a training step.

    python benchmarks/training/cache.py --keep
    python benchmarks/training/cache.py --vocab 32000 --teacher-width 576 --teacher-layers 16

A random Llama teaches a smaller one on random tokens, half of them learned, one thread. Filling is
what `strategy.cache=topk` does before the first step; a step is the student's packed body, head and
loss (`head_loss`), backward, clipping and AdamW, with the teacher asked (online) or its cache read.
Tokens are all tokens of the rows; CPU seconds are user and system time of the process. Steps of the
two alternate, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import record


def model(vocab: int, width: int, layers: int, seed: int) -> Any:
    """Return a random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=8 * width // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def documents(n: int, vocab: int) -> Any:
    """Return random documents of 128 to 384 tokens; the second half of each is learned."""
    import numpy as np

    from stratos.distill.data import Encoded

    rng = np.random.default_rng(0)
    lengths = rng.integers(128, 385, n)
    return Encoded(
        tokens=rng.integers(0, vocab, lengths.sum()).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        prompt_lengths=lengths // 2,
        items=np.arange(n),
    )


def step(student: Any, optimizer: Any, source: Any, batch: Any) -> None:
    """Train on one packed row."""
    import torch

    from stratos.distill.head import head_loss
    from stratos.distill.objectives import LMHead, Objective

    hidden = student.base_model(
        input_ids=batch.tokens_1N,
        position_ids=batch.positions_1N,
        documents=batch.documents,
        use_cache=False,
    ).last_hidden_state
    rows, signal = batch.rows_M, source.signal(batch)
    loss = head_loss(
        hidden, LMHead.of(student), signal, Objective(), len(rows), rows, batch.targets_M
    )
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def filled(options: argparse.Namespace, data: Any, online: Any, folder: Path) -> tuple[Any, float]:
    """Return the full cache, and the CPU seconds that filling it took."""
    from stratos.distill.signal.cache import About, SignalCache, Store
    from stratos.distill.signal.cross_tokenizer import Fingerprint
    from stratos.distill.signal.source import fill

    fingerprint = Fingerprint("random", "", options.vocab)
    about = About("random", fingerprint, "", options.cache, options.top_k, "float16", 1.0)
    cache = SignalCache(Store(str(folder / "cache"), folder), about, data)
    start = time.process_time()
    fill(cache, list(range(len(cache))), online, data, SimpleNamespace(tick=lambda *_: None))
    return cache, time.process_time() - start


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill a cache, train beside it, and return what both took."""
    import numpy as np
    import torch

    from stratos.distill import packed
    from stratos.distill.data import pack
    from stratos.distill.signal.cache import CachedSource
    from stratos.distill.signal.local import LocalSource, Reader

    torch.set_num_threads(1)
    teacher = model(options.vocab, options.teacher_width, options.teacher_layers, 0).eval()
    student = model(options.vocab, options.width, options.layers, 1)
    student.set_attn_implementation(packed.NAME)
    optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
    data = documents(options.documents, options.vocab)
    online = LocalSource(Reader(teacher, options.vocab, 2048))
    cache, fill_s = filled(options, data, online, folder)
    order = np.random.default_rng(2).permutation(len(data))
    sources = {"online": online, "cache": CachedSource(cache)}
    used, reading, n_tokens = dict.fromkeys(sources, 0.0), 0.0, 0
    for number, part in enumerate(np.split(order, len(order) // options.rows)):
        batch = pack([data.text(d) for d in part], data.prompt_lengths[part], part)
        for name, source in sources.items():
            start = time.process_time()
            step(student, optimizer, source, batch)
            used[name] += (time.process_time() - start) * (number > 0)  # the first sets things up
        if number:
            n_tokens += batch.tokens_1N.numel()
            start = time.process_time()
            sources["cache"].signal(batch)
            reading += time.process_time() - start
    cached = used["cache"] / n_tokens
    on_disk = sum(path.stat().st_size for path in (folder / "cache").glob("shard-*"))
    return {
        "settings": vars(options),
        "bytes_per_token": on_disk / cache.n_places,
        "tokens_per_cpu_s": {name: n_tokens / seconds for name, seconds in used.items()},
        "later_epoch_over_first": (fill_s / len(data.tokens) + cached) / cached,
        "cache_over_online": used["online"] / used["cache"],
        "reading_share": reading / used["cache"],
    }


def main() -> None:
    """Measure."""
    parser = record.arguments(__doc__)
    parser.add_argument("--vocab", type=int, default=16_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--teacher-width", type=int, default=384)
    parser.add_argument("--teacher-layers", type=int, default=12)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--rows", type=int, default=8, help="documents of a step")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--cache", default="topk", choices=["topk", "sampled"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(options, Path(folder))
    record.finish(f"distillation/cache_{options.cache}", result, options, seed=0)


if __name__ == "__main__":
    main()
