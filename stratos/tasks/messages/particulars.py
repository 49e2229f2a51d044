"""What exports write beside the messages: model, time, session, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from stratos.core.redact import redact_shapes
from stratos.tasks.messages.conversation import About
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
_LATENCY = ("latency_s", "latency", "duration_s")
_LAST_S = 253_402_300_800.0
"""When the year 10000 begins: no calendar here goes on."""
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
        {"input_tokens": one.get("input"), "output_tokens": one.get("output")} for one in usages
    ]
    counts = [*usages, *inner, *places]
    return About(
        format=format,
        model=_text(places, _MODEL),
        time_s=next((s for one in places for s in [_time(one)] if s is not None), None),
        session=session_in(places),
        input_tokens=_count(counts, _INPUT),
        output_tokens=_count(counts, _OUTPUT),
        latency_s=_number(places, _LATENCY),
    )


def seconds_of(value: Any) -> float | None:
    """Return a time in seconds since 1970: of a number of s, ms, µs or ns, or of ISO 8601.

    What is no time that a calendar has is none.
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    if isinstance(value, str):
        text = value.strip()
        if text.isdigit():
            value = int(text)
        else:
            try:
                found = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
            except ValueError:
                return None
            return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < _LAST_S * 1e9:
        return None
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


def _time(place: Mapping[str, Any]) -> float | None:
    for name in _TIME:
        if (found := seconds_of(place.get(name))) is not None:
            return found
    return None


def _text(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> str:
    found = (one[name] for one in places for name in names if isinstance(one.get(name), str))
    return redact_shapes(writable(next((text for text in found if text), "")))[0]


def _count(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> int | None:
    found = _number(places, names)
    return None if found is None else int(found)


def _number(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> float | None:
    for one in places:
        for name in names:
            value = one.get(name)
            if isinstance(value, str) and value.isdigit():
                value = int(value)
            if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
                return float(value)
    return None
