"""A teacher behind an API: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stratos.errors import TeacherError, did_you_mean
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, CacheMode, Keep, Meter, Question, Tick
from stratos.teachers.batch import WINDOW as BATCH_WINDOW
from stratos.teachers.batch import Batches
from stratos.teachers.endpoint import Endpoint, writable
from stratos.teachers.facts import FACTS, check_facts
from stratos.teachers.pump import Outcome, Pump
from stratos.teachers.purse import n_bytes
from stratos.teachers.window import WINDOW

if TYPE_CHECKING:
    from openai import OpenAI

_REACH_SECONDS = 10.0
_MOST_BYTES_A_TOKEN = 8
"""Of ordinary text under common tokenizers; a prompt that is counted so is surely longer."""


@dataclass(frozen=True)
class OpenAITeacher:
    """Asks a hosted model over HTTP, several questions at once; the key is in the environment."""

    name: str
    """Name shown in tables and in the plan."""
    model: str
    """Model that the endpoint is asked for."""
    base_url: str = "https://api.openai.com/v1"
    """Where the endpoint lies, up to and with its version."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable with the key; null for an endpoint that wants none."""
    usd_per_million_input_tokens: float = 0.0
    """Price of a million tokens asked."""
    usd_per_million_output_tokens: float = 0.0
    """Price of a million tokens answered."""
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
    outputs_may_train: bool | None = None
    """Whether the terms allow training other models on the answers; null for unknown."""
    accept_terms: bool = False
    """Said by whoever may train on the answers all the same, or trains no model that competes."""
    max_requests_per_minute: float | None = None
    """What the endpoint allows; the plan counts with it."""
    concurrency: int = 16
    """Requests in flight at once."""
    timeout_s: float = 60.0
    """Longest wait for one answer, in seconds."""
    max_retries: int = 8
    """Tries after the first, on 408, 409, 429, 5xx, timeouts and cut connections."""
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
        if self.batch and None in self._batch_prices:
            raise ValueError(
                "batch=true wants the price of the batch API: usd_per_million_batch_input_tokens "
                "and usd_per_million_batch_output_tokens."
            )

    def unreachable(self) -> str | None:
        """Return why the endpoint cannot be asked and what to type, or None. Asks it once."""
        return self._unreachable

    def card(self) -> ModelCard:
        """Return price, limits and the known facts of the model."""
        facts: dict[str, Any] = {**dict.fromkeys(FACTS, 0), **self.facts}
        asked, answered = self._batch_prices if self.batch else self._prices
        batch_asked, batch_answered = self._batch_prices
        return ModelCard(
            **facts,
            name=self.name,
            license=self.license,
            usd_per_million_input_tokens=asked,
            usd_per_million_output_tokens=answered,
            usd_per_million_batch_input_tokens=batch_asked,
            usd_per_million_batch_output_tokens=batch_answered,
            max_requests_per_minute=self.max_requests_per_minute,
        )

    def identity(self) -> str:
        """Return endpoint, model and sampling."""
        parts: list[Any] = ["openai", self.base_url.rstrip("/"), self.model, self.temperature]
        if self.seed is not None or self.extra_body:
            parts.append(self.seed)
        return json.dumps([*parts, self.extra_body] if self.extra_body else parts, sort_keys=True)

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
            yield from Batches(self, self._client, meter).run(self._fitting(questions))
            return
        pump = Pump(
            self,
            concurrency=self.concurrency,
            max_retries=self.max_retries,
            meter=meter,
            proved=bool(self.__dict__.get("_proved")),
            look=lambda found: self._endpoint.look_for(self.model, bool(self.api_key_env), found),
            seconds_between=60 / self.max_requests_per_minute
            if self.max_requests_per_minute
            else 0.0,
        )
        try:
            yield from pump.run(self._fitting(questions))
        finally:
            self.__dict__["_proved"] = pump.proved

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], None]:
        """Start one try; `done` is called from the endpoint's thread. Return what cancels it."""
        return self._endpoint.send(self.request(question), question, done)

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
        """Return an error in the user's words."""
        import openai

        told = TeacherError(
            f"Teacher {self.name}: {self.base_url} gave no answer after "
            f"{n_tries} tries ({_say(error)}). What was answered is kept: give "
            "the same command again, with a smaller teacher.concurrency if it is overloaded."
        )
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            told = TeacherError(f"Teacher {self.name}: {self._wrong_key()}")
        elif isinstance(error, openai.NotFoundError) or self._is_unknown_model(error):
            told = TeacherError(f"Teacher {self.name}: {self._no_model()}")
        elif isinstance(
            error,
            openai.BadRequestError | openai.UnprocessableEntityError | openai.APIStatusError,
        ) and error.status_code in (400, 413, 422):
            told = TeacherError(
                f"Teacher {self.name}: {self.base_url} refused a prompt of "
                f"{n_bytes(question.chat):,} bytes with an answer of up to {question.max_tokens} "
                f"tokens ({_say(error)}). Check that they fit the model's context, and "
                "teacher.token_limit_field and teacher.temperature."
            )
        elif getattr(error, "code", None) == "insufficient_quota":
            told = TeacherError(
                f"Teacher {self.name}: the account at {self.base_url} has no credit left "
                f"({_say(error)}). What was answered is kept: top it up and give the same command "
                "again, or choose another teacher."
            )
        told.__cause__ = error
        return told

    def as_batch(self) -> OpenAITeacher:
        """Return this teacher asked through the batch API, over the same connections.

        Raises:
            TeacherError: there is no key.
            ValueError: the batch API has no price.
        """
        batched = replace(self, batch=True)
        batched.__dict__["_client"] = self._client
        return batched

    def close(self) -> None:
        """Close the connections."""
        for name in ("_client", "_endpoint"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    @property
    def window(self) -> int:
        """Questions that are worth holding at once."""
        return BATCH_WINDOW if self.batch else WINDOW

    @property
    def _prices(self) -> tuple[float, float]:
        return self.usd_per_million_input_tokens, self.usd_per_million_output_tokens

    @property
    def _batch_prices(self) -> tuple[float | None, float | None]:
        return self.usd_per_million_batch_input_tokens, self.usd_per_million_batch_output_tokens

    def _fitting(
        self, questions: Iterator[Question | None]
    ) -> Generator[Question | None, None, None]:
        """Refuse a prompt that surely passes the context before it is paid for."""
        context = self.facts.get("context_length", 0)
        for question in questions:
            if question is not None and context:
                least = n_bytes(question.chat) // _MOST_BYTES_A_TOKEN
                if least + question.max_tokens > context:
                    raise TeacherError(
                        f"Teacher {self.name}: a prompt of {n_bytes(question.chat):,} bytes (at "
                        f"least {least:,} tokens) and an answer of up to {question.max_tokens:,} "
                        f"pass its context of {context:,} tokens. Shorten it, or choose a teacher "
                        "with a longer context."
                    )
            yield question

    def _is_unknown_model(self, error: Exception) -> bool:
        """Tell whether a request was refused for its model, by endpoints that say 400 then."""
        import openai

        if not isinstance(error, openai.BadRequestError):
            return False
        said = str(error).lower()
        if "model" not in said and said != "error code: 400":  # it speaks of something else
            return False
        known = self._models()
        return bool(known) and self.model not in known

    @property
    def _key(self) -> str | None:
        return "none" if self.api_key_env is None else os.environ.get(self.api_key_env)

    def _settings(self) -> dict[str, Any]:
        if not self._key:
            raise TeacherError(f"Teacher {self.name}: {self._no_key()}")
        return {"api_key": self._key, "base_url": self.base_url, "timeout": self.timeout_s}

    @cached_property
    def _client(self) -> OpenAI:
        from openai import OpenAI

        return OpenAI(**self._settings(), max_retries=1)

    @cached_property
    def _endpoint(self) -> Endpoint:
        from openai import AsyncOpenAI

        settings = self._settings()
        # Retries are ours: each is paid for on its own.
        return Endpoint(lambda: AsyncOpenAI(**settings, max_retries=0), self.timeout_s)

    @cached_property
    def _unreachable(self) -> str | None:
        if not self._key:
            return self._no_key()
        import openai

        quick = self._client.with_options(timeout=_REACH_SECONDS)
        try:
            quick.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return self._wrong_key()
        except openai.APIConnectionError:
            return f"{self.base_url} cannot be reached. Check the network, or teacher.base_url."
        except openai.OpenAIError:
            pass  # an endpoint need not list its models
        if self.outputs_may_train is False and not self.accept_terms:
            return (
                f"its terms ({self.license}) do not allow to train other models on its answers. "
                "If you may all the same, type: teacher.accept_terms=true"
            )
        return None

    def _no_key(self) -> str:
        return f"{self.api_key_env} is not set. Type: export {self.api_key_env}=<your key>"

    def _wrong_key(self) -> str:
        if self.api_key_env is None:
            return f"{self.base_url} wants a key. Name its variable with teacher.api_key_env=…"
        return (
            f"{self.base_url} refused the key in {self.api_key_env}. "
            f"Type: export {self.api_key_env}=<a valid key>"
        )

    def _no_model(self) -> str:
        known = self._models()
        hint = did_you_mean(self.model, known)
        if known and not hint:
            hint = f" It has {', '.join(sorted(known)[:5])}."
        return f"{self.base_url} has no model {self.model}.{hint} Choose one with teacher.model=…"

    def _models(self) -> list[str]:
        import openai

        with suppress(openai.OpenAIError):  # then there is nothing to suggest
            return [model.id for model in self._client.models.list()]
        return []


def _say(error: Exception) -> str:
    """Return an error in one line, without the request that may quote a prompt."""
    status = getattr(error, "status_code", None)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return text if status is None or str(status) in text else f"HTTP {status}: {text}"
