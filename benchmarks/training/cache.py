r"""The signal cache: size, rates, and what it saves of a training step.

    python benchmarks/training/cache.py
    python benchmarks/training/cache.py --vocab 32000 --teacher-width 576 --teacher-layers 16

A random Llama teaches a smaller one on random tokens, half of them learned, one thread. Filling is
what `strategy.cache=topk` does before the first step; a step is the student's packed body, head and
loss (`head_loss`), backward, clipping and AdamW, with the teacher asked (online) or its cache read.
Tokens are all tokens of the rows; CPU seconds are user and system time of the process. Steps of the
two ways alternate, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def model(vocab: int, width: int, layers: int, seed: int) -> Any:
    """Return a random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=8 * width // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        )
    )


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


def step(student: Any, optimizer: Any, source: Any, batch: Any) -> float:
    """Train on one packed row; return the loss."""
    import torch

    from stratos.distill.head import head_loss
    from stratos.distill.objectives.base import Objective
    from stratos.distill.objectives.signals import LMHead

    hidden = student.base_model(
        input_ids=batch.tokens_1N,
        position_ids=batch.positions_1N,
        documents=batch.documents,
        use_cache=False,
    ).last_hidden_state
    loss = head_loss(
        hidden,
        LMHead.of(student),
        source.signal(batch),
        Objective(),
        len(batch.rows_M),
        batch.rows_M,
        batch.targets_M,
    ).total
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def rates(cache: Any, data: Any, folder: Path) -> None:
    """Print how fast shards are written and places are read."""
    import numpy as np

    from stratos.distill.signal.cache import CachedSource, SignalCache, Store

    columns = {name: np.array(values) for name, values in cache._shards[0].items()}
    copy = SignalCache(Store(str(folder / "copy"), folder), cache.about, data)
    size = cache.n_places_of(0) * cache.about.bytes_per_token
    began, wall = time.process_time(), time.perf_counter()
    for _ in range(5):
        copy.write(0, columns)
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    print(
        f"write   {5 * size / cpu / 1e6:8.0f} MB a CPU second, {5 * size / wall / 1e6:.0f} MB/s "
        "(digest, file, read back, fsync)"
    )
    source, rng = CachedSource(cache), np.random.default_rng(1)
    batches = [rows(data, rng.permutation(len(data))[:16]) for _ in range(20)]
    source.signal(batches[0])
    began = time.process_time()
    n_places = sum(len(source.signal(batch).ids_MK) for batch in batches)
    cpu = time.process_time() - began
    print(
        f"read    {n_places * cache.about.bytes_per_token / cpu / 1e6:8.0f} MB a CPU second, "
        f"{n_places / cpu:,.0f} tokens (shuffled documents, to the tensors of the loss)"
    )


def rows(data: Any, chosen: Any) -> Any:
    """Pack documents."""
    from stratos.distill.data import pack

    return pack([data.text(d) for d in chosen], data.prompt_lengths[chosen], chosen)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", type=int, default=16_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--teacher-width", type=int, default=384)
    parser.add_argument("--teacher-layers", type=int, default=12)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--rows", type=int, default=8, help="documents of a step")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--cache", default="topk", choices=["topk", "sampled"])
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import numpy as np
    import torch

    from stratos.distill import packed
    from stratos.distill.signal.cache import About, CachedSource, SignalCache, Store
    from stratos.distill.signal.fill import fill
    from stratos.distill.signal.fingerprint import Fingerprint
    from stratos.distill.signal.local import LocalSource, Reader

    torch.set_num_threads(1)
    teacher = model(arguments.vocab, arguments.teacher_width, arguments.teacher_layers, 0).eval()
    student = model(arguments.vocab, arguments.width, arguments.layers, 1)
    student.set_attn_implementation(packed.NAME)
    optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
    data = documents(arguments.documents, arguments.vocab)
    sizes = [sum(p.numel() for p in one.parameters()) / 1e6 for one in (teacher, student)]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread")
    print(f"torch {torch.__version__}, vocabulary {arguments.vocab:,}")
    print(f"teacher {sizes[0]:.1f}M parameters, student {sizes[1]:.1f}M, float32")

    online = LocalSource(Reader(teacher, arguments.vocab, 2048))
    about = About(
        "random", Fingerprint("random", "", arguments.vocab), "", arguments.cache,
        arguments.top_k, "float16", 1.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cache = SignalCache(Store(str(folder / "cache"), folder), about, data)
        context = SimpleNamespace(tick=lambda *told: None)
        began, wall = time.process_time(), time.perf_counter()
        predicted = fill(cache, list(range(len(cache))), online, data, context)
        fill_seconds, wall = time.process_time() - began, time.perf_counter() - wall
        on_disk = sum(path.stat().st_size for path in (folder / "cache").glob("shard-*"))
        print(
            f"size    {on_disk / cache.n_places:8.1f} bytes a learned token "
            f"(predicted {predicted.bytes_per_token}), {on_disk / 1e6:.1f} MB"
        )
        print(
            f"fill    {len(data.tokens) / fill_seconds:8,.0f} tokens a CPU second; {wall:.1f} s "
            f"with the trial ({fill_seconds:.1f} CPU s), predicted {predicted.seconds:.1f} s"
        )
        if arguments.cache == "topk":
            rates(cache, data, folder)

        order = np.random.default_rng(2).permutation(len(data))
        batches = [rows(data, part) for part in np.split(order, len(order) // arguments.rows)]
        ways = {"online": online, "cache": CachedSource(cache)}
        used = dict.fromkeys(ways, 0.0)
        reading = 0.0
        n_tokens = 0
        for number, batch in enumerate(batches):
            for way, source in ways.items():
                began = time.process_time()
                step(student, optimizer, source, batch)
                if number:  # the first one sets things up
                    used[way] += time.process_time() - began
            if number:
                n_tokens += batch.tokens_1N.numel()
                began = time.process_time()
                ways["cache"].signal(batch)
                reading += time.process_time() - began
        for way, seconds in used.items():
            print(f"step    {n_tokens / seconds:8,.0f} tokens a CPU second, {way}")
        cached = used["cache"] / n_tokens
        first = fill_seconds / len(data.tokens) + cached
        print(f"epoch   {1 / first:8,.0f} tokens a CPU second, the first, which fills the cache")
        print(
            f"a later epoch has {first / cached:.2f}x the tokens a CPU second of the first, and "
            f"{used['online'] / used['cache']:.2f}x of asking the teacher again; "
            f"reading is {reading / used['cache']:.1%} of its steps"
        )
        if arguments.keep:
            sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
            from record import keep

            found = {
                "settings": {**vars(arguments)},
                "bytes_per_token": on_disk / cache.n_places,
                "tokens_per_cpu_s": {way: n_tokens / seconds for way, seconds in used.items()},
                "later_epoch_over_first": first / cached,
                "cache_over_online": used["online"] / used["cache"],
                "reading_share": reading / used["cache"],
            }
            keep(f"distillation/cache_{arguments.cache}", found, seed=0)


if __name__ == "__main__":
    main()
