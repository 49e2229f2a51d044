"""The settings of a teacher behind an API: where it lies, its price, when it retires."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
from dataclasses import dataclass, field
from math import log
from typing import Any
from urllib.parse import urlsplit

from stratos.core.errors import TeacherError
from stratos.core.formats import writable
from stratos.core.reasons import Reason
from stratos.core.redact import redact_text
from stratos.teachers.base import CacheMode, Question, check_facts
from stratos.teachers.words import NoKey, NoPrice, OddKey, Retired

_OWN_SUFFIXES = (".local", ".internal", ".lan", ".localhost")
"""Ends of host names that private networks give."""
_HOST = re.compile(r"(?=.{1,253}$)[^\s./?#@:]{1,63}(\.[^\s./?#@:]{1,63})*\.?|[0-9a-fA-F:.%]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[!-~]+")
"""What a header carries: printable ASCII without spaces."""
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LIMITS = ("max_tokens", "max_completion_tokens")
_TAKEN = ("model", "messages", "n", "best_of", "stream", "stream_options")
"""Fields of a request that are set elsewhere, or would change what comes back and is paid."""


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


def no_price(teacher: OpenAISettings) -> NoPrice | None:
    """Return that a teacher's price is not known and what to type, or None."""
    keys = tuple(teacher.unknown_prices)
    return NoPrice(teacher.model, teacher.base_urls[0], keys) if keys else None


def is_own(url: str) -> bool:
    """Tell a server on this machine or in a private network from one on the internet."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_OWN_SUFFIXES)


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
class OpenAISettings:
    """The keys of `OpenAITeacher`, checked, and what follows from them without asking anybody."""

    name: str = ""
    """Name shown in tables and in the plan; null shows the model's."""
    model: str = ""
    """Model that the endpoint is asked for; required."""
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
    usd_per_million_cached_input_tokens: float | None = None
    """Price of a million tokens asked that the endpoint says it has read before, such as a prompt
    that all questions begin with; null for the price of all others."""
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
        """Take the model's name where there is no other; check the facts and the numbers."""
        if not self.model:
            raise ValueError("model is required: what the endpoint calls its model.")
        if not self.name:
            object.__setattr__(self, "name", self.model)
        check_facts(self.facts)
        if self.concurrency < 1 or self.max_retries < 0 or self.timeout_s <= 0:
            raise ValueError("concurrency and timeout_s must be above 0, max_retries at least 0.")
        cached = self.usd_per_million_cached_input_tokens
        if min(price or 0.0 for price in (*self._prices, *self._batch_prices, cached)) < 0:
            raise ValueError("a price per million tokens cannot be negative.")
        if (cached or 0.0) > (self.usd_per_million_input_tokens or 0.0):
            raise ValueError(
                "usd_per_million_cached_input_tokens cannot be above usd_per_million_input_tokens."
            )
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
        reserved = (*_TAKEN, "temperature", "seed")
        if not _FIELD.fullmatch(self.token_limit_field) or self.token_limit_field in reserved:
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
    def is_elsewhere(self) -> bool:
        """Whether an endpoint is not one of the user's own."""
        return not all(is_own(url) for url in self.base_urls)

    @property
    def unknown_prices(self) -> tuple[str, ...]:
        """The keys of prices that nobody gave, of a server that is not one of the user's own."""
        if not self.is_elsewhere:
            return ()
        keys = ("usd_per_million_input_tokens", "usd_per_million_output_tokens")
        return tuple(key for key, price in zip(keys, self._prices, strict=True) if price is None)

    @property
    def ends(self) -> str:
        """The day from which it answers no more by its card, "" for none that is known."""
        return self.retires

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
        return {**options, **self.extra_body}

    @property
    def _key(self) -> str:
        return "none" if self.api_key_env is None else os.environ.get(self.api_key_env, "")

    def _no_key(self) -> Reason | None:
        """Return why the key cannot be sent, without the key, or None where it can."""
        variable = self.api_key_env or ""
        if not self._key:
            return NoKey(variable)
        return None if _KEY.fullmatch(self._key) else OddKey(variable)

    def key(self) -> str:
        """Return the key, or a word for an endpoint that wants none.

        Raises:
            TeacherError: it is not set, or is none.
        """
        if reason := self._no_key():
            raise TeacherError(f"Teacher {self.name}: {reason}")
        return self._key

    @property
    def _prices(self) -> tuple[float | None, float | None]:
        return self.usd_per_million_input_tokens, self.usd_per_million_output_tokens

    @property
    def _batch_prices(self) -> tuple[float | None, float | None]:
        return self.usd_per_million_batch_input_tokens, self.usd_per_million_batch_output_tokens


# Retirement dates of hosted teachers, and their replacements.

_CLASS = "stratos.teachers.openai.OpenAITeacher"
"""Which asks with these settings, as a YAML's `_target_` says."""


def retired(teacher: OpenAISettings, today: datetime.date | None = None) -> Retired | None:
    """Return why a teacher can be asked no more and what to type, or None.

    Args:
        teacher: by its card, and by what its endpoint said of it, if that was asked.
        today: None takes the date of this machine.
    """
    now = today or datetime.date.today()
    if not teacher.ends or datetime.date.fromisoformat(teacher.ends) > now:
        return None
    living = nearest_living(teacher, now)
    successor = "" if living is None else living.name
    return Retired(teacher.model, teacher.ends, teacher.retires_source, successor)


def nearest_living(teacher: OpenAISettings, today: datetime.date) -> OpenAISettings | None:
    """Return the shipped teacher that a user of this one would take next, None if none lives.

    That is one behind the same key, else any; of these the one whose price is most alike.
    """
    living = [
        shipped
        for shipped in shipped_teachers()
        if shipped.model != teacher.model
        and not (shipped.retires and datetime.date.fromisoformat(shipped.retires) <= today)
    ]

    def distance(candidate: OpenAISettings) -> tuple[bool, float, str]:
        ours, theirs = _price(teacher), _price(candidate)
        apart = abs(log(theirs / ours)) if ours and theirs else 0.0
        return candidate.api_key_env != teacher.api_key_env, apart, candidate.name

    return min(living, key=distance, default=None)


def shipped_teachers() -> list[OpenAISettings]:
    """Return the shipped hosted teachers that are complete as they are."""
    import yaml

    from stratos.core.extensions import shipped_choices
    from stratos.core.values import read_dataclass

    teachers = []
    for path in shipped_choices("teacher").values():
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        if node.pop("_target_", None) != _CLASS or "???" in node.values():
            continue
        node["name"] = node.get("name") or path.stem  # what is typed, not what is shown
        teacher = read_dataclass(node, OpenAISettings, path.stem, [])
        if teacher is not None:
            teachers.append(teacher)
    return teachers


def _price(teacher: OpenAISettings) -> float:
    """Return dollars of a million tokens in and a million out."""
    input_price, answered = (
        teacher.usd_per_million_input_tokens,
        teacher.usd_per_million_output_tokens,
    )
    return (input_price or 0.0) + (answered or 0.0)


# The shipped card of a model, by the name that a log has for it.

_SNAPSHOT = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
"""What a provider puts behind the name of a model for one version of it."""


def card_of(model: str) -> OpenAISettings | None:
    """Return the shipped card of a model as logs name it: with a provider, or a version's date."""
    bare = model.rpartition("/")[2].casefold()
    for name in (model.casefold(), bare, _SNAPSHOT.sub("", bare)):
        for card in shipped_teachers():
            if name in (card.model.casefold(), card.model.rpartition("/")[2].casefold()):
                return card
    return None
