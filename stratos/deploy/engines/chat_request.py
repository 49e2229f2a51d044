"""A request to the chat API: read, checked, and as llama.cpp is asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from stratos.core.counted import listed
from stratos.deploy.engines.answer_form import AnswerForms
from stratos.deploy.engines.chat_ids import ChatIds

PLAIN = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Greedy where a request says nothing else, as the bundle is; what is drawn is drawn from all."""
NOT_SERVED = ("top_logprobs", "functions", "logit_bias")
"""Options of the API that would change an answer, and that are refused in place of ignored."""
NUMBERS = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
"""Options that llama.cpp has by the same name, and from where to where they go."""
WHOLE = {"top_k": (0, 2**31 - 1), "seed": (-1, 2**32 - 1)}
"""Those that are whole numbers."""
MOST_TOKENS = 2**31 - 1
"""What `max_tokens` may say; the context ends an answer before."""
MOST_STOPS = 64
ROLES = ("system", "user", "assistant", "tool")
"""Of messages, as chat templates know them."""
_DEEPEST = "the request has too many lists and objects inside each other."


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    llama: Mapping[str, Any]
    """What llama.cpp is asked."""
    stops: list[str]
    is_stream: bool
    has_tools: bool
    has_form: bool
    has_logprobs: bool
    """Whether the answer is to tell how likely each of its tokens was."""


class Requests:
    """Reads requests to a bundle."""

    def __init__(
        self, chats: ChatIds, forms: AnswerForms, most_tokens: int, context: float = math.inf
    ) -> None:
        self._chats, self._forms, self._most_tokens = chats, forms, most_tokens
        self._context = context

    def read(self, data: bytes) -> Asked:
        """Return what a request asks for.

        Raises:
            ValueError: the request is not one that can be answered.
            ChatError: the bundle's template does not take the chat.
        """
        try:
            return self._asked(parsed(data))
        except RecursionError:
            raise ValueError(_DEEPEST) from None

    def _asked(self, body: Mapping[str, Any]) -> Asked:
        messages = chat_of(body.get("messages"))
        for name, value in ((name, body.get(name)) for name in NOT_SERVED):
            if value not in (None, False, [], {}):
                raise ValueError(f"{name}: this server does not have it.")
        n, stream = body.get("n"), body.get("stream")
        if n is not None and (isinstance(n, bool) or n != 1):
            raise ValueError("n: this server gives one answer to a request.")
        if stream is not None and not isinstance(stream, bool):
            raise ValueError("stream: expected true or false.")
        logprobs = body.get("logprobs")
        if logprobs is not None and not isinstance(logprobs, bool):
            raise ValueError("logprobs: expected true or false.")
        if logprobs and stream:
            raise ValueError("logprobs: they are given whole. Leave stream out.")
        stops = body.get("stop")
        stops = [] if stops is None else [stops] if isinstance(stops, str) else stops
        if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
            raise ValueError("stop: expected a text, or a list of texts.")
        if len(stops) > MOST_STOPS:
            raise ValueError(f"stop: expected {MOST_STOPS} texts at most.")
        tools = body.get("tools") or None
        if tools is not None and not (
            isinstance(tools, list) and all(isinstance(one, Mapping) for one in tools)
        ):
            raise ValueError("tools: expected a list of tools.")
        if tools is not None and stream:
            raise ValueError("tools: calls are given whole. Leave stream out.")
        if body.get("tool_choice") not in (None, "auto"):
            raise ValueError("tool_choice: this server has auto alone.")
        form = self._forms.asked(body.get("response_format"))
        llama = {
            **PLAIN,
            **_options(body),
            **form,
            "n_predict": self._n_tokens(body),
            "prompt": self._chats.ids(messages, tools, self._context),
            "return_tokens": True,
            "stream": bool(stream),
            # Of the distribution before sampling options: how likely the model itself finds it.
            **({"n_probs": 1} if logprobs else {}),
        }
        return Asked(llama, stops, bool(stream), tools is not None, bool(form), bool(logprobs))

    def _n_tokens(self, body: Mapping[str, Any]) -> int:
        found = self._most_tokens
        for name in ("max_tokens", "max_completion_tokens"):  # the latter counts
            value = body.get(name)
            if value is None:
                continue
            if type(value) is not int or not 1 <= value <= MOST_TOKENS:
                raise ValueError(
                    f"{name}={_shown(value)}: expected a whole number of at least 1, and at most "
                    f"{MOST_TOKENS:,}."
                )
            found = value
        return found


def parsed(data: bytes) -> Mapping[str, Any]:
    """Return the object that the text of a request is.

    Raises:
        ValueError: it is none, or holds what JSON does not have.
        RecursionError: it is nested too deeply.
    """
    try:
        body = json.loads(data, parse_constant=_no_number, parse_int=_whole)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the request is not JSON: {error}.") from None
    if not isinstance(body, Mapping):
        raise ValueError("messages: expected a list of messages.")
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("the request has half of a surrogate pair, which is no text.") from None
    except ValueError:
        raise ValueError("the request has a number that is too large.") from None
    return body


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python reads no more than some thousand digits
        raise ValueError("the request has a number that is too large.") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"the request has {name}, which is no number in JSON.")


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request that llama.cpp has by the same name.

    Raises:
        ValueError: one is no number, or out of its range.
    """
    found = {}
    for name, (least, most) in (NUMBERS | WHOLE).items():
        value = body.get(name)
        if value is None:
            continue
        kinds: Any = int if name in WHOLE else int | float
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            kind = "a whole number" if name in WHOLE else "a number"
            raise ValueError(f"{name}={_shown(value)}: expected {kind} from {least} to {most}.")
        found[name] = value
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 2**256 else "(large)"
    return text if len(text) <= 60 else f"{text[:60]}…"


def chat_of(messages: Any) -> list[dict[str, Any]]:
    """Return the messages of a request, each with a text.

    Raises:
        ValueError: they are none, one has a role that no chat template knows, or no user asks.
    """
    if not isinstance(messages, list):
        raise ValueError("messages: expected a list of messages.")
    if not messages:
        raise ValueError("messages: expected one message at least.")
    chat = [plain(message) for message in messages]
    for message in chat:
        if message["role"] not in ROLES:
            raise ValueError(f"role={_shown(message['role'])}: expected {listed(ROLES, 'or')}.")
    if all(message["role"] != "user" for message in chat):
        raise ValueError("messages: expected one of role user at least.")
    return chat


def plain(message: Any) -> dict[str, Any]:
    """Return a message whose content is a text, also where it came in parts.

    Raises:
        ValueError: it is no message, or has parts that are no text.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError("messages: each needs a role and a content.")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        if len(parts) < len(content) or any(part.get("type") != "text" for part in parts):
            raise ValueError("messages: this server reads text alone.")
        content = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(content, str):
        raise ValueError("messages: each needs a role and a content.")
    return {**message, "content": content}
