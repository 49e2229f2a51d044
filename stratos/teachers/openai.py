"""A teacher behind an API: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stratos.errors import TeacherError, did_you_mean
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Keep, Tick
from stratos.teachers.facts import FACTS, check_facts

if TYPE_CHECKING:
    from openai import OpenAI

_REACH_SECONDS = 10.0


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
    max_requests_per_minute: float | None = None
    """What the endpoint allows; the plan counts with it."""
    concurrency: int = 16
    """Requests in flight at once."""
    timeout_s: float = 60.0
    """Longest wait for one answer, in seconds."""
    max_retries: int = 5
    """Tries after the first, on 408, 409, 429, 5xx, timeouts and cut connections."""
    temperature: float | None = 0.0
    """0 answers greedily; null leaves it to a model that refuses the setting."""
    token_limit_field: str = "max_tokens"
    """What the endpoint calls the limit; OpenAI's reasoning models want max_completion_tokens."""
    license: str = "unknown"
    """Licence or terms that the answers are under."""
    facts: dict[str, int] = field(default_factory=dict)
    """Facts of the model card that are known, such as context_length; 0 stands for unknown."""

    def __post_init__(self) -> None:
        """Check the facts and the numbers."""
        check_facts(self.facts)
        if self.concurrency < 1 or self.max_retries < 0 or self.timeout_s <= 0:
            raise ValueError("concurrency and timeout_s must be above 0, max_retries at least 0.")
        if min(self.usd_per_million_input_tokens, self.usd_per_million_output_tokens) < 0:
            raise ValueError("a price per million tokens cannot be negative.")

    def unreachable(self) -> str | None:
        """Return why the endpoint cannot be asked and what to type, or None. Asks it once."""
        return self._unreachable

    def card(self) -> ModelCard:
        """Return price, limits and the known facts of the model."""
        facts: dict[str, Any] = {**dict.fromkeys(FACTS, 0), **self.facts}
        return ModelCard(
            **facts,
            name=self.name,
            license=self.license,
            usd_per_million_input_tokens=self.usd_per_million_input_tokens,
            usd_per_million_output_tokens=self.usd_per_million_output_tokens,
            max_requests_per_minute=self.max_requests_per_minute,
        )

    def identity(self) -> str:
        """Return endpoint, model and sampling."""
        return json.dumps(["openai", self.base_url.rstrip("/"), self.model, self.temperature])

    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        The first question of a process is asked alone, so that a wrong key is tried once.

        Raises:
            TeacherError: no key, a wrong one, an unknown model, or an endpoint that still fails
                after all retries.
        """
        answers: dict[int, Answer] = {}

        def take(index: int, answer: Answer) -> None:
            answers[index] = answer
            if keep is not None:
                keep(index, answer)
            if tick is not None:
                tick(len(answers), len(chats))

        with self._explained():
            n_alone = 0 if self.__dict__.get("_proved") else 1
            for index, chat in enumerate(chats[:n_alone]):
                take(index, self._answer(chat, max_tokens))
                self.__dict__["_proved"] = True
            pool = ThreadPoolExecutor(self.concurrency)
            try:
                futures = {
                    pool.submit(self._answer, chat, max_tokens): index
                    for index, chat in enumerate(chats)
                    if index >= n_alone
                }
                for future in as_completed(futures):
                    take(futures[future], future.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return [answers[index] for index in range(len(chats))]

    def close(self) -> None:
        """Close the connections."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    def _answer(self, chat: list[Message], max_tokens: int) -> Answer:
        """Ask one chat; a reply that is no chat completion is asked for again."""
        for n_left in range(self.max_retries, -1, -1):
            try:
                return self._ask_once(chat, max_tokens)
            except ValueError:
                if n_left == 0:
                    raise
        raise AssertionError("unreachable")

    def _ask_once(self, chat: list[Message], max_tokens: int) -> Answer:
        from openai.types.chat import ChatCompletion

        options: dict[str, Any] = {self.token_limit_field: max_tokens}
        if self.temperature is not None:
            options["temperature"] = self.temperature
        messages: Any = [{**message, "content": _writable(message["content"])} for message in chat]
        began = time.perf_counter()
        reply = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        seconds = time.perf_counter() - began
        if not isinstance(reply, ChatCompletion) or not reply.choices:
            raise ValueError("the reply is no chat completion")
        text = _writable(getattr(reply.choices[0].message, "content", None) or "")
        if reply.usage is not None:
            return Answer(text, reply.usage.prompt_tokens, reply.usage.completion_tokens, seconds)
        # Without a count of its own an answer is billed at the most that it can be: its bytes.
        n_input = sum(len(message["content"].encode()) for message in messages)
        return Answer(text, n_input, len(text.encode()), seconds)

    @property
    def _key(self) -> str | None:
        return "none" if self.api_key_env is None else os.environ.get(self.api_key_env)

    @cached_property
    def _client(self) -> OpenAI:
        from openai import OpenAI

        if not self._key:
            raise TeacherError(f"Teacher {self.name}: {self._no_key()}")
        return OpenAI(
            api_key=self._key,
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=self.max_retries,
        )

    @cached_property
    def _unreachable(self) -> str | None:
        if not self._key:
            return self._no_key()
        import openai

        quick = self._client.with_options(timeout=_REACH_SECONDS, max_retries=1)
        try:
            quick.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return self._wrong_key()
        except openai.APIConnectionError:
            return f"{self.base_url} cannot be reached. Check the network, or teacher.base_url."
        except openai.OpenAIError:
            return None  # an endpoint need not list its models
        return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the client's errors into one message that says what to do."""
        import openai

        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise TeacherError(f"Teacher {self.name}: {self._wrong_key()}") from error
        except openai.NotFoundError as error:
            raise TeacherError(f"Teacher {self.name}: {self._no_model()}") from error
        except openai.BadRequestError as error:
            raise TeacherError(
                f"Teacher {self.name}: {self.base_url} refused the request "
                f"({_say(error)}). Check teacher.token_limit_field and teacher.temperature, and "
                "that the prompt fits the model's context."
            ) from error
        except (openai.OpenAIError, ValueError) as error:
            raise TeacherError(
                f"Teacher {self.name}: {self.base_url} gave no answer after "
                f"{self.max_retries + 1} tries ({_say(error)}). What was answered is kept: give "
                "the same command again, with a smaller teacher.concurrency if it is overloaded."
            ) from error

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
        import openai

        known: list[str] = []
        with suppress(openai.OpenAIError):  # then there is nothing to suggest
            known = [model.id for model in self._client.models.list()]
        hint = did_you_mean(self.model, known)
        if known and not hint:
            hint = f" It has {', '.join(sorted(known)[:5])}."
        return f"{self.base_url} has no model {self.model}.{hint} Choose one with teacher.model=…"


def _writable(text: str) -> str:
    """Return a text without lone surrogates, which can stand in JSON and in no file."""
    return text.encode("utf-8", "replace").decode()


def _say(error: Exception) -> str:
    """Return an error in one line, without the request that may quote a prompt."""
    status = getattr(error, "status_code", None)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return text if status is None or str(status) in text else f"HTTP {status}: {text}"
