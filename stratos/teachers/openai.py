"""A teacher behind an API: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from stratos.core.errors import TeacherError
from stratos.core.redact import redact_text
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.address import Address, is_own
from stratos.teachers.base import Answer, BatchMeter, CacheMode, Keep, Question, Tick
from stratos.teachers.batch import WINDOW as BATCH_WINDOW
from stratos.teachers.batch import Batches
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.endpoint import writable
from stratos.teachers.facts import FACTS, check_facts
from stratos.teachers.load_balancer import Backend
from stratos.teachers.reorder_buffer import WINDOW
from stratos.teachers.scheduler import Scheduler

_HOST = re.compile(r"(?=.{1,253}$)[^\s./?#@:]{1,63}(\.[^\s./?#@:]{1,63})*\.?|[0-9a-fA-F:.%]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[!-~]+")
"""What a header carries: printable ASCII without spaces."""
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LIMITS = ("max_tokens", "max_completion_tokens")
_TAKEN = ("model", "messages", "n", "best_of", "stream", "stream_options")
"""Fields of a request that are set elsewhere, or would change what comes back and is paid."""
_MOST_BYTES_A_TOKEN = 8
"""Of ordinary text under common tokenizers; a prompt that is counted so is surely longer."""


def check_date(key: str, date: str) -> None:
    """Check that a date is written as YYYY-MM-DD, or left empty.

    Raises:
        ValueError: it is not.
    """
    try:
        if date:
            datetime.date.fromisoformat(date)
    except ValueError:
        raise ValueError(f"{key}={date} is no date of the form YYYY-MM-DD.") from None


def no_price(teacher: OpenAITeacher) -> str | None:
    """Return that a teacher's price is not known and what to type, or None."""
    keys = [f"teacher.{key}=<dollars>" for key in teacher.unknown_prices]
    if not keys:
        return None
    return (
        f"the price of {teacher.model} at {teacher.base_urls[0]} is not known, and nothing is "
        f"asked at an unknown price. Type {' '.join(keys)}, for a million tokens; 0 for what costs "
        "nothing."
    )


def _is_address(url: str) -> bool:
    """Tell an address that can be connected to from one that no client takes."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is none, a bracket that is not closed
        return False
    return (
        parts.scheme.lower() in ("http", "https")
        and _HOST.fullmatch(parts.hostname or "") is not None
        and port != 0
        and not re.search(r"\s", url)
    )


@dataclass(frozen=True)
class OpenAITeacher:
    """Asks a hosted model over HTTP, several questions at once; the key is in the environment."""

    name: str
    """Name shown in tables and in the plan."""
    model: str
    """Model that the endpoint is asked for."""
    base_url: str | tuple[str, ...] = "https://api.openai.com/v1"
    """Where the endpoint lies, up to and with its version; a list of several that serve the same
    model, which share the questions."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable with the key; null for an endpoint that wants none."""
    usd_per_million_input_tokens: float | None = None
    """Price of a million tokens asked; null where it is not known, which a server of your own
    (on this machine or in a private network) answers with 0."""
    usd_per_million_output_tokens: float | None = None
    """Price of a million tokens answered; null likewise."""
    usd_per_million_batch_input_tokens: float | None = None
    """Price of a million tokens asked through the batch API; null for an endpoint without."""
    usd_per_million_batch_output_tokens: float | None = None
    """Price of a million tokens answered through it."""
    batch: bool = False
    """Ask through the batch API: at its price, answered within a day."""
    price_date: str = ""
    """When the prices were read."""
    price_source: str = ""
    """Where they were read."""
    retires: str = ""
    """Day from which the provider answers no more, as YYYY-MM-DD; "" where none is announced. What
    the endpoint itself says (`shutdown_date` in its list of models) goes before it."""
    retires_source: str = ""
    """Where that was read, and when."""
    outputs_may_train: bool | None = None
    """Whether the terms allow training other models on the answers; null for unknown."""
    accept_terms: bool = False
    """Said by whoever may train on the answers all the same, or trains no model that competes."""
    max_requests_per_minute: float | None = None
    """What each endpoint allows; the plan counts with it."""
    concurrency: int = 16
    """Requests in flight at once, at each endpoint."""
    timeout_s: float = 60.0
    """Longest wait for one answer, in seconds."""
    max_retries: int = 8
    """Tries after the first, on 408, 409, 429, 5xx, timeouts and cut connections; of several
    endpoints, each that answers is tried before a question waits for its next try."""
    temperature: float | None = 0.0
    """0 answers greedily; null leaves it to a model that refuses the setting."""
    seed: int | None = None
    """Sent with every question, plus the number of its sample; null sends none."""
    cache: CacheMode = "write"
    """off asks everything again; read takes kept answers; write keeps new ones too."""
    token_limit_field: str = "max_tokens"
    """What the endpoint calls the limit; OpenAI's reasoning models want max_completion_tokens."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Sent with every question, such as {reasoning_effort: low}."""
    license: str = "unknown"
    """Licence or terms that the answers are under."""
    facts: dict[str, int] = field(default_factory=dict)
    """Facts of the model card that are known, such as context_length; 0 stands for unknown."""

    def __post_init__(self) -> None:
        """Check the facts and the numbers."""
        check_facts(self.facts)
        if self.concurrency < 1 or self.max_retries < 0 or self.timeout_s <= 0:
            raise ValueError("concurrency and timeout_s must be above 0, max_retries at least 0.")
        if min(price or 0.0 for price in (*self._prices, *self._batch_prices)) < 0:
            raise ValueError("a price per million tokens cannot be negative.")
        for key in ("price_date", "retires"):
            check_date(key, str(getattr(self, key)))
        if self.temperature is not None and self.temperature < 0:
            raise ValueError("temperature must be at least 0, or null.")
        if self.max_requests_per_minute is not None and self.max_requests_per_minute <= 0:
            raise ValueError("max_requests_per_minute must be above 0, or null for no limit.")
        n_urls = len(self.base_urls)
        if not n_urls or len({url.rstrip("/") for url in self.base_urls}) < n_urls:
            raise ValueError("base_url wants one URL, or a list of several that differ.")
        if wrong := [url for url in self.base_urls if not _is_address(url)]:
            raise ValueError(
                f"base_url={redact_text(wrong[0])} is no address of the form http://<host>/v1 or "
                "https://…"
            )
        taken = (*_TAKEN, "temperature", "seed")
        if not _FIELD.fullmatch(self.token_limit_field) or self.token_limit_field in taken:
            raise ValueError(
                f"token_limit_field={self.token_limit_field!r} is no field that limits an answer: "
                "without a limit no cost can be held. It is max_tokens, or max_completion_tokens "
                "for OpenAI's reasoning models."
            )
        if wrong := sorted({*_TAKEN, *_LIMITS, self.token_limit_field} & set(self.extra_body)):
            raise ValueError(
                f"extra_body may not set {', '.join(wrong)}: what an answer may cost depends "
                "on it, and it is set for each question. The longest answer has keys of its own, "
                "such as probe.max_tokens and strategy.max_tokens."
            )
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            # Perhaps it is the key: it is not repeated.
            raise ValueError(
                "api_key_env takes the name of an environment variable that holds the key, such as "
                "OPENAI_API_KEY, and never the key."
            )
        if self.batch and n_urls > 1:
            raise ValueError(
                "batch=true hands questions in at one endpoint: give one base_url, or batch=false."
            )
        if self.batch and None in self._batch_prices:
            raise ValueError(
                "batch=true wants the price of the batch API: usd_per_million_batch_input_tokens "
                "and usd_per_million_batch_output_tokens."
            )

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Where the endpoints lie, one or several."""
        return (self.base_url,) if isinstance(self.base_url, str) else tuple(self.base_url)

    @property
    def unknown_prices(self) -> tuple[str, ...]:
        """The keys of prices that nobody gave, of a server that is not one of the user's own."""
        if all(is_own(url) for url in self.base_urls):
            return ()
        keys = ("usd_per_million_input_tokens", "usd_per_million_output_tokens")
        return tuple(key for key, price in zip(keys, self._prices, strict=True) if price is None)

    @property
    def ends(self) -> str:
        """The day from which it answers no more, "" for none that is known.

        The endpoint's own word counts, once it was asked (`unreachable`); before, the card's.
        """
        said = [
            address.shutdown_date
            for address in self.__dict__.get("_addresses", ())
            if address.shutdown_date is not None
        ]
        return min((date for date in said if date), default="") if said else self.retires

    def unreachable(self) -> str | None:
        """Return why no endpoint can be asked and what to type, or None. Asks each once."""
        return self._unreachable

    def card(self) -> ModelCard:
        """Return price, limits and the known facts of the model."""
        facts: dict[str, Any] = {**dict.fromkeys(FACTS, 0), **self.facts}
        asked, answered = self._batch_prices if self.batch else self._prices
        if not self.unknown_prices:
            asked, answered = asked or 0.0, answered or 0.0
        batch_asked, batch_answered = self._batch_prices
        rate = self.max_requests_per_minute
        return ModelCard(
            **facts,
            name=self.name,
            license=self.license,
            usd_per_million_input_tokens=asked,
            usd_per_million_output_tokens=answered,
            usd_per_million_batch_input_tokens=batch_asked,
            usd_per_million_batch_output_tokens=batch_answered,
            max_requests_per_minute=rate * len(self.base_urls) if rate else None,
            price_date=self.price_date,
            price_source=self.price_source,
            retires=self.ends,
            retires_source=self.retires_source,
        )

    def identity(self) -> str:
        """Return endpoint, model and sampling; of several endpoints the first by the alphabet."""
        return self.identities()[0]

    def identities(self) -> tuple[str, ...]:
        """Return the identity that the model has at each of its endpoints, whatever their order."""
        sampling: list[Any] = [self.model, self.temperature]
        if self.seed is not None or self.extra_body:
            sampling.append(self.seed)
        if self.extra_body:
            sampling.append(self.extra_body)
        return tuple(
            json.dumps(["openai", url.rstrip("/"), *sampling], sort_keys=True)
            for url in sorted(self.base_urls)
        )

    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        The first question of a process is asked alone, so that a wrong key is tried once, until it
        is answered or the endpoint's list of models has shown that key and model are right.

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

    def stream(
        self, questions: Iterator[Question | None], meter: BatchMeter | None
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
            batches = Batches(self, self._addresses[0], meter, self._complaints.append)
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

    def complaints(self) -> list[str]:
        """Return what the user should know of the endpoints and was not told yet."""
        told = list(self._complaints)
        self._complaints.clear()
        return told

    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request that asks a question."""
        options: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {**message, "content": writable(message["content"])} for message in question.chat
            ],
            self.token_limit_field: question.max_tokens,
        }
        temperature = question.temperature
        if temperature is None:
            temperature = self.temperature
        if temperature is not None:
            options["temperature"] = temperature
        if self.seed is not None:
            options["seed"] = self.seed + question.sample
        if question.top_logprobs:
            options |= {"logprobs": True, "top_logprobs": question.top_logprobs}
        return {**options, **self.extra_body}

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Return an error of the (first) endpoint in the user's words."""
        return self._addresses[0].explain(error, question, n_tries)

    def as_batch(self) -> OpenAITeacher:
        """Return this teacher asked through the batch API, over the same connections.

        Raises:
            TeacherError: there is no key.
            ValueError: the batch API has no price.
        """
        self.key()
        batched = replace(self, batch=True)
        batched.__dict__["_addresses"] = self._addresses
        return batched

    def close(self) -> None:
        """Close the connections."""
        for address in self.__dict__.get("_addresses", ()):
            address.close()

    def most_at_once(self) -> int:
        """Return how many answers are under way at most, at all endpoints together."""
        return self.concurrency * len(self.base_urls)

    @property
    def window(self) -> int:
        """Questions that are worth holding at once."""
        return BATCH_WINDOW if self.batch else WINDOW

    @property
    def _prices(self) -> tuple[float | None, float | None]:
        return self.usd_per_million_input_tokens, self.usd_per_million_output_tokens

    @property
    def _batch_prices(self) -> tuple[float | None, float | None]:
        return self.usd_per_million_batch_input_tokens, self.usd_per_million_batch_output_tokens

    def too_long(self, question: Question) -> str | None:
        """Return why a question surely passes the context, or None; see `Bounded`."""
        context = self.facts.get("context_length", 0)
        least = n_bytes(question.chat) // _MOST_BYTES_A_TOKEN
        if not context or least + question.max_tokens <= context:
            return None
        return (
            f"the prompt of {question.about} has {n_bytes(question.chat):,} bytes (at least "
            f"{least:,} tokens), which with an answer of up to {question.max_tokens:,} pass its "
            f"context of {context:,} tokens"
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

    @property
    def _key(self) -> str | None:
        return "none" if self.api_key_env is None else os.environ.get(self.api_key_env)

    def _no_key(self) -> str | None:
        """Return why the key cannot be sent, without the key, or None where it can."""
        if not self._key:
            return f"{self.api_key_env} is not set. Type: export {self.api_key_env}=<your key>"
        if not _KEY.fullmatch(self._key):
            return (
                f"{self.api_key_env} holds a space, a line break or a character beyond ASCII, "
                f"which no key does. Type: export {self.api_key_env}=<your key>"
            )
        return None

    def key(self) -> str:
        """Return the key, or a word for an endpoint that wants none.

        Raises:
            TeacherError: it is not set, or is none.
        """
        if reason := self._no_key():
            raise TeacherError(f"Teacher {self.name}: {reason}")
        return self._key or ""

    @cached_property
    def _addresses(self) -> tuple[Address, ...]:
        return tuple(Address(self, url) for url in self.base_urls)

    @cached_property
    def _balancer(self) -> tuple[Backend, ...]:
        return tuple(
            Backend(address, f"Teacher {self.name}: {address.url}", look=address.look)
            for address in self._addresses
        )

    @cached_property
    def _complaints(self) -> list[str]:
        return []

    @cached_property
    def _unreachable(self) -> str | None:
        from stratos.teachers.lifetime import retired

        if reason := self._no_key() or no_price(self):
            return reason
        with ThreadPoolExecutor(len(self._addresses)) as pool:
            reasons = list(pool.map(Address.unreachable, self._addresses))
        if all(reasons):
            return reasons[0]
        for backend, reason in zip(self._balancer, reasons, strict=True):
            if reason:
                backend.set_aside(time.monotonic())
                self._complaints.extend(backend.tell(f"Teacher {self.name}: {reason}"))
        if reason := retired(self):
            return reason
        if self.outputs_may_train is False and not self.accept_terms:
            return (
                f"its terms ({self.license}) do not allow to train other models on its answers. "
                "If you may all the same, type: teacher.accept_terms=true"
            )
        return None
