"""Choose the best source of the teacher's signal that teacher and strategy allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from stratos.core.context import Context
from stratos.core.errors import ConfigError, StratosError, TeacherError
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.distill.data import Batch, Encoded
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.signal.cache import (
    About,
    CachedSource,
    SignalCache,
    Store,
    data_digest,
    open_offline,
)
from stratos.distill.signal.cross_tokenizer import CrossTokenizerSource
from stratos.distill.signal.fill import check_size, fill
from stratos.distill.signal.fingerprint import (
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
