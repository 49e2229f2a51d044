"""A teacher behind an OpenAI-compatible chat completions API."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from typing_extensions import override

from stratos.core.errors import TeacherError
from stratos.core.reasons import Reason
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import (
    FACTS,
    WINDOW,
    Answer,
    Keep,
    Meter,
    Question,
    SignalKind,
    Teacher,
    Tick,
)
from stratos.teachers.batch import WINDOW as BATCH_WINDOW
from stratos.teachers.batch import Batches
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.endpoint import Endpoint
from stratos.teachers.openai_settings import OpenAISettings, no_price, retired
from stratos.teachers.scheduler import Backend, Scheduler
from stratos.teachers.words import LongPrompt, TermsForbid

_MOST_BYTES_A_TOKEN = 8
"""Of ordinary text under common tokenizers; a prompt that is counted so is surely longer."""


@dataclass(frozen=True)
class OpenAITeacher(OpenAISettings, Teacher):
    """Asks a hosted model over HTTP, several questions at once; the key is in the environment."""

    runs_here = False
    signal = SignalKind.LOGPROBS

    @property
    def ends(self) -> str:
        """The day from which it answers no more, "" for none that is known.

        The endpoint's own word counts, once it was asked (`unreachable`); before, the card's.
        """
        dates = [
            endpoint.shutdown_date
            for endpoint in self.__dict__.get("_endpoints", ())
            if endpoint.shutdown_date is not None
        ]
        return min((date for date in dates if date), default="") if dates else self.retires

    @override
    def unreachable(self) -> Reason | None:
        """Return why no endpoint can be asked and what to type, or None. Asks each once."""
        return self._unreachable

    @override
    def card(self) -> ModelCard:
        facts: dict[str, Any] = {**dict.fromkeys(FACTS, 0), **self.facts}
        input_price, answered = self._batch_prices if self.batch else self._prices
        if not self.unknown_prices:
            input_price, answered = input_price or 0.0, answered or 0.0
        batch_asked, batch_answered = self._batch_prices
        rate = self.max_requests_per_minute
        return ModelCard(
            **facts,
            name=self.name,
            license=self.license,
            usd_per_million_input_tokens=input_price,
            usd_per_million_output_tokens=answered,
            usd_per_million_cached_input_tokens=(
                None if self.batch else self.usd_per_million_cached_input_tokens
            ),
            usd_per_million_batch_input_tokens=batch_asked,
            usd_per_million_batch_output_tokens=batch_answered,
            max_requests_per_minute=rate * len(self.base_urls) if rate else None,
            price_date=self.price_date,
            price_source=self.price_source,
            retires=self.ends,
            retires_source=self.retires_source,
        )

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        The first question of a process is asked alone for a moment, so that a wrong key is tried
        once.

        Raises:
            TeacherError: no key, a wrong one, an unknown model, or an endpoint that still fails
                after all retries.
        """
        answers: dict[int, Answer] = {}
        for event in self.stream(iter([Question(chat, max_tokens) for chat in chats]), None):
            if event is None:
                continue
            index, answer = event
            answers[index] = answer
            if keep is not None:
                keep(index, answer)
            if tick is not None:
                tick(len(answers), len(chats))
        return [answers[index] for index in range(len(chats))]

    @override
    def stream(
        self, questions: Iterator[Question | None], meter: Meter | None
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Yield (number of the question, answer) in any order, `concurrency` in flight.

        Args:
            questions: taken one by one as there is room; None for none just now.
            meter: what each try is paid from.

        Raises:
            TeacherError: as `ask`.
            BudgetError: the meter has no more; what was under way has been yielded.
        """
        if self.batch:
            batches = Batches(self, self._endpoints[0], meter, self._complaints.append)
            yield from batches.run(self._fitting(questions))
            return
        rate = self.max_requests_per_minute
        pump = Scheduler(
            self._balancer,
            concurrency=self.concurrency,
            max_retries=self.max_retries,
            meter=meter,
            seconds_between=60 / rate if rate else 0.0,
            warn=self._complaints.append,
        )
        yield from pump.run(self._fitting(questions))

    @override
    def complaints(self) -> list[str]:
        """Return what the user should know of the endpoints and was not told yet."""
        complaints = list(self._complaints)
        self._complaints.clear()
        return complaints

    @override
    def as_batch(self) -> OpenAITeacher:
        """Return this teacher asked through the batch API, over the same connections.

        Raises:
            TeacherError: there is no key.
            ValueError: the batch API has no price.
        """
        self.key()
        batched = replace(self, batch=True)
        batched.__dict__["_endpoints"] = self._endpoints
        return batched

    @override
    def close(self) -> None:
        for endpoint in self.__dict__.get("_endpoints", ()):
            endpoint.close()

    @override
    def most_at_once(self) -> int:
        """Return how many answers are under way at most, at all endpoints together."""
        return self.concurrency * len(self.base_urls)

    @property
    @override
    def window(self) -> int:
        return BATCH_WINDOW if self.batch else WINDOW

    @override
    def too_long(self, question: Question) -> LongPrompt | None:
        context = self.facts.get("context_length", 0)
        least = n_bytes(question.chat) // _MOST_BYTES_A_TOKEN
        if not context or least + question.max_tokens <= context:
            return None
        return LongPrompt(
            question.about, least, question.max_tokens, context, n_bytes(question.chat)
        )

    def _fitting(
        self, questions: Iterator[Question | None]
    ) -> Generator[Question | None, None, None]:
        """Refuse a prompt that surely passes the context before it is paid for."""
        for question in questions:
            if question is not None and (why := self.too_long(question)):
                raise TeacherError(
                    f"Teacher {self.name}: {why}. Shorten it, or choose a teacher with a longer "
                    "context."
                )
            yield question

    @cached_property
    def _endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(self, url) for url in self.base_urls)

    @cached_property
    def _balancer(self) -> tuple[Backend, ...]:
        return tuple(
            Backend(endpoint, f"Teacher {self.name}: {endpoint.url}")
            for endpoint in self._endpoints
        )

    @cached_property
    def _complaints(self) -> list[str]:
        return []

    @cached_property
    def _unreachable(self) -> Reason | None:
        if reason := self._no_key() or no_price(self):
            return reason
        with ThreadPoolExecutor(len(self._endpoints)) as pool:
            reasons = list(pool.map(Endpoint.unreachable, self._endpoints))
        if all(reasons):
            return reasons[0]
        for backend, reason in zip(self._balancer, reasons, strict=True):
            if reason:
                backend.set_aside(time.monotonic())
                self._complaints.extend(backend.tell(f"Teacher {self.name}: {reason}"))
        if reason := retired(self):
            return reason
        if self.outputs_may_train is False and not self.accept_terms:
            return TermsForbid(self.license)
        return None
