"""What exports write beside the messages: model, time, session, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from stratos.contrib.logs.messages.conversation import About
from stratos.core.redact import redact_shapes
from stratos.tasks.rows import writable

_MODEL = ("model", "model_name", "providedModelName", "model_id", "modelId")
_TIME = (
    "startTime", "start_time", "timestamp", "created_at", "createdAt", "created", "time",
    "startTimeUnixNano", "start_time_unix_nano", "date",
)  # fmt: skip
_SESSION = (
    "sessionId", "session_id", "conversation_id", "conversationId", "thread_id", "chat_id",
)  # fmt: skip
_INPUT = ("input_tokens", "prompt_tokens", "inputTokens", "promptTokens")
_OUTPUT = ("output_tokens", "completion_tokens", "outputTokens", "completionTokens")
_USAGE = ("usage", "usageDetails", "usage_details", "token_usage")
_WITHOUT_CACHED = ("input_tokens", "inputTokens")
"""Names under which tokens from a cache are no part of the number."""
_CACHED = (
    "cache_read_input_tokens", "cache_creation_input_tokens", "input_cached_tokens",
    "input_cache_read", "input_cache_creation",
)  # fmt: skip
_LATENCY = ("latency_s", "latency", "duration_s")
_LAST_S = 253_402_300_800.0
"""When the year 10000 begins: no calendar here goes on."""
_FIRST_YEAR = 1971
_MOST = 1e15
"""Tokens, or seconds, that no row has."""
_MOST_DIGITS = 20
_INNER = ("metadata", "request", "response", "body")
"""Objects of a row that are looked into, too."""


def particulars(format: str, row: Mapping[str, Any], *others: Any) -> About:
    """Return what a row says beside the messages, or objects that belong to it.

    Args:
        format: name of its format.
        row: as it was read.
        others: objects, such as its response; the row itself goes before.
    """
    places = [row]
    for other in (*others, *(row.get(name) for name in _INNER)):
        if isinstance(other, Mapping):
            places.append(other)
            inner = other.get("body")
            places += [inner] if isinstance(inner, Mapping) else []
    usages = [one[name] for one in places for name in _USAGE if isinstance(one.get(name), Mapping)]
    inner = [
        {**one, "input_tokens": one.get("input"), "output_tokens": one.get("output")}
        for one in usages
        if "input" in one
    ]
    counts = [*usages, *inner, *places]
    return About(
        format=format,
        model=_text(places, _MODEL),
        time_s=next((s for one in places for s in [_time(one)] if s is not None), None),
        session=session_in(places),
        input_tokens=next((n for one in counts for n in [_asked(one)] if n is not None), None),
        output_tokens=next((n for one in counts for n in [_said(one)] if n is not None), None),
        latency_s=_latency(places),
    )


def seconds_of(value: Any) -> float | None:
    """Return a time in seconds since 1970.

    It is a number of s, ms, µs or ns, ISO 8601, or YYYYMMDD with or without HHMMSS. What is no time
    that a calendar has is none, and so is the zero time of some languages: 1970, or the year 1.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal() and len(text) <= _MOST_DIGITS:
            value = int(text)
        else:
            value = _datetime(text.replace(" UTC", "+00:00"))
    if isinstance(value, datetime):
        seconds = value.replace(tzinfo=value.tzinfo or UTC).timestamp()
        return seconds if 0 < seconds < _LAST_S else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < _LAST_S * 1e9:
        return None
    # As a number of seconds, a date of eight digits lies before 1974; one of ms with fourteen has
    # its day in the year 2286, at the earliest.
    digits = str(int(value))
    if len(digits) in (8, 14):
        written = digits if len(digits) == 8 else f"{digits[:8]}T{digits[8:]}"
        if (found := _datetime(written)) is not None and found.year >= _FIRST_YEAR:
            return seconds_of(found)
    for unit in (1e9, 1e6, 1e3):
        # Seconds since 1970 have at most eleven digits for the next thousand years.
        if value >= 1e11 * unit / 1e3:
            return value / unit
    return float(value)


def session_in(places: Iterable[Mapping[str, Any]]) -> str:
    """Return the first id of a session, a text or a number, that objects have; "" without one."""
    found = (one[name] for one in places for name in _SESSION if name in one)
    ids = (str(one) for one in found if isinstance(one, str | int) and not isinstance(one, bool))
    return writable(next((text for text in ids if text), ""))


def _datetime(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _time(place: Mapping[str, Any]) -> float | None:
    for name in _TIME:
        if (found := seconds_of(place.get(name))) is not None:
            return found
    return None


def _text(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> str:
    found = (one[name] for one in places for name in names if isinstance(one.get(name), str))
    return redact_shapes(writable(next((text for text in found if text), "")))[0]


def count_of(value: Any) -> int | None:
    """Return a number of tokens; None for what is none, such as NaN or a text.

    None is nought: where a request was answered, that stands for what nobody counted.
    """
    found = _amount(value)
    return int(found) if found is not None and found >= 1 else None


def _asked(place: Mapping[str, Any]) -> int | None:
    """Return the tokens of a request; Anthropic and Langfuse name those of a cache apart."""
    for name in _INPUT:
        if (found := _amount(place.get(name))) is not None:
            if name in _WITHOUT_CACHED and "prompt_tokens" not in place:
                found += sum(_amount(place.get(one)) or 0 for one in _CACHED)
            if found >= 1:
                return int(found)
    return None


def _said(place: Mapping[str, Any]) -> int | None:
    return next((n for name in _OUTPUT for n in [count_of(place.get(name))] if n is not None), None)


def _latency(places: list[Mapping[str, Any]]) -> float | None:
    found = (_amount(one.get(name)) for one in places for name in _LATENCY)
    return next((one for one in found if one is not None), None)


def _amount(value: Any) -> float | None:
    """Return a number that is not negative; None for what is none, or too large to be meant."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return float(value)
    return None
