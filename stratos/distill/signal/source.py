"""Choose the best source of the teacher's signal that teacher and strategy allow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from stratos.core.context import Context
from stratos.core.errors import ConfigError, StratosError, TeacherError
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.distill.data import Batch, Encoded, pack
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.head import Projection, chunk_rows
from stratos.distill.objectives import EMPTY, Dense, Hidden, Sampled, TopK
from stratos.distill.signal.cache import (
    About,
    CachedSource,
    SignalCache,
    Store,
    data_digest,
    open_offline,
)
from stratos.distill.signal.cross_tokenizer import (
    CrossTokenizerSource,
    check_same,
    difference,
    fingerprint,
    tokens_by_id,
)
from stratos.distill.signal.local import LocalSource, Reader, SignalSource
from stratos.distill.signal.served import NoLogprobs, ServedSource, expect_usd
from stratos.distill.signal_config import SignalConfig
from stratos.distill.words import (
    LessSignal,
    NoDistributions,
    OnlyAnswers,
    PaidEachTime,
    ServedTopK,
    SignalTooDear,
)
from stratos.teachers.base import SignalKind, Teacher

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


FOLDER = "signals"
"""Folder of the caches in the cache folder that runs share."""

Prompts = Sequence[np.ndarray]


class TextSource(SignalSource):
    """A teacher that has only its text to give: there is cross-entropy on that alone."""

    kind = "text"
    reason: Reason

    def __init__(self, reason: Reason) -> None:
        self.reason = reason

    @override
    def signal(self, batch: Batch) -> None:
        return None


def open_source(
    teacher: Any,
    signal: SignalConfig,
    tokenizer: Any,
    data: Encoded,
    context: Context,
    prompts: Prompts | None = None,
    is_forced: bool = True,
) -> SignalSource:
    """Return the best source that teacher and strategy allow; what falls to text is said.

    Args:
        teacher: a configured teacher; not asked where a cache has all.
        signal: what the strategy wants of it.
        tokenizer: the student's.
        data: documents in the student's tokens.
        context: cache folder, ledger, progress, warnings.
        prompts: the teacher's own prompt of each document, in its tokens, where it reads more
            than the student does (examples, another template); None for the student's.
        is_forced: the user named this strategy. A cache whose price passes what is left of the
            budget is refused then, else the teacher teaches by its text.

    Raises:
        BudgetError: the cache is too dear.
        TokenizerMismatch: teacher, or cache, and student do not speak in the same tokens.
        ConfigError: choices that exclude each other, or a cache that would grow too large.
        TeacherError: the teacher cannot be loaded or reached.
    """
    signal.check()
    fetched = context.cache_dir / FOLDER
    if signal.cache_path is not None:
        digest = data_digest(data, prompts)
        store = Store(signal.cache_path, fetched)
        cache = open_offline(store, fingerprint(tokenizer), data, digest)
        _check_temperature(cache, signal)
        if missing := cache.missing(context.warn):
            raise StratosError(
                f"The signal cache {signal.cache_path} lacks {len(missing)} of "
                f"{counted(len(cache), 'shard')}. Copy it whole, or let the teacher make one: "
                "strategy.cache_path=null"
            )
        return CachedSource(cache)
    if signal.cache == "none":
        return _said(_live(teacher, signal, tokenizer, data, context, prompts), teacher, context)
    kind = signal.cache
    if kind == "sampled" and teacher.signal is SignalKind.LOGPROBS:
        context.warn(str(ServedTopK(teacher.name)))
        kind = "topk"
    tokens = fingerprint(tokenizer)
    about = About(
        teacher=teacher.identity(),
        tokenizer=tokens,
        data=data_digest(data, prompts),
        kind=kind,
        k=signal.top_k if kind == "sampled" else min(signal.top_k, tokens.n_ids),
        dtype=signal.cache_dtype,
        temperature=signal.temperature,
    )
    parent = signal.cache_url or str(context.cache_dir / FOLDER)
    cache = SignalCache(Store(f"{parent.rstrip('/')}/{about.address}", fetched), about, data)
    if missing := cache.missing(lambda text: context.warn(f"{text} It is computed again.")):
        check_size(cache, missing, signal.cache_gib)
        documents = np.concatenate([cache.documents(shard) for shard in missing])
        live = _live(teacher, signal, tokenizer, data, context, prompts, documents, is_forced)
        try:
            if isinstance(live, TextSource):
                return _said(live, teacher, context)
            _said(live, teacher, context)
            fill(cache, missing, live, data, context)
        finally:
            live.close()
    return CachedSource(cache)


def _said(source: SignalSource, teacher: Any, context: Context) -> SignalSource:
    """Say what a source cannot give."""
    if isinstance(source, TextSource):
        context.warn(str(NoDistributions(teacher.name, source.reason)))
    elif source.reason is not None:
        context.warn(str(LessSignal(teacher.name, source.reason)))
    return source


def _live(
    teacher: Any,
    signal: SignalConfig,
    tokenizer: Any,
    data: Encoded,
    context: Context,
    prompts: Prompts | None,
    documents: np.ndarray | None = None,
    is_forced: bool = True,
) -> SignalSource:
    """Return a source that asks the teacher at every batch, or one of text alone.

    Where it will be asked for some documents once, what these cost is held against the budget.

    Raises:
        BudgetError: it is more than is left, and the strategy is forced.
    """
    if teacher.signal is SignalKind.WEIGHTS:
        return _local(teacher, signal, tokenizer, data, prompts)
    if teacher.signal is SignalKind.TEXT:
        return TextSource(OnlyAnswers(type(teacher).__name__))
    if reason := signal.beyond_servers():
        return TextSource(reason)
    if signal.cache == "none" and teacher.usd_per_million_input_tokens:
        context.warn(str(PaidEachTime(teacher.name)))
    if documents is not None:
        estimate = expect_usd(teacher, tokenizer, documents, data, prompts, context)
        if estimate.passes_limit and not is_forced:
            context.ledger.cut()
            assert estimate.left_usd is not None
            n, usd = estimate.n_asked, estimate.usd.mean
            return TextSource(SignalTooDear(n, usd, estimate.left_usd, estimate.n_fitting))
        estimate.check("learn from its verified text (strategy=alignment)")
    try:
        return ServedSource(teacher, tokenizer, signal.top_k, context.ledger, prompts)
    except NoLogprobs as error:
        return TextSource(error.reason)


def _local(
    teacher: Teacher,
    signal: SignalConfig,
    tokenizer: Any,
    data: Encoded,
    prompts: Prompts | None,
) -> SignalSource:
    theirs = teacher.tokenizer()
    across = signal.only_shared or (
        DIVERGENCES[signal.objective].reads_any_vocabulary
        and difference(tokenizer, theirs) is not None
    )
    longest = int(data.lengths.max())
    if prompts is not None:
        own = np.array([len(prompt) for prompt in prompts])
        longest = int((data.lengths - data.prompt_lengths + own).max())
    if not across:
        check_same(tokenizer, theirs)
        highest = int(data.tokens.max())
        _check_ids(teacher, theirs, highest)
    context_length = teacher.card().context_length
    if not across and context_length and longest > context_length:
        raise TeacherError(
            f"Teacher {teacher.name} reads {context_length:,} tokens at most, and the longest "
            f"training item has {longest:,}. Type: student.context_length={context_length}, or "
            "choose a teacher with a longer context."
        )
    model, _ = teacher.load()
    n_ids = fingerprint(theirs).n_ids
    reader = Reader(model, n_ids, longest, signal.hidden_match > 0)
    if signal.hidden_match and not reader.gives_hidden:
        teacher.close()
        raise TeacherError(
            f"Teacher {teacher.name} computes its logits in its own way, so only its logits are "
            "used, without hidden states: strategy.hidden_match=0"
        )
    if across:
        return CrossTokenizerSource(
            reader, theirs, tokenizer, prompts, signal.only_shared, teacher.close
        )
    return LocalSource(reader, prompts, teacher.close)


def _check_ids(teacher: Teacher, tokenizer: Any, highest: int) -> None:
    """Check that the data have no token that the student's tokenizer added for itself.

    Raises:
        TeacherError: they have.
    """
    if highest > max(tokens_by_id(tokenizer)):
        raise TeacherError(
            f"Teacher {teacher.name} does not know id {highest}, which only the student's "
            "tokenizer has. Take a student with the teacher's tokenizer, or learn from the "
            "teacher's verified text: strategy=alignment"
        )


def _check_temperature(cache: SignalCache, signal: SignalConfig) -> None:
    about = cache.about
    if about.temperature != signal.temperature:
        raise ConfigError(
            f"The signal cache {cache.store.url} was made at temperature {about.temperature:g}: "
            f"strategy.temperature={about.temperature:g}, or strategy.cache_path=null"
        )
    if about.kind == "sampled" and not DIVERGENCES[signal.objective].reads_drawn_tokens:
        raise ConfigError(
            f"The signal cache {cache.store.url} holds sampled tokens, which estimate the forward "
            f"KL, not {signal.objective}: strategy.objective=forward_kl"
        )
