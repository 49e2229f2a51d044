"""What a request asks of a cascade: refused where the promise was measured without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stratos.contrib.cascade.endpoint.made import ALONE
from stratos.deploy.engines.chat_request import chat_of
from stratos.tasks.base import Message

_GREEDY = {"temperature": 0, "top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0}
"""Options with the only value that the promise was measured with."""
_NOT_SERVED = ("logprobs", "top_logprobs", "logit_bias", "tools", "functions")


@dataclass(frozen=True)
class Asked:
    """A request that a cascade answers."""

    messages: list[Message]
    stops: list[str]
    """Texts that end the answer."""
    limit: int | None
    """Longest answer that is wanted, in tokens; None where it is not said."""
    is_stream: bool
    with_usage: bool
    """Whether a stream ends with the tokens that it took."""


def asked_of(body: Mapping[str, Any], model: str) -> Asked:
    """Return what a request asks for.

    Args:
        body: of the request, parsed.
        model: name of the cascade.

    Raises:
        ValueError: it asks for what a cascade does not have.
    """
    own = f"The student alone takes it: ask for the model {model}{ALONE}."
    chat = chat_of(body.get("messages"))
    for name in _NOT_SERVED:
        if body.get(name) not in (None, False, [], {}):
            raise ValueError(f"{name}: a cascade does not have it. {own}")
    for name, only in _GREEDY.items():
        if body.get(name) not in (None, only):
            raise ValueError(f"{name}: the promise was measured with {only}. Leave it out. {own}")
    if body.get("response_format") not in (None, {"type": "text"}):
        raise ValueError(f"response_format: the promise was measured without it. {own}")
    limit: int | None = None
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1.")
        limit = value if limit is None else min(limit, value)
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise ValueError("stream: expected true or false.")
    how = body.get("stream_options")
    if how is not None and not isinstance(how, dict):
        raise ValueError("stream_options: expected an object.")
    messages: list[Message] = [{"role": one["role"], "content": one["content"]} for one in chat]
    return Asked(
        messages, _stops(body.get("stop")), limit, bool(stream),
        bool(how and how.get("include_usage")),
    )  # fmt: skip


def _stops(value: Any) -> list[str]:
    """Return the texts that end an answer.

    Raises:
        ValueError: they are no texts.
    """
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise ValueError("stop: expected a text, or a list of texts, none of them empty.")
    return stops
