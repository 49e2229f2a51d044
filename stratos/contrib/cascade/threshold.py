"""The threshold of a cascade, with a promise of its accuracy that holds with a stated probability.

    escalate an item if its confidence < t         the log-probability of the student's answer
    R(t)    share of wrong answers of the cascade  the teacher's where it is asked
    promise: R(t) ≤ 1 - A for the t that is chosen, with a probability of at least 1 - δ

over draws of the n items that choose it, those without a promise among them. It is no share of the
promises that are given: where nothing keeps A, the few that are given are all broken.

For every threshold of a fixed list, the hypothesis "R(t) > 1 - A" is tested: with k wrong of n its
p-value is P(Binomial(n, 1 - A) ≤ k), which is exact. The list is gone through from both ends, from
"ask the teacher always" and from "never", each up to the first threshold whose p-value is above δ/2
(fixed-sequence testing). Those before it pass, so that the probability that any of them breaks the
promise is at most δ. The one that escalates least is taken. (Angelopoulos, Bates, Candès, Jordan
and Lei, Learn then Test, 2021: conformal risk control for a risk that need not fall with t. Here it
may rise, where the teacher is wrong and the student right.)

    probability    the sum of the log-probabilities of the answer's tokens, which the server tells
    agreement      log((1 + a) / (2 + k)), a of k drawn answers that say the same as the greedy one

An answer that the task refutes (`Task.refute`) has minus infinity, and goes to the teacher in any
case. The endpoint and the items that choose its threshold are asked by the same code.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stratos.core.errors import StratosError
from stratos.deploy.engines.base import engine_named
from stratos.tasks.base import Item, Message, Task

if TYPE_CHECKING:
    import httpx


TEMPERATURE = 1.0
"""Of drawn answers."""


class StudentError(StratosError):
    """The student's server gave no answer."""

    def __init__(self, status: int, body: bytes, why: str) -> None:
        super().__init__(why)
        self.status, self.body = status, body


@dataclass(frozen=True)
class StudentAnswer:
    """One answer of the student."""

    reply: Mapping[str, Any]
    """What the server sent: a chat completion."""
    text: str
    confidence: float
    """Log of a probability; minus infinity where the task refutes the answer."""
    seconds: float


@dataclass(frozen=True)
class Judge:
    """What asks a student, and tells how sure it is."""

    task: Task
    model: str
    """Name of the student at its server."""
    measure: Literal["probability", "agreement"]
    n_samples: int
    sampling: Mapping[str, Any]
    """Options that have the server draw an answer."""

    async def ask(
        self,
        client: httpx.AsyncClient,
        chat: Sequence[Message],
        max_tokens: int,
        options: Mapping[str, Any] | None = None,
    ) -> StudentAnswer:
        """Return the greedy answer with its confidence.

        Args:
            client: of the student's server.
            chat: the question.
            max_tokens: longest answer.
            options: more of the request, such as `stop`.

        Raises:
            StudentError: the server does not answer, or refuses the request.
        """
        started = time.perf_counter()
        body = {
            **(options or {}), "model": self.model, "messages": [*chat], "max_tokens": max_tokens,
        }  # fmt: skip
        greedy = {**body, "temperature": 0}
        if self.measure == "probability":
            reply = await _sent(client, {**greedy, "logprobs": True})
            text = text_of(reply)
            confidence = _likelihood(reply)
        else:
            drawn = [{**body, **self._drawn(i, max_tokens)} for i in range(self.n_samples)]
            reply, *samples = await together([_sent(client, each) for each in (greedy, *drawn)])
            text = text_of(reply)
            confidence = self._agreement(text, [text_of(each) for each in samples])
        item = self.task.item_of_chat(chat)
        is_refuted = (
            self.task.parse(text) is None
            if item is None
            else self.task.refute(item, text) is not None
        )
        return StudentAnswer(
            reply, text, -math.inf if is_refuted else confidence, time.perf_counter() - started
        )

    def _drawn(self, number: int, max_tokens: int) -> dict[str, Any]:
        more = dict(self.sampling)
        if isinstance(facts := more.get("generation_config"), dict):
            more["generation_config"] = json.dumps({**facts, "max_new_tokens": max_tokens})
        return {**more, "temperature": TEMPERATURE, "seed": number}

    def _agreement(self, text: str, samples: Sequence[str]) -> float:
        own = self._value(text)
        n_same = sum(own is not None and self._value(sample) == own for sample in samples)
        return agreement(n_same, len(samples))

    def _value(self, text: str) -> str | None:
        answer = self.task.parse(text)
        return None if answer is None else self.task.normal(answer)


def agreement(n_same: int, n: int) -> float:
    """Return the confidence where `n_same` of n drawn answers say the same as the greedy one."""
    return math.log((1 + n_same) / (2 + n))


def sampling_of(bundle: Path, engine: str) -> dict[str, Any]:
    """Return the options with which a server draws answers of a bundle."""
    return engine_named(engine).sampling(bundle, TEMPERATURE)


def is_bare(task: Task, item: Item, text: str) -> bool:
    """Return whether an answer is nothing but the answer, as a student without reasoning writes."""
    labelled = task.labelled(item, text)
    return labelled is not None and task.completion(labelled).strip() == text.strip()


def bared(task: Task, item: Item, text: str) -> str:
    """Return an answer alone, as such a student writes it; the text itself if it has none."""
    labelled = task.labelled(item, text)
    return text if labelled is None else task.completion(labelled)


def text_of(reply: Mapping[str, Any]) -> str:
    """Return the text of a chat completion.

    Raises:
        StudentError: it is none.
    """
    try:
        return str(reply["choices"][0]["message"]["content"] or "")
    except (LookupError, TypeError):
        raise StudentError(502, b"", "The student's server sent no chat completion.") from None


def _likelihood(reply: Mapping[str, Any]) -> float:
    try:
        places = reply["choices"][0]["logprobs"]["content"]
        return float(sum(token["logprob"] for token in places))
    except (LookupError, TypeError):
        raise StudentError(
            502, b"", "The student's server does not tell how likely its answer is."
        ) from None


async def _sent(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
    import httpx

    try:
        answer = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        why = f"The student's server does not answer ({type(error).__name__})."
        raise StudentError(502, b"", why) from error
    if answer.status_code != 200:
        refusal = f"The student's server refuses a request ({answer.status_code})."
        raise StudentError(answer.status_code, answer.content, refusal)
    try:
        reply = answer.json()
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise StudentError(502, b"", "The student's server sent no JSON.")
    return reply


async def together(works: Sequence[Any]) -> list[Any]:
    """Await all; where one fails, or nobody waits any more, the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


ALWAYS, UNREADABLE_ONLY = math.inf, -math.inf
_LEAST, _MOST = 1e-5, 30.0
"""Ends of the thresholds between, as minus the logarithm of a probability."""
_N_BETWEEN = 40
MOST_ITEMS = 1_000_000


@dataclass(frozen=True)
class Pair:
    """One item that both have answered."""

    confidence: float
    """Log-probability of the student's answer; minus infinity where the task cannot read it."""
    student: bool
    """Whether its answer is right."""
    teacher: bool
    teacher_usd: float | None = None
    """Of its answer; None where that is not known."""
    teacher_seconds: float | None = None


@lru_cache(maxsize=1)
def thresholds() -> tuple[float, ...]:
    """Return the list, from "ask the teacher always" on: it depends on no item."""
    ratio = (_MOST / _LEAST) ** (1 / (_N_BETWEEN - 1))
    between = (-_LEAST * ratio**i for i in range(_N_BETWEEN))
    return (ALWAYS, *between, UNREADABLE_ONLY)


def is_escalated(confidence: float, threshold: float) -> bool:
    """Return whether the teacher is asked; always where the answer cannot be read."""
    return confidence < threshold or confidence == -math.inf


def is_right(pair: Pair, threshold: float) -> bool:
    """Return whether the cascade answers an item right."""
    return pair.teacher if is_escalated(pair.confidence, threshold) else pair.student


def choose(pairs: Sequence[Pair], accuracy: float, delta: float) -> float | None:
    """Return the passing threshold that escalates least; None if none passes.

    Args:
        pairs: items that nothing else of the cascade was chosen by.
        accuracy: that is promised.
        delta: probability with which the promise may be broken.
    """
    # From either end: in the order in which they are tested, and which of them escalates less.
    down, up = list(thresholds()), list(reversed(thresholds()))
    passed = [
        *_passing(pairs, down, accuracy, delta / 2),
        *_passing(pairs, up, accuracy, delta / 2),
    ]
    return min(passed, default=None)


def _passing(
    pairs: Sequence[Pair], ordered: Sequence[float], accuracy: float, delta: float
) -> list[float]:
    passing = []
    for threshold in ordered:
        wrong = sum(not is_right(pair, threshold) for pair in pairs)
        if p_value(wrong, len(pairs), accuracy) > delta:
            break
        passing.append(threshold)
    return passing


def p_value(wrong: int, n: int, accuracy: float) -> float:
    """Return how often so few of n answers are wrong where 1 - `accuracy` of all are."""
    from scipy.stats import binom

    return float(binom.cdf(wrong, n, 1 - accuracy)) if n else 1.0


def n_needed(right: float, accuracy: float, delta: float) -> int | None:
    """Return how many items would show the promise for who is right so often; None: no number.

    Args:
        right: share of right answers of the better of the two, or of the cascade.
        accuracy: that is to be promised.
        delta: as of `choose`.
    """
    if right <= accuracy:
        return None
    low, high = 0, 8
    while p_value(_expected(right, high), high, accuracy) > delta / 2:
        low, high = high, 2 * high
        if high > MOST_ITEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        is_short = p_value(_expected(right, middle), middle, accuracy) > delta / 2
        low, high = (middle, high) if is_short else (low, middle)
    return high


def _expected(right: float, n: int) -> int:
    return math.ceil((1 - right) * n - 1e-9)
