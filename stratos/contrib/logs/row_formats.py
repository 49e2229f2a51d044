"""Which format a row has, told by its content.

A span is a JSON object of its own (as SDKs print it, or a column for each attribute), or one of
many in a message of the OpenTelemetry protocol (`resourceSpans`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stratos.contrib.logs.conversation import (
    FIELDS,
    Conversation,
    PassedOver,
    Trace,
    Turn,
    UnansweredRow,
    WrongRow,
    conversation_of,
    count_of,
    first_known,
    particulars,
)
from stratos.contrib.logs.exchanges import (
    CUT_SHORT,
    FAILED,
    OTHER_SPAN,
    decoded,
    messages_in,
    offered_tools,
    parts_of,
    read_exchange,
    turns_of,
)
from stratos.contrib.logs.schema_guided import read_dialogue
from stratos.core.formats import writable
from stratos.core.redact import redact_shapes, shown

MESSAGES = "fine-tuning messages"
SHAREGPT = "ShareGPT"
ALPACA = "Alpaca"
PROMPTS = "prompt and completion"

_SAID_TO_INSTRUCTIONS = ("output", "response")
_PROMPT = ("prompt", "input", "question")
_COMPLETION = ("completion", "preferred_output", "chosen", "response")

Row = Mapping[str, Any]


def read_messages(row: Row) -> Trace | None:
    """Return the conversation of `{"messages": [...]}`; None for another row."""
    messages = decoded(row.get("messages", row.get("conversation", row.get("conversations"))))
    if messages is None or _is_sharegpt(messages):
        return None
    about, tools = particulars(MESSAGES, row), offered_tools(row)
    about.offers_tools = tools is not None
    return Trace(_with_system(row, turns_of(messages)), about, tools)


def read_sharegpt(row: Row) -> Trace | None:
    """Return the conversation of `{"conversations": [{"from": …, "value": …}]}`, or None."""
    messages = decoded(row.get("conversations", row.get("conversation", row.get("messages"))))
    if not _is_sharegpt(messages):
        return None
    return Trace(_with_system(row, turns_of(messages)), particulars(SHAREGPT, row))


def read_alpaca(row: Row) -> Trace | None:
    """Return the conversation of `{"instruction": …, "input": …, "output": …}`, or None."""
    key = next((name for name in _SAID_TO_INSTRUCTIONS if name in row), None)
    if not isinstance(row.get("instruction"), str) or key is None:
        return None
    instruction, output = row["instruction"], row[key]
    given = row.get("input") or row.get("context") or ""
    if not isinstance(given, str) or not isinstance(output, str | None):
        raise WrongRow(f"input or {key} is no text")
    turns: list[Turn] = []
    history = decoded(row.get("history"))
    for pair in history if isinstance(history, list) else ():
        if not isinstance(pair, list) or [type(text) for text in pair] != [str, str]:
            raise WrongRow("history is no list of pairs of texts")
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1], is_learnt=False)]
    turns.append(Turn("user", f"{instruction}\n\n{given}" if given else instruction))
    if not (output or "").strip():
        raise UnansweredRow(f"has no answer of the model ({key})")
    turns.append(Turn("assistant", output or ""))
    return Trace(_with_system(row, turns), particulars(ALPACA, row))


def read_prompts(row: Row) -> Trace | None:
    """Return the conversation of a prompt with its completion, or with the preferred one; or None.

    Each is a text or a list of messages.
    """
    prompt, answer = (
        messages_in(next((row[name] for name in names if row.get(name) is not None), None))
        for names in (_PROMPT, _COMPLETION)
    )
    if prompt is None or answer is None:
        return None
    if isinstance(prompt, Mapping) and "messages" in prompt:
        prompt = prompt["messages"]
    before, after = _turns("user", prompt, "prompt"), _turns("assistant", answer, "completion")
    if not isinstance(answer, str) and after[: len(before)] == before:
        before = []  # preference data that repeat the prompt in front of each answer
    about = particulars(PROMPTS, row)
    about.only_last = True
    return Trace(_with_system(row, [*before, *after]), about)


def _is_sharegpt(messages: Any) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else None
    return isinstance(first, Mapping) and "from" in first and "role" not in first


def _with_system(row: Row, turns: list[Turn]) -> list[Turn]:
    prompt = row.get("system", row.get("system_prompt"))
    has_one = bool(turns) and turns[0].role == "system"
    if not isinstance(prompt, str | list) or not prompt or has_one:
        return turns
    text, n_images, *_ = parts_of(prompt, 0)
    return [Turn("system", text, n_images=n_images), *turns]


def _turns(role: str, value: Any, what: str) -> list[Turn]:
    return [Turn(role, value)] if isinstance(value, str) else turns_of(value, what)


OTEL = "OpenTelemetry GenAI spans"
OPENINFERENCE = "OpenInference spans"
OPENLLMETRY = "OpenLLMetry spans"
SPANS = (OTEL, OPENINFERENCE, OPENLLMETRY)
"""Formats of spans: one for each call of a model."""

_LISTED = re.compile(
    r"(?:gen_ai|llm)\.(prompt|completion|input_messages|output_messages)\.(\d+)\.(.+)"
)
_CALL = re.compile(
    r"(?:message\.)?tool_calls\.(\d+)\.(?:tool_call\.)?(?:function\.)?(name|arguments|id)"
)
_TOOL = re.compile(
    r"llm\.(?:tools|request\.functions)\.(\d+)\.(?:tool\.)?"
    r"(json_schema|name|description|parameters)"
)
_ASKS = ("chat", "text_completion", "generate_content")
"""Operations that ask a model for a text."""
_CUT = ("length", "max_tokens", "content_filter")


def _spans(resources: list[Any]) -> Iterator[Row]:
    """Yield the spans in a message of the OpenTelemetry protocol."""
    for resource in resources:
        scopes = resource.get("scopeSpans", resource.get("scope_spans", ()))
        for scope in scopes:
            for span in scope.get("spans", ()):
                events = [
                    {**event, "attributes": _flat(event.get("attributes"))}
                    for event in span.get("events", ())
                ]
                yield {**span, "attributes": _flat(span.get("attributes")), "events": events}


def _flat(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dict of dotted names, of whichever form they have."""
    if isinstance(attributes, list):
        return {
            entry["key"]: _value(entry.get("value"))
            for entry in attributes
            if isinstance(entry, Mapping) and isinstance(entry.get("key"), str)
        }
    flat: dict[str, Any] = {}
    if isinstance(attributes, Mapping):
        for name, value in attributes.items():
            if isinstance(value, Mapping) and name in ("llm", "gen_ai", "usage", "request",
                                                       "response", "token_count"):  # fmt: skip
                flat |= {f"{name}.{inner}": entry for inner, entry in _flat(value).items()}
            else:
                flat[str(name)] = value
    return flat


def _value(value: Any) -> Any:
    """Return what a value of the OpenTelemetry protocol holds."""
    if not isinstance(value, Mapping):
        return value
    for kind in ("stringValue", "string_value", "doubleValue", "boolValue"):
        if kind in value:
            return value[kind]
    if "intValue" in value:
        return int(value["intValue"])
    if isinstance(inner := value.get("arrayValue"), Mapping):
        return [_value(entry) for entry in inner.get("values", ())]
    if isinstance(inner := value.get("kvlistValue"), Mapping):
        return {entry["key"]: _value(entry.get("value")) for entry in inner.get("values", ())}
    return None


def read_span(row: Row) -> Trace | None:
    """Return the turns of a span of a model's call; None for a row that is no span.

    Raises:
        PassedOver: it is a span of other work, or its answer was cut short.
        WrongRow: it is one, with something wrong.
    """
    attributes = _attributes(row)
    if attributes is None:
        return None
    events = decoded(row.get("events")) or []
    has_calls = any(name.startswith(("gen_ai.", "llm.")) for name in attributes)
    if not has_calls:
        raise PassedOver(OTHER_SPAN)
    if str(decoded(row.get("status"))).find("ERROR") >= 0 or "error.type" in attributes:
        raise PassedOver(FAILED)
    read = _by_messages(attributes) or _by_places(attributes) or _by_events(events)
    if read is None:
        if attributes.get("gen_ai.operation.name", "chat") in _ASKS:
            raise UnansweredRow(
                "is a span without messages: record them with "
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true"
            )
        raise PassedOver(OTHER_SPAN)
    format, turns, reasons = read
    if any(reason in _CUT for reason in reasons):
        raise PassedOver(CUT_SHORT)
    about = particulars(format, row)
    about.only_last = True
    model = (
        attributes.get("gen_ai.response.model")
        or attributes.get("gen_ai.request.model")
        or attributes.get("llm.model_name")
    )
    about.model, _ = redact_shapes(writable(str(model or "")))
    session = attributes.get("gen_ai.conversation.id") or attributes.get("session.id")
    about.session = str(session or "")
    about.input_tokens = _count(attributes, "input_tokens", "prompt_tokens", "prompt")
    about.output_tokens = _count(attributes, "output_tokens", "completion_tokens", "completion")
    tools = _tools_of_span(attributes)
    about.offers_tools = tools is not None
    return Trace(turns, about, tools)


def _attributes(row: Row) -> dict[str, Any] | None:
    for name in ("attributes", "Attributes", "SpanAttributes", "span_attributes"):
        attributes = decoded(row.get(name))
        if isinstance(attributes, Mapping | list):
            return _flat(attributes)
    columns = {
        name.removeprefix("attributes."): value
        for name, value in row.items()
        if name.startswith(("attributes.", "gen_ai.", "llm.")) and value is not None
    }
    return columns or None


_Read = tuple[str, list[Turn], list[str]]


def _by_messages(attributes: Row) -> _Read | None:
    """Read `gen_ai.input.messages` and their like: lists, or the JSON of lists."""
    inputs = decoded(attributes.get("gen_ai.input.messages", attributes.get("gen_ai.prompt")))
    outputs = decoded(attributes.get("gen_ai.output.messages", attributes.get("gen_ai.completion")))
    format = OTEL
    if inputs is None:
        inputs = decoded(attributes.get("llm.input_messages"))
        outputs = decoded(attributes.get("llm.output_messages"))
        format = OPENINFERENCE
    if not isinstance(inputs, list):
        return None
    if not outputs:
        raise UnansweredRow("is a span without an answer of the model")
    before = turns_of(_unwrapped(inputs))
    after = (
        turns_of(_unwrapped(outputs))
        if isinstance(outputs, list)
        else [Turn("assistant", str(outputs))]
    )
    system = decoded(attributes.get("gen_ai.system_instructions"))
    if system:
        text, n_images, *_ = parts_of(
            [{"type": "text", "text": part.get("content", part.get("text"))} for part in system]
            if isinstance(system, list)
            else system,
            0,
        )
        before = [Turn("system", text, n_images=n_images), *before]
    reasons = [str(part.get("finish_reason")) for part in outputs if isinstance(part, Mapping)]
    return format, [*before, *after], reasons


def _unwrapped(messages: list[Any]) -> list[Any]:
    """Return messages without the names that OpenInference puts in front of everything."""
    plain = []
    for message in messages:
        message = message.get("message", message) if isinstance(message, Mapping) else message
        if isinstance(message, Mapping):
            message = {name.removeprefix("message."): value for name, value in message.items()}
        plain.append(message)
    return plain


def _by_places(attributes: Row) -> _Read | None:
    """Read attributes of one message each: `gen_ai.prompt.0.content` and its like."""
    messages: dict[tuple[bool, int], dict[str, Any]] = {}
    format = OPENLLMETRY
    for name, value in attributes.items():
        match = _LISTED.fullmatch(name)
        if match is None:
            continue
        kind, number, key = match.groups()
        is_said = kind in ("completion", "output_messages")
        if "messages" in kind:
            format = OPENINFERENCE
        message = messages.setdefault((is_said, int(number)), {"calls": {}})
        call = _CALL.fullmatch(key)
        if call is not None:
            message["calls"].setdefault(int(call[1]), {})[call[2]] = value
        elif ".contents." in key or key.startswith("contents."):
            if key.endswith("text"):
                message.setdefault("content", []).append({"type": "text", "text": value})
            elif "image" in key:
                message.setdefault("content", []).append({"type": "image"})
        else:
            message[key.removeprefix("message.")] = value
    if not messages:
        return None
    ordered = [messages[key_of_message] for key_of_message in sorted(messages)]
    if not any(is_said for is_said, _ in messages):
        raise UnansweredRow("is a span without an answer of the model")
    for key_of_message, message in messages.items():
        calls = message.pop("calls")
        message["tool_calls"] = [{"function": calls[k], **calls[k]} for k in sorted(calls)]
        message.setdefault("role", "assistant" if key_of_message[0] else "user")
    reasons = [str(entry.get("finish_reason")) for entry in ordered]
    return format, turns_of(ordered), reasons


def _by_events(events: Any) -> _Read | None:
    """Read events of a span, as conventions up to 1.36 had them."""
    turns: list[dict[str, Any]] = []
    reasons: list[str] = []
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, Mapping):
            continue
        name, facts = str(event.get("name")), _flat(decoded(event.get("attributes")))
        if name in ("gen_ai.content.prompt", "gen_ai.content.completion"):
            read = decoded(facts.get("gen_ai.prompt", facts.get("gen_ai.completion")))
            turns += read if isinstance(read, list) else []
        elif name == "gen_ai.choice":
            message = decoded(facts.get("message"))
            reasons.append(str(facts.get("finish_reason")))
            message = message if isinstance(message, Mapping) else {"content": facts.get("content")}
            turns.append({**message, "role": "assistant"})
        elif name.startswith("gen_ai.") and name.endswith(".message"):
            role = name.split(".")[1]
            turns.append({"tool_call_id": facts.get("id"), **facts, "role": role})
        elif name == "gen_ai.client.inference.operation.details":
            read = _by_messages(facts)
            if read is not None:
                return read
    return (OTEL, turns_of(turns), reasons) if turns else None


def _tools_of_span(attributes: Row) -> list[Any] | None:
    """Return the tools that a span's request offers; None where it names none."""
    if tools := decoded(attributes.get("gen_ai.tool.definitions", attributes.get("llm.tools"))):
        return list(map(decoded, tools)) if isinstance(tools, list) else None
    listed: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if match := _TOOL.fullmatch(name):
            listed.setdefault(int(match[1]), {})[match[2]] = decoded(value)
    tools = [listed[number] for number in sorted(listed)]
    return [tool.get("json_schema", tool) for tool in tools] or None


def _count(attributes: Row, *names: str) -> int | None:
    prefixes = ("gen_ai.usage.", "llm.token_count.", "llm.usage.")
    return first_known(
        count_of(attributes.get(prefix + name)) for name in names for prefix in prefixes
    )


KNOWN = (
    "{messages: [...]}, requests with responses (chat completions, Responses, Anthropic, LiteLLM, "
    "Langfuse), OpenTelemetry or OpenInference spans, ShareGPT, Alpaca, schema-guided dialogues, "
    "prompt with completion"
)
"""The formats, in words."""
_READERS: tuple[Callable[[Row], Trace | None], ...] = (
    read_span,
    read_alpaca,
    read_exchange,
    read_sharegpt,
    read_dialogue,
    read_messages,
    read_prompts,
)


_OF_MESSAGES = (read_span, read_exchange, read_sharegpt, read_dialogue, read_messages)


def parts_of_row(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each conversation's part of a row, and where in the row it is: ", span 2" or ""."""
    row = _unpacked(row)
    resources = row.get("resourceSpans", row.get("resource_spans"))
    if not isinstance(resources, list):
        yield "", row
        return
    # In a list, so that a message of which a part cannot be read has no span.
    for number, span in enumerate(list(_spans(resources)), start=1):
        yield f", span {number}", span


def _unpacked(row: Row) -> Row:
    """Return a row whose messages, or request, lie in one of its fields, such as `context`."""
    if row.keys() & FIELDS["of_conversations"].keys():
        return row
    for name in FIELDS["wrappers"]:
        inner = decoded(row.get(name))
        if isinstance(inner, list) and messages_in(inner) is inner:
            return {**row, "messages": inner}
        if isinstance(inner, Mapping) and inner.keys() & FIELDS["of_conversations"].keys():
            return {**row, **inner}
    return row


def trace_in(row: Row, messages: str | None = None, answer: str | None = None) -> Trace:
    """Return the turns that are in a row, before their order is checked.

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
        trace = read(row)
        if trace is not None:
            return trace
    names = ", ".join(shown(str(name)) for name in row) or "no fields"
    raise WrongRow(f"has no format that is known; it has {names}")


def trace_of_messages(row: Row) -> Trace | None:
    """Return the turns of a span, a request with its response, or a list of messages, or None.

    Raises:
        WrongRow: it is one, with something wrong.
        PassedOver: it is none that is used, though nothing is wrong with it.
    """
    return next(filter(None, (read(row) for read in _OF_MESSAGES)), None)


def conversation_in(row: Row, messages: str | None, answer: str | None) -> Conversation:
    """Return the conversation that is in a row: see `trace_in`."""
    trace = trace_in(row, messages, answer)
    return conversation_of(trace.turns, trace.about)


def _mapped(row: Mapping[str, Any], messages: str, answer: str | None) -> dict[str, Any]:
    history = decoded(_at(row, messages))
    if history is None:
        raise WrongRow(f"lacks the field {shown(messages)}")
    if isinstance(history, str):
        history = [{"role": "user", "content": history}]
    # What may be a particular of the row: neither its messages nor its answer.
    mapped = {
        str(name): value
        for name, value in row.items()
        if not isinstance(value, list) and name not in ("messages", "response", "choices", "output")
    }
    mapped["messages"] = history
    if answer is not None:
        mapped["response"] = _at(row, answer)
    return mapped


def _at(row: Any, name: str) -> Any:
    if isinstance(row, Mapping) and name in row:
        return row[name]
    for part in name.split("."):
        row = decoded(row)
        if not isinstance(row, Mapping):
            return None
        row = row.get(part)
    return row
