"""Ask a served student, and tell how sure it is of its answer.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stratos.core.errors import StratosError
from stratos.deploy.engines.known import engine_named
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
class Said:
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
    ) -> Said:
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
        asked = {
            **(options or {}), "model": self.model, "messages": [*chat], "max_tokens": max_tokens,
        }  # fmt: skip
        greedy = {**asked, "temperature": 0}
        if self.measure == "probability":
            reply = await _sent(client, {**greedy, "logprobs": True})
            text = text_of(reply)
            confidence = _likelihood(reply)
        else:
            drawn = [{**asked, **self._drawn(i, max_tokens)} for i in range(self.n_samples)]
            reply, *others = await together([_sent(client, one) for one in (greedy, *drawn)])
            text = text_of(reply)
            confidence = self._agreement(text, [text_of(one) for one in others])
        item = self.task.asked(chat)
        is_refuted = (
            self.task.parse(text) is None
            if item is None
            else self.task.refute(item, text) is not None
        )
        return Said(
            reply, text, -math.inf if is_refuted else confidence, time.perf_counter() - started
        )

    def _drawn(self, number: int, max_tokens: int) -> dict[str, Any]:
        more = dict(self.sampling)
        if isinstance(facts := more.get("generation_config"), dict):
            more["generation_config"] = json.dumps({**facts, "max_new_tokens": max_tokens})
        return {**more, "temperature": TEMPERATURE, "seed": number}

    def _agreement(self, text: str, others: Sequence[str]) -> float:
        own = self._value(text)
        n_same = sum(own is not None and self._value(other) == own for other in others)
        return agreement(n_same, len(others))

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
    found = task.labelled(item, text)
    return found is not None and task.completion(found).strip() == text.strip()


def bared(task: Task, item: Item, text: str) -> str:
    """Return an answer alone, as such a student writes it; the text itself if it has none."""
    found = task.labelled(item, text)
    return text if found is None else task.completion(found)


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
        return float(sum(one["logprob"] for one in places))
    except (LookupError, TypeError):
        raise StudentError(
            502, b"", "The student's server does not tell how likely its answer is."
        ) from None


async def _sent(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
    import httpx

    try:
        answer = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        said = f"The student's server does not answer ({type(error).__name__})."
        raise StudentError(502, b"", said) from error
    if answer.status_code != 200:
        told = f"The student's server refuses a request ({answer.status_code})."
        raise StudentError(answer.status_code, answer.content, told)
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StudentError(502, b"", "The student's server sent no JSON.")
    return found


async def together(works: Sequence[Any]) -> list[Any]:
    """Await all; where one fails, or nobody waits any more, the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
