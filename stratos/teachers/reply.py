"""What came of one chat completions request: its answer and usage, or what its error means."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stratos.core.formats import writable
from stratos.core.redact import hide_known
from stratos.teachers.base import LENGTH, TOO_LONG, Answer, Billed, Question
from stratos.teachers.scheduler import LONGEST_RETRY_AFTER_S, Outcome

_PASSING = frozenset((408, 409, 425, 429))
_REFUSED, _TOO_LARGE = frozenset((400, 422)), 413
_OF_LENGTH = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum (?:context|model) length"
    r"|context (?:length|size|window|limit)|(?:prompt|input) is too long|input token count"
    r"|maximum number of (?:input )?tokens",
    re.IGNORECASE,
)
"""How providers and servers say that a prompt passes the context; each has its own words."""
_MAYBE_BILLED = frozenset((408, 502, 504, 524))
"""A gateway gave up; the model behind it may have answered."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where servers put what a model wrote before its answer."""
_UNREADABLE_REASONING = ("reasoning_details", "thinking_blocks", "encrypted_content")
"""Where they say that there was some, which is encrypted or only summed up."""
_CUT = frozenset(
    (
        *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length"),
        *("model_length", "token_limit", "length_limit", "model_context_window_exceeded"),
    )
)
"""How providers say, each in its own words, that an answer ended at the longest length."""


class DeadlineError(TimeoutError):
    """A call that was not answered whole in time.

    Args:
        seconds: that it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no whole answer within {seconds:g} s")


class RedirectError(Exception):
    """An endpoint that points to another host, where nothing is sent.

    Args:
        target: scheme and host of the other, without what else stands in the address.
    """

    def __init__(self, target: str) -> None:
        super().__init__(f"it points to {target}")
        self.target = target


class Garbled(Exception):
    """The endpoint answered with something that is no chat completion."""


def to_answer(reply: Any, question: Question, seconds: float) -> Answer:
    """Return the answer in a chat completion, as it stands in JSON.

    Raises:
        Garbled: it is none.
        ImplausibleUsage: it cannot have taken what it says.
    """
    choices = _part(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    content = _part(_part(choice, "message"), "content")
    if not isinstance(choice, dict) or not isinstance(content, str | None):
        raise Garbled("the reply is no chat completion")
    text = writable("\n".join([*([content] if content else []), *_calls(_part(choice, "message"))]))
    finish = _part(choice, "finish_reason")
    finish = finish if isinstance(finish, str) else ""
    finish = LENGTH if finish.lower() in _CUT else finish
    message = _part(choice, "message")
    thought = (_part(message, name) for name in _REASONING)
    usage = read_usage(
        _part(reply, "usage"),
        question,
        text,
        reasoning=next((part for part in thought if isinstance(part, str)), ""),
        is_cut=finish == LENGTH,
        hides_reasoning=any(_part(message, name) for name in _UNREADABLE_REASONING),
    )
    if _ended_at_limit(finish, usage, question.max_tokens):
        finish = LENGTH
    return Answer(
        hide_known(text),  # an endpoint may repeat its key, and answers are written into files
        usage.input_tokens,
        usage.output_tokens,
        seconds,
        finish=finish,
        is_estimated=usage.is_estimated,
        cached_input_tokens=usage.cached_input_tokens,
    )


def _calls(message: Any) -> list[str]:
    """Return the calls of tools that a message has, each as models write one in a text.

    Tools are offered in the text of a question, and some endpoints read the calls out of an answer.
    """
    calls = _part(message, "tool_calls")
    functions = [_part(call, "function") for call in calls] if isinstance(calls, list) else []
    return [
        f'<tool_call>\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
        f"{arguments or '{}'}}}\n</tool_call>"
        for function in functions
        if isinstance(name := _part(function, "name"), str)
        and isinstance(arguments := _part(function, "arguments"), str)
    ]


def _ended_at_limit(finish: str, usage: Usage, max_tokens: int) -> bool:
    """Return whether the tokens show that an answer was cut, whatever its endpoint says.

    Some endpoints give no reason, or "stop" for every answer. An answer that ends by itself at
    exactly the longest length is taken for a cut one; that is rare, and costs one more question.
    An endpoint that says "stop" beyond the length keeps no limit, so that nothing was cut. Some
    count the token that ends the answer, hence one more.
    """
    if usage.is_estimated:
        return False
    return usage.output_tokens >= max_tokens and (
        not finish or usage.output_tokens <= max_tokens + 1
    )


def sort(error: Exception) -> Outcome:
    """Return what an error means: whether another try may help, and what this one is billed."""
    import openai

    if redirect := redirect_in(error):
        return Outcome(error=redirect)
    lost = Billed.NOTHING if _never_connected(error) else Billed.USUAL
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        late = Billed.NOTHING if _never_connected(error) else Billed.MOST
        return Outcome(error=error, passing=True, billed=late)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        wait = retry_after_s(error.response.headers)
        passing = status in _PASSING or status >= 500
        if getattr(error, "code", None) == "insufficient_quota":
            passing = False
        if says_too_long(status, str(error)):
            return Outcome(Answer("", 0, 0, 0.0, finish=TOO_LONG), error)
        if wait is not None and wait > LONGEST_RETRY_AFTER_S:
            passing = False
        billed = Billed.USUAL if status in _MAYBE_BILLED else Billed.NOTHING
        return Outcome(None, error, passing, billed, wait)
    if isinstance(error, openai.APIConnectionError):
        return Outcome(error=error, passing=True, billed=lost)
    if isinstance(error, ImplausibleUsage):
        return Outcome(error=error, passing=True, billed=Billed.MOST)
    if isinstance(error, openai.APIResponseValidationError | Garbled | ValueError | TypeError):
        return Outcome(error=error, passing=True, billed=Billed.USUAL)
    passing = not isinstance(error, openai.OpenAIError)
    return Outcome(error=error, passing=passing, billed=Billed.MOST)


def says_too_long(status: int, text: str) -> bool:
    """Return whether a refusal means that the prompt passes the context, or the largest body."""
    return status == _TOO_LARGE or (status in _REFUSED and bool(_OF_LENGTH.search(text)))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a server asks for: in milliseconds, seconds, or as a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with suppress(TypeError, ValueError):
            pause = float(headers.get(name) or "") * unit
            if math.isfinite(pause):
                return max(0.0, pause)
    with suppress(TypeError, ValueError):
        date = email.utils.parsedate_to_datetime(headers.get("retry-after") or "")
        return max(0.0, date.timestamp() - time.time())
    return None


def _never_connected(error: BaseException) -> bool:
    """Tell whether the request cannot have reached the server."""
    names = ("ConnectError", "ConnectTimeout", "PoolTimeout")
    return any(type(cause).__name__ in names for cause in _causes(error))


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, dict) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it comes from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def redirect_in(error: BaseException) -> RedirectError | None:
    """Return the redirect that an error comes from, if it does."""
    return next((cause for cause in _causes(error) if isinstance(cause, RedirectError)), None)


# Check the token counts that an endpoint reports against the bytes sent and received.
#
# A count that is missing is counted from the bytes, and never as nothing. One that no tokenizer can
# have given is no count at all: the reply is then no answer.

MESSAGE_TOKENS = 16
"""Most tokens that a chat template adds to a message."""
_BYTES_A_TOKEN = 16
"""Bytes that a token stands for on average at the very most; ordinary text has 3 to 6."""
_SHORT = 64
"""Bytes up to which a text may be a few long tokens."""
_HIDDEN_TOKENS = 8192
"""Most that a provider's own prompt adds to a question."""
_MOST_REASONING = 2**18
"""Tokens of reasoning that are believed, told apart or not. They are billed, so a count that a
model can have written is booked as it is told, whatever the limit was."""
_MOST_CACHED = 2**40
"""Tokens read before that are told, above which the number is not looked at."""
_RUN = re.compile(r"(.)\1{4,}", re.DOTALL)
"""The same character again and again, which many tokenizers take as one token."""


class ImplausibleUsage(ValueError):
    """A count of tokens that cannot be right."""


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer took."""

    input_tokens: int
    output_tokens: int
    is_estimated: bool
    """True if one of them was counted from bytes: an upper estimate."""
    cached_input_tokens: int = 0
    """Of the input tokens those that the endpoint had read before, as far as it tells."""


def most_input_tokens(question: Question) -> int:
    """Return the most tokens that a prompt has: no tokenizer makes more than there are bytes."""
    n = sum(len(message["content"].encode("utf-8", "replace")) for message in question.chat)
    return n + MESSAGE_TOKENS * len(question.chat)


def read_usage(
    usage: Any,
    question: Question,
    text: str,
    *,
    reasoning: str = "",
    is_cut: bool = False,
    hides_reasoning: bool = False,
) -> Usage:
    """Return what an answer took.

    Args:
        usage: as it stands in the reply; anything, or None.
        question: that was asked.
        text: the answer.
        reasoning: what the model wrote before it, where the endpoint shows that.
        is_cut: the answer ended at its longest.
        hides_reasoning: the model wrote something before it that the endpoint does not show.

    Raises:
        ImplausibleUsage: a count is negative, not finite, or more than the bytes allow by far.
    """
    usage = usage if isinstance(usage, Mapping) else {}
    prompt = "\n".join(message["content"] for message in question.chat)
    most_in = most_input_tokens(question)
    sent = f"were read for a prompt of {len(prompt.encode('utf-8', 'replace')):,} bytes"
    n_input = _count(usage.get("prompt_tokens"), 2 * most_in + _HIDDEN_TOKENS, sent)
    written = reasoning + text
    n_bytes = len(written.encode("utf-8", "replace"))
    most_out = 2 * max(question.max_tokens, n_bytes) + _MOST_REASONING
    came = f"were written in an answer of {n_bytes:,} bytes"
    n_output = _count(usage.get("completion_tokens"), most_out, came)
    is_estimated = False
    if n_input < max(1, _least(prompt)) and prompt:
        n_input, is_estimated = most_in, True
    least_out = _least(written)
    # What wrote no text, and what reasoned unseen, may have taken all that it was allowed.
    fills_limit = is_cut or hides_reasoning or not written
    is_untold = usage.get("completion_tokens") is None
    if n_output < max(1, least_out) and (written or is_cut or is_untold):
        # A limit that the endpoint keeps is the most that it can be.
        keeps_limit = least_out <= question.max_tokens
        n_output = min(n_bytes, question.max_tokens) if keeps_limit else n_bytes
        n_output = question.max_tokens if fills_limit and keeps_limit else n_output
        is_estimated = True
    return Usage(n_input, n_output, is_estimated, min(n_input, _cached(usage)))


def _cached(usage: Mapping[str, Any]) -> int:
    """Return the input tokens that were read before: as OpenAI tells them, or as DeepSeek does."""
    details = _part(usage.get("prompt_tokens_details"), "cached_tokens")
    for count in (details, usage.get("prompt_cache_hit_tokens")):
        if isinstance(count, int | float) and not isinstance(count, bool) and count > 0:
            return int(min(count, _MOST_CACHED))  # also of infinity
    return 0


def _count(value: Any, most: int, what: str) -> int:
    """Return a count, 0 where there is none.

    Raises:
        ImplausibleUsage: it cannot be right.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float) and not math.isfinite(value):
        raise ImplausibleUsage(f"it says that {value} tokens {what}")
    if not 0 <= value <= most:
        amount = f"{value:,}" if abs(value) < 10**15 else "more than 10^15"
        raise ImplausibleUsage(f"it says that {amount} tokens {what}")
    return int(value)


def _least(text: str) -> int:
    """Return the fewest tokens that a text can have, by far; 0 for a short one."""
    if len(text) <= _SHORT:
        return 0
    dense = _RUN.sub(lambda run: run.group(1) * 4, text)
    return len(dense.encode("utf-8", "replace")) // _BYTES_A_TOKEN
