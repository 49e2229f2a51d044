"""A served teacher that scores given text: the `prompt_logprobs` of vLLM's completions.

Chat endpoints tell log-probabilities of tokens that they write themselves, and some servers drop
the setting without a word. One request at construction tells what this one gives.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.distill.data import Batch, Encoded
from stratos.distill.objectives import EMPTY, TopK
from stratos.distill.signal.cross_tokenizer import TokenizerMismatch, fingerprint
from stratos.distill.signal.local import SignalSource, split
from stratos.distill.words import (
    FewerTokens,
    OtherToken,
    OtherTokensScored,
    ScoringIgnored,
    ScoringRefused,
)
from stratos.ledger import Ledger
from stratos.records import Interval
from stratos.teachers.base import Billed
from stratos.teachers.cost_estimate import CostEstimate
from stratos.teachers.endpoint import Endpoint
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.reply import sort
from stratos.teachers.scheduler import wait_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_LIMIT = 20
"""Log-probabilities a token that vLLM gives where its --max-logprobs is not set."""
_PROBED_IDS = 192


class NoLogprobs(Exception):
    """The endpoint does not score given text."""

    def __init__(self, reason: Reason) -> None:
        """Take why not."""
        super().__init__(str(reason))
        self.reason = reason


def expect_usd(
    teacher: OpenAITeacher,
    tokenizer: Any,
    documents: np.ndarray,
    data: Encoded,
    prompts: Sequence[np.ndarray] | None,
    context: Context,
) -> CostEstimate:
    """Say what scoring documents once will cost, and return it.

    The tokens are known: every request reads one document and writes one token more. What comes on
    top is the one request that tells whether the endpoint scores at all.
    """
    n = len(documents)
    n_tokens = int(data.lengths[documents].sum())
    if prompts is not None:
        n_tokens -= int(data.prompt_lengths[documents].sum())
        n_tokens += sum(len(prompts[document]) for document in documents)
    n_tokens += len(_probed_ids(tokenizer))
    usd = _usd(teacher, n_tokens, n + 1)
    estimate = CostEstimate(
        teacher=teacher.name,
        n_questions=n,
        n_asked=n,
        input_tokens=Interval(n_tokens, n_tokens, n_tokens, "the documents"),
        output_tokens=Interval(n + 1, n + 1, n + 1, "one a request"),
        usd=Interval(usd, usd, usd, "the documents"),
        left_usd=context.ledger.left_usd(),
        noun="documents",
    )
    estimate.show(context)
    return estimate


def _usd(teacher: OpenAITeacher, n_tokens: int, n_requests: int) -> float:
    usd_per_million = teacher.usd_per_million_input_tokens or 0.0
    output_usd_per_million = teacher.usd_per_million_output_tokens or 0.0
    return (n_tokens * usd_per_million + n_requests * output_usd_per_million) / 1e6


class ServedSource(SignalSource):
    """Scores a batch over HTTP, one request a document, several at once."""

    kind = "topk"
    is_served = True

    def __init__(
        self,
        teacher: OpenAITeacher,
        tokenizer: Any,
        k: int,
        ledger: Ledger,
        prompts: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Ask the endpoint once.

        Args:
            teacher: where it lies, and what it costs.
            tokenizer: the student's; the endpoint must have the same.
            k: log-probabilities wanted a token.
            ledger: where what is paid is set aside.
            prompts: the teacher's own prompt of each document; None for the student's.

        Raises:
            NoLogprobs: the endpoint gives none.
            TokenizerMismatch: its ids mean something else.
            TeacherError: it cannot be reached.
        """
        self._teacher, self._ledger, self._prompts = teacher, ledger, prompts
        self._n_ids = fingerprint(tokenizer).n_ids
        teacher.key()  # there is one
        self._endpoint = Endpoint(teacher, teacher.base_urls[0])
        self._pool = ThreadPoolExecutor(teacher.concurrency)
        try:
            self.k = self._probe(tokenizer, k)
        except BaseException:
            self.close()
            raise
        if self.k < k:
            self.reason = FewerTokens(self.k, k)

    def signal(self, batch: Batch) -> TopK:
        """Return the k likeliest tokens of each learned place, and the text's own."""
        documents = split(batch)
        prompts = documents.prompts
        if self._prompts is not None:
            prompts = [self._prompts[document] for document in batch.document_ids_D]
        texts = [
            [*p.tolist(), *c.tolist()] for p, c in zip(prompts, documents.completions, strict=True)
        ]
        with self._paid(texts):
            scored = list(self._pool.map(self._explained_score, texts))
        ids, logprobs = [], []
        for text, prompt, places in zip(texts, prompts, scored, strict=True):
            for position in range(len(prompt), len(text)):
                ids_K, logprobs_K = _slots(places[position], text[position], self.k)
                ids.append(ids_K)
                logprobs.append(logprobs_K)
        device = batch.tokens_1N.device
        shape = (len(ids), self.k + 1)
        return TopK(
            torch.tensor(ids, dtype=torch.int64, device=device).view(shape),
            torch.tensor(logprobs, dtype=torch.float32, device=device).view(shape),
            n_ids=self._n_ids,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._endpoint.close()

    def _probe(self, tokenizer: Any, k: int) -> int:
        """Return how many log-probabilities a token the endpoint gives; compare what ids mean."""
        ids = _probed_ids(tokenizer)
        for limit in dict.fromkeys((k, min(k, DEFAULT_LIMIT))):
            try:
                with self._paid([ids]):
                    places = self._score(ids, limit)
            except _Refused as error:
                refusal = str(error)
                continue
            self._check_tokens(tokenizer, ids, places)
            return limit
        raise NoLogprobs(ScoringRefused(self._teacher.base_urls[0], refusal))

    def _check_tokens(self, tokenizer: Any, ids: list[int], places: list[Any]) -> None:
        """Compare the endpoint's own words for ids with the student's."""
        for id_, entry in zip(ids[1:], places[1:], strict=True):
            theirs = entry[str(id_)].get("decoded_token")
            ours = tokenizer.decode([id_])
            known = theirs is not None and "\ufffd" not in theirs + ours
            # Some decoders take the space from the start of a text.
            if known and theirs.strip(" ▁Ġ") != ours.strip(" ▁Ġ"):
                raise TokenizerMismatch(
                    "Student and teacher have different tokenizers.\n"
                    f"  student  {fingerprint(tokenizer)}\n"
                    f"  teacher  {self._teacher.model} at {self._teacher.base_urls[0]}\n"
                    f"{OtherToken(id_, ours, theirs)}\n"
                    "Learn from the teacher's verified text: strategy=alignment; or give its "
                    "weights here (teacher=local teacher.path=<folder>) with "
                    "strategy.objective=universal_logit"
                )

    def _explained_score(self, ids: list[int]) -> list[Any]:
        try:
            return self._score(ids, self.k)
        except (_Refused, NoLogprobs) as error:
            raise TeacherError(
                f"Teacher {self._teacher.name}: {self._teacher.base_urls[0]} no longer scores text "
                f"of {counted(len(ids), 'token')} ({error}). Check that it fits the model's "
                "context; what is in the signal cache is kept: give the same command again."
            ) from error

    def _score(self, ids: list[int], k: int) -> list[Any]:
        """Return what the endpoint says of each token of a text: {id: {"logprob": …}}, or None."""
        reply = self._answered(ids, k)
        choices = getattr(reply, "choices", None) or [None]
        places = getattr(choices[0], "prompt_logprobs", None)
        if not places:
            raise NoLogprobs(ScoringIgnored(self._teacher.base_urls[0]))
        if len(places) != len(ids) or any(
            not entry or str(id_) not in entry
            for id_, entry in zip(ids[1:], places[1:], strict=True)
        ):
            raise NoLogprobs(OtherTokensScored(self._teacher.base_urls[0]))
        scored: list[Any] = places
        return scored

    def _answered(self, ids: list[int], k: int) -> Any:
        """Ask until there is a reply; a try that may be billed and brought none is paid for."""
        import openai

        async def make(client: AsyncOpenAI) -> Any:
            return await client.completions.create(
                model=self._teacher.model,
                prompt=ids,
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": k},
            )

        n_tries = 0
        while True:
            n_tries += 1
            try:
                return self._endpoint.call(make, self._teacher.timeout_s)
            except (
                openai.BadRequestError,
                openai.NotFoundError,
                openai.UnprocessableEntityError,
            ) as error:
                raise _Refused(f"HTTP {error.status_code}") from error
            except Exception as error:
                if getattr(error, "status_code", None) in (405, 501):
                    raise _Refused(f"HTTP {getattr(error, 'status_code', '')}") from error
                outcome = sort(error)
                if not outcome.passing or n_tries > self._teacher.max_retries:
                    raise self._failed(error) from error
                if outcome.billed is not Billed.NOTHING:
                    with self._paid([ids]):
                        pass
            time.sleep(wait_s(n_tries, outcome.retry_after_s, random.random))

    def _failed(self, error: Exception) -> TeacherError:
        status = getattr(error, "status_code", None)
        reason = f"HTTP {status}" if status else str(error)[:200] or type(error).__name__
        return TeacherError(
            f"Teacher {self._teacher.name}: {self._teacher.base_urls[0]} gave no score after "
            f"{counted(self._teacher.max_retries + 1, 'try', 'tries')} ({reason}). Check "
            "teacher.base_url and the key; what is in the signal cache is kept: give the same "
            "command again."
        )

    @contextmanager
    def _paid(self, texts: list[list[int]]) -> Iterator[None]:
        """Pay for the scoring of texts: every request reads one, and writes one token more."""
        teacher = self._teacher
        usd = _usd(teacher, sum(map(len, texts)), len(texts))
        if not usd:
            yield
            return
        with self._ledger.reserve(f"teacher {teacher.name}", usd) as reservation:
            try:
                yield
            except _Refused:
                reservation.settle(0.0)  # what is refused is not billed
                raise
            reservation.settle(usd)


class _Refused(Exception):
    """The endpoint does not take the request."""


def _probed_ids(tokenizer: Any) -> list[int]:
    """Return ids from all over a vocabulary, in order."""
    special = set(tokenizer.all_special_ids)
    ids = sorted(id_ for id_ in tokenizer.get_vocab().values() if id_ not in special)
    return ids[:: max(1, len(ids) // _PROBED_IDS)]


def _slots(entry: dict[str, Any], target: int, k: int) -> tuple[list[int], list[float]]:
    """Return k + 1 slots: the likeliest tokens, and the text's own where it is not among them."""
    likeliest = sorted(
        ((scored["logprob"], int(id_)) for id_, scored in entry.items()), reverse=True
    )
    slots = likeliest[:k]
    if all(id_ != target for _, id_ in slots):
        slots.append(next(slot for slot in likeliest if slot[1] == target))
    n_empty = k + 1 - len(slots)
    ids = [id_ for _, id_ in slots] + [EMPTY] * n_empty
    # JSON has no infinity: an impossible token is a large negative number.
    return ids, [max(-1e4, logprob) for logprob, _ in slots] + [0.0] * n_empty
