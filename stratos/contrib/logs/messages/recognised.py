"""Which format a row has, told by its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stratos.contrib.logs.messages.conversation import Conversation, WrongRow
from stratos.contrib.logs.messages.exchanges import read_exchange
from stratos.contrib.logs.messages.message_parts import decoded
from stratos.contrib.logs.messages.spans import read_span, spans_of
from stratos.contrib.logs.messages.training_rows import (
    read_alpaca,
    read_messages,
    read_prompts,
    read_sharegpt,
)
from stratos.tasks.shown import shown

KNOWN = (
    "{messages: [...]}, requests with responses (chat completions, Responses, Anthropic, LiteLLM, "
    "Langfuse), OpenTelemetry or OpenInference spans, ShareGPT, Alpaca, prompt with completion"
)
"""The formats, in words."""
_READERS: tuple[Callable[[Mapping[str, Any]], Conversation | None], ...] = (
    read_span,
    read_alpaca,
    read_exchange,
    read_sharegpt,
    read_messages,
    read_prompts,
)


def parts_of_row(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each conversation's part of a row, and where in the row it is: ", span 2" or ""."""
    spans = spans_of(row)
    if spans is None:
        yield "", row
        return
    for number, span in enumerate(spans, start=1):
        yield f", span {number}", span


def conversation_in(
    row: Mapping[str, Any], messages: str | None, answer: str | None
) -> Conversation:
    """Return the conversation that is in a row.

    Args:
        row: as it was read.
        messages: dotted name of the list of messages; None recognises the format.
        answer: dotted name of the model's answer, where it is no part of the messages.

    Raises:
        WrongRow: it is none.
        PassedOver: it is none that is used, though nothing is wrong with it.
    """
    if messages is not None:
        row = _mapped(row, messages, answer)
    for read in _READERS:
        found = read(row)
        if found is not None:
            return found
    names = ", ".join(shown(str(name)) for name in row) or "no fields"
    raise WrongRow(f"has no format that is known; it has {names}")


def _mapped(row: Mapping[str, Any], messages: str, answer: str | None) -> dict[str, Any]:
    asked = decoded(_at(row, messages))
    if asked is None:
        raise WrongRow(f"lacks the field {shown(messages)}")
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if answer is None:
        return {**_named(row), "messages": asked}
    return {**_named(row), "messages": asked, "response": _at(row, answer)}


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be a particular of a row: neither its messages nor its answer."""
    return {
        str(name): value
        for name, value in row.items()
        if not isinstance(value, list) and name not in ("messages", "response", "choices", "output")
    }


def _at(row: Any, name: str) -> Any:
    if isinstance(row, Mapping) and name in row:
        return row[name]
    for part in name.split("."):
        row = decoded(row)
        if not isinstance(row, Mapping):
            return None
        row = row.get(part)
    return row
