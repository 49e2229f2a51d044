"""Fill the logits cache: check its size, then compute shards in several processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.core.context import Context
from stratos.core.errors import ConfigError
from stratos.distill.data import Encoded, pack
from stratos.distill.head import Projection, chunk_rows
from stratos.distill.objectives.signals import EMPTY, Dense, Hidden, Sampled, TopK
from stratos.distill.signal.cache import About, SignalCache

BATCH_TOKENS = 8192
"""Tokens that the teacher reads at once."""


def n_bytes(cache: SignalCache) -> int:
    """Return the size of a cache, which is known exactly but for some headers."""
    return cache.n_places * cache.about.bytes_per_token


def shown_size(cache: SignalCache) -> str:
    """Return the size of a cache as one line."""
    return (
        f"{cache.n_places:,} tokens x {cache.about.bytes_per_token} bytes = "
        f"{n_bytes(cache) / 2**30:.3g} GiB"
    )


def check_size(cache: SignalCache, missing: list[int], limit_gib: float) -> None:
    """Check that a cache stays below its limit, and that the disk has room for what is missing.

    Raises:
        ConfigError: it does not, or its place cannot be reached.
    """
    size, about = shown_size(cache), cache.about
    advice = f"strategy.cache_gib={n_bytes(cache) / 2**30 * 1.01:.3g}"
    if n_bytes(cache) > limit_gib * 2**30:
        per_slot = about.bytes_per_token / (about.k + 1)
        k = int(limit_gib * 2**30 / max(1, cache.n_places) / per_slot) - 1
        if k > 0:
            advice += f", strategy.top_k={k}"
        raise ConfigError(
            f"The signal cache would take {size}, more than strategy.cache_gib={limit_gib:g}. "
            f"Type: {advice}, or strategy.cache=none to ask the teacher at every step."
        )
    cache.store.prepare()
    needed = sum(cache.n_places_of(shard) for shard in missing) * about.bytes_per_token
    free = shutil.disk_usage(cache.store.folder).free
    if needed > free:
        raise ConfigError(
            f"The signal cache would take {size}, and {cache.store.folder} has only "
            f"{free / 2**30:.3g} GiB left. Free the disk, choose another with paths.cache_dir=…, "
            "or strategy.cache=none to ask the teacher at every step."
        )


def fill(
    cache: SignalCache,
    missing: list[int],
    source: Any,
    data: Encoded,
    context: Context,
) -> None:
    """Have a teacher score the documents of the missing shards.

    A shard that another process works on is left to it; if that process dies, its lock is free and
    the shard is computed here.

    Args:
        cache: where the shards go.
        missing: which of them to compute.
        source: scores documents.
        data: the documents.
        context: progress.
    """
    what = f"the teacher's signal: {shown_size(cache)}"
    total, done = max(1, sum(cache.n_places_of(shard) for shard in missing)), 0
    context.tick(0, total, what)
    for wait in (False, True):
        remaining = []
        for shard in missing:
            with cache.store.lock(shard, wait) as mine:
                if not mine:
                    remaining.append(shard)
                    continue
                if cache.check(shard) is not None:
                    cache.store.sweep(f"shard-{shard:05d}.safetensors")
                    cache.write(shard, _score(cache, shard, source, data))
            done += cache.n_places_of(shard)
            context.tick(done, total, what)
        missing = remaining


def _score(cache: SignalCache, shard: int, source: Any, data: Encoded) -> dict[str, np.ndarray]:
    """Return the columns of a shard, its documents in order."""
    documents, about = cache.documents(shard), cache.about
    n_places = cache.n_places_of(shard)
    out = {name: np.empty((n_places, n), dtype) for name, (dtype, n) in about.columns.items()}
    base = cache.place_starts[documents[0]]
    for number, batch in enumerate(_batches(documents, data.lengths)):
        columns = _columns(about, source, data, batch, (shard << 16) + number)
        start = 0
        for document in batch:
            first, last = cache.place_starts[document : document + 2] - base
            for name, values in columns.items():
                out[name][first:last] = values[start : start + last - first]
            start += last - first
    return out


def _batches(documents: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Put documents of like length together, about `BATCH_TOKENS` tokens at once."""
    order = documents[np.argsort(lengths[documents], kind="stable")]
    number = np.cumsum(lengths[order]) // BATCH_TOKENS
    yield from np.split(order, np.flatnonzero(np.diff(number)) + 1)


def _columns(
    about: About, source: Any, data: Encoded, documents: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Return what is kept of the learned places of some documents, in their order."""
    texts = [data.text(document) for document in documents]
    batch = pack(texts, data.prompt_lengths[documents], documents)
    signal = source.signal(batch)
    with torch.no_grad():
        if isinstance(signal, TopK):
            return _top_k_columns(about, _resized(signal, about.k + 1))
        generator = torch.Generator(batch.tokens_1N.device)
        # Another process that computes the same shard draws the same tokens.
        generator.manual_seed(int(about.address[:15], 16) ^ seed)
        parts = []
        start = 0
        for logits_RV in _logits(signal):
            targets_R = batch.targets_M[start : start + len(logits_RV)]
            start += len(logits_RV)
            if about.kind == "topk":
                top = TopK.of(logits_RV, about.k, targets_R, about.temperature)
                parts.append(_top_k_columns(about, _resized(top, about.k + 1)))
            else:
                drawn = Sampled.of(logits_RV, about.k, about.temperature, generator=generator)
                assert drawn.logprobs_MS is not None
                parts.append(_typed(about, ids=drawn.ids_MS, logprobs=drawn.logprobs_MS))
    nothing = {name: np.empty((0, width), dtype) for name, (dtype, width) in about.columns.items()}
    return {name: np.concatenate([p[name] for p in parts or [nothing]]) for name in nothing}


def _logits(signal: Hidden | Dense) -> Iterator[Tensor]:
    """Yield the float32 logits of some places at a time, in order."""
    if isinstance(signal, Dense):
        n_rows, n_vocab = signal.logits_MV.shape
        step = chunk_rows(n_rows, n_vocab, signal.logits_MV.device)
        yield from signal.logits_MV.float().split(step)
        return
    weight_VH = signal.head.weight_VH
    projection = Projection.of(
        signal.hidden_NH, signal.rows_M, signal.head, len(weight_VH), weight_VH.dtype
    )
    step = chunk_rows(projection.n_rows, len(weight_VH), weight_VH.device)
    for start in range(0, projection.n_rows, step):
        stop = min(start + step, projection.n_rows)
        product_RV = weight_VH.new_empty(stop - start, len(weight_VH))
        projection.project(start, stop, product_RV)
        logits_RV = product_RV.float()
        projection.bend_(logits_RV)
        yield logits_RV


def _resized(signal: TopK, width: int) -> TopK:
    """Return a signal of so many slots: a small vocabulary or a served teacher gives fewer."""
    n_empty = width - signal.ids_MK.shape[1]
    if n_empty <= 0:
        return signal
    pad = torch.nn.functional.pad
    ids = pad(signal.ids_MK, (0, n_empty), value=EMPTY)
    return TopK(ids, pad(signal.logprobs_MK, (0, n_empty)), signal.tail_M)


def _top_k_columns(about: About, signal: TopK) -> dict[str, np.ndarray]:
    ids = signal.ids_MK.masked_fill(signal.ids_MK >= about.tokenizer.n_ids, EMPTY)
    logprobs = signal.logprobs_MK.float().masked_fill(ids == EMPTY, 0.0)
    tail = signal.tail_M
    if tail is None:
        given = logprobs.double().exp().masked_fill(ids == EMPTY, 0.0).sum(1)
        tail = (1 - given).clamp(min=1e-12).log()
    return _typed(about, ids=ids, logprobs=logprobs, tail=tail[:, None])


def _typed(about: About, **columns: Tensor) -> dict[str, np.ndarray]:
    typed = {}
    for name, values in columns.items():
        dtype = about.columns[name][0]
        array = values.cpu().numpy()
        if name != "ids":
            limit = np.finfo(dtype).max
            array = np.clip(array, -limit, 0)
        typed[name] = array.astype(dtype)  # an empty slot's -1 wraps around to the largest uint16
    return typed
