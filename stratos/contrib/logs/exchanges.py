"""Formats of requests with their responses: chat completions, Responses, Anthropic, LiteLLM."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from stratos.contrib.logs.conversation import (
    FIELDS,
    Call,
    PassedOver,
    Trace,
    Turn,
    UnansweredRow,
    WrongRow,
    particulars,
)
from stratos.core.redact import shown

_ROLE = {"role", "from"}
_SAID = {"content", "data", "kwargs"}
_IMAGE_URL = re.compile(r"data:[\w.+/-]+;base64,[A-Za-z0-9+/=\s]{64,}")
IMAGE = "[image]"
"""What stands in a text in place of an image that was written into it."""


def decoded(value: Any) -> Any:
    """Return what a text is the JSON of, where it is an object or a list; else the value itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def messages_in(value: Any) -> Any:
    """Return the messages that a text is the JSON of; any other value as it is.

    A text that is JSON of something else is what somebody wrote.
    """
    messages = decoded(value)
    is_one = isinstance(messages, list) and bool(messages) and all(map(_is_message, messages))
    return messages if is_one else value


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    is_langchain = value.get("type") in FIELDS["roles"] or value.get("type") == "constructor"
    return bool(_ROLE & set(value)) or (is_langchain and bool(_SAID & set(value)))


def turns_of(raw: Any, what: str = "messages") -> list[Turn]:
    """Return the turns of a list of messages.

    Raises:
        WrongRow: it is none.
    """
    raw = decoded(raw)
    if not isinstance(raw, list):
        raise WrongRow(f"{what} is no list")
    if not raw:
        raise WrongRow(f"{what} is empty")
    turns: list[Turn] = []
    for number, message in enumerate(raw, start=1):
        if not isinstance(message, Mapping):
            raise WrongRow(f"message {number} is no object")
        turns += _turns_of_message(message, number)
    return turns


def _turns_of_message(message: Mapping[str, Any], number: int) -> list[Turn]:
    # LangChain writes a message into `data` or `kwargs`, and its role as `type`.
    inner = message.get("data", message.get("kwargs"))
    if inner is not None and isinstance(inner, Mapping):  # most have none: it takes a while to tell
        message = {**message, **inner}
    role = role_of(message.get("role", message.get("from", message.get("type"))), number)
    content = message.get("content", message.get("value", message.get("parts")))
    text, n_images, calls, results = parts_of(content, number)
    known = {call.id for call in calls if call.id}  # LangChain repeats them beside the content
    calls += [call for call in _calls(message, number) if call.id not in known]
    is_learnt = message.get("weight", 1) not in (0, False)
    if role == "tool":
        of = message.get("tool_call_id") or message.get("name") or ""
        return results or [Turn("tool", text, result_of=str(of), n_images=n_images)]
    if results and not text:
        return results
    return [*results, Turn(role, text, tuple(calls), None, is_learnt, n_images)]


def role_of(role: Any, number: int) -> str:
    """Return what a role is here.

    Raises:
        WrongRow: there is no such role.
    """
    known = FIELDS["roles"].get(role.casefold()) if isinstance(role, str) else None
    if known is None:
        raise WrongRow(f"message {number} has the role {shown(json.dumps(role, default=str))}")
    return known


def parts_of(content: Any, number: int) -> tuple[str, int, list[Call], list[Turn]]:
    """Return text, number of images, tool calls and results of tools of a message's content.

    Raises:
        WrongRow: it is neither text nor a list of parts.
    """
    if isinstance(content, str | None):
        return *without_images(content or ""), [], []
    content = [content] if isinstance(content, Mapping) else content
    if not isinstance(content, list):
        raise WrongRow(f"message {number} has a content that is no text")
    texts: list[str] = []
    n_images, calls, results = 0, list[Call](), list[Turn]()
    for part in content:
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, Mapping):
            raise WrongRow(f"message {number} has a part that is neither text nor an object")
        kind = part.get("type", "text" if "text" in part else None)
        if kind in FIELDS["text_parts"]:
            text, n = _text_part(part, number)
            n_images += n
            texts.append(text)
        elif kind in FIELDS["parts_left_out"] or "image_url" in part:
            n_images += 1
        elif kind in ("tool_use", "tool_call"):
            arguments = part.get("input", part.get("arguments", {}))
            calls.append(call_of(part.get("id"), part.get("name"), arguments, number))
        elif kind in ("tool_result", "tool_call_response"):
            results.append(_result_part(part, number))
        elif kind not in FIELDS["unsaid_parts"]:
            raise WrongRow(
                f"message {number} has a part of the type {shown(json.dumps(kind, default=str))}"
            )
    return "\n".join(texts), n_images, calls, results


def _text_part(part: Mapping[str, Any], number: int) -> tuple[str, int]:
    text = part.get("text", part.get("content", part.get("refusal")))
    if not isinstance(text, str):
        raise WrongRow(f"message {number} has a part of text without text")
    return without_images(text)


def _result_part(part: Mapping[str, Any], number: int) -> Turn:
    """Return the result of a tool that is a part of a message."""
    inner = part.get("content", part.get("response", part.get("result")))
    inner = inner if isinstance(inner, str | list | None) else json.dumps(inner)
    text, n_images, *_ = parts_of(inner, number)
    of = str(part.get("tool_use_id", part.get("id")) or "")
    return Turn("tool", text, result_of=of, n_images=n_images)


def without_images(text: str) -> tuple[str, int]:
    """Return a text without images that are written into it as base64, and how many there were."""
    return _IMAGE_URL.subn(IMAGE, text) if ";base64," in text else (text, 0)


def _calls(message: Mapping[str, Any], number: int) -> list[Call]:
    listed = message.get("tool_calls") or []
    if not isinstance(listed, list):
        raise WrongRow(f"message {number} has tool_calls that are no list")
    single = message.get("function_call")
    calls = [(None, single)] if isinstance(single, Mapping) else []
    for call in listed:
        if not isinstance(call, Mapping):
            raise WrongRow(f"message {number} has a tool call that is no object")
        calls.append((call.get("id"), call.get("function", call)))
    made = []
    for id, function in calls:
        if not isinstance(function, Mapping):
            raise WrongRow(f"message {number} has a tool call without a function")
        made.append(
            call_of(
                id, function.get("name"), function.get("arguments", function.get("args")), number
            )
        )
    return made


def call_of(id: Any, name: Any, arguments: Any, number: int) -> Call:
    """Return a tool call.

    Raises:
        WrongRow: it has no name, or its arguments are no JSON.
    """
    if not isinstance(name, str) or not name:
        raise WrongRow(f"message {number} calls a tool without a name")
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise WrongRow(
                f"message {number} calls {shown(name)} with arguments that are no JSON"
            ) from error
    return Call(str(id or ""), name, json.dumps(arguments or {}, ensure_ascii=False, default=str))


COMPLETIONS = "chat-completions requests and responses"
RESPONSES = "Responses API requests and responses"
ANTHROPIC = "Anthropic messages"
LITELLM = "LiteLLM log rows"
LANGFUSE = "Langfuse observations"

CUT_SHORT = "answers that were cut short"
FAILED = "requests that failed"
OTHER_SPAN = "spans of other work"
OTHER_REQUEST = "requests for other work, such as embeddings"

_SENT = "proxy_server_request"
"""Where LiteLLM's spend log has the request as it came in."""

Row = Mapping[str, Any]


def read_exchange(row: Row) -> Trace | None:
    """Return a request with its response behind it; None for another row.

    The response alone is the model's answer: what its request repeats was answered before.

    Raises:
        WrongRow: it is one, with something wrong.
        PassedOver: its answer was cut short, or it failed.
    """
    if _is_other_work(row):
        raise PassedOver(OTHER_REQUEST)
    request = _request(row)
    if request is None:
        return None
    if (
        str(row.get("type")).upper() in FIELDS["other_work"]
        and row.keys() & FIELDS["of_langfuse"].keys()
    ):
        raise PassedOver(OTHER_SPAN)
    has_response, response = _response(row)
    if not has_response:
        return None
    _check_status(row, response)
    if response is None or response in ("", {}, []):
        raise UnansweredRow("has no response")
    before, is_anthropic = _asked(request)
    if request is row and before and before[-1].role == "assistant":
        return None  # the answer is the last message: the other field is of another meaning
    answer, format = _answered(response, is_anthropic)
    about = particulars(_name(row, format), row, response, request)
    tools = offered_tools(
        request, row, *(row.get(name) for name in FIELDS["parameters"]), _sent(row)
    )
    about.only_last, about.offers_tools = True, tools is not None
    about.tool_characters = len(json.dumps(tools)) if about.input_tokens is None and tools else 0
    return Trace([*before, answer], about, tools)


def offered_tools(*places: Any) -> Any:
    """Return the tools that the first of some objects has; None where none has any."""
    for holder in map(decoded, places):
        for name in FIELDS["tools"] if isinstance(holder, Mapping) else ():
            if tools := decoded(holder.get(name)):
                return tools
    return None


def _request(row: Row) -> Row | list[Any] | str | None:
    """Return what holds the messages of a request: an object, the messages, or a question."""
    sent = _sent(row)
    if sent is not None and decoded(row.get("messages")) in (None, "", {}, []):
        return sent
    if row.get("messages") is not None:
        return row
    for name in FIELDS["requests"]:
        request = decoded(row.get(name))
        if isinstance(request, Mapping) and isinstance(decoded(request.get("body")), Mapping):
            request = decoded(request["body"])
        if isinstance(request, Mapping) and ("messages" in request or "input" in request):
            return request
        if isinstance(request, Mapping) and isinstance(request.get("prompt"), str):
            return str(request["prompt"])
        if isinstance(request, list) and request and isinstance(request[0], Mapping):
            return row if name == "input" and "instructions" in row else request
        if name == "input" and "output" in row and request not in (None, "", {}, []):
            question = row[name]
            if isinstance(decoded(row["output"]), list) and isinstance(question, str):
                return row
            return (
                question if isinstance(question, str) else json.dumps(question, ensure_ascii=False)
            )
    return None


def _sent(row: Row) -> Row | None:
    """Return the request that LiteLLM's proxy took, where a row of its log has it."""
    request = _body_of(row.get(_SENT))
    is_one = isinstance(request, Mapping) and ("messages" in request or "input" in request)
    return request if is_one else None


def _body_of(value: Any) -> Any:
    """Return a request or response without what was sent around it."""
    body = decoded(value)
    return decoded(body["body"]) if isinstance(body, Mapping) and "body" in body else body


def _is_other_work(row: Row) -> bool:
    """Return whether a row's response has the results of other work, and no answer."""
    for response in (_body_of(row.get(name)) for name in FIELDS["responses"]):
        if not isinstance(response, Mapping) or response.keys() & FIELDS["of_responses"].keys():
            continue
        results = response.get("data", response.get("results"))
        first = results[0] if isinstance(results, list) and results else None
        if isinstance(first, Mapping) and first.keys() & FIELDS["other_results"].keys():
            return True
    return False


def _response(row: Row) -> tuple[bool, Any]:
    if "choices" in row:
        return True, row
    for name in FIELDS["responses"]:
        if name in row:
            response = _body_of(row[name])
            if name != "response" or isinstance(row[name], str):
                response = _as_written(row[name], response)
            return True, response
    return False, None


def _as_written(value: Any, response: Any) -> Any:
    """Return a response that holds a message as an object, any other as the text that it is."""
    if isinstance(response, Mapping) and not response.keys() & FIELDS["of_responses"].keys():
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (
        messages_in(value) if isinstance(response, list) and not _are_items(response) else response
    )


def _are_items(items: list[Any]) -> bool:
    return any(isinstance(item, Mapping) and "type" in item for item in items)


def _check_status(row: Row, response: Any) -> None:
    status = row.get("status", row.get("level"))
    code = row.get("status_code")
    for holder in (row.get("response"), response):
        if isinstance(holder, Mapping):
            code = code or holder.get("status_code")
    is_error = isinstance(response, Mapping) and bool(response.get("error"))
    if (
        is_error
        or (isinstance(code, int) and code >= 400)
        or (isinstance(status, str) and status.casefold() in ("failure", "error", "failed"))
        or bool(row.get("error"))
    ):
        raise PassedOver(FAILED)


def _asked(request: Row | list[Any] | str) -> tuple[list[Turn], bool]:
    """Return the turns of a request, and whether it has a system prompt as Anthropic has it."""
    if isinstance(request, str):
        return [Turn("user", request)], False
    if isinstance(request, list):
        return turns_of(request), False
    if "messages" in request:
        turns = turns_of(request["messages"])
    else:
        question = messages_in(request["input"])
        turns = [Turn("user", question)] if isinstance(question, str) else _items(question, "input")
    system = request.get("system", request.get("instructions"))
    if not system:
        return turns, False
    text, n_images, *_ = parts_of(decoded(system), 0)
    return [Turn("system", text, n_images=n_images), *turns], "system" in request


def _answered(response: Any, is_anthropic: bool) -> tuple[Turn, str]:
    """Return the answer in a response, and the format of it."""
    format = ANTHROPIC if is_anthropic else COMPLETIONS
    if isinstance(response, str):
        return Turn("assistant", response), format
    if isinstance(response, list):
        return _listed(response, format)
    if not isinstance(response, Mapping):
        raise WrongRow("its response is neither text nor an object")
    if "choices" in response:
        return _choice(response), format
    if isinstance(decoded(response.get("output")), list):
        if response.get("status") == "incomplete":
            raise PassedOver(CUT_SHORT)
        return _last(_items(decoded(response["output"]), "output")), RESPONSES
    if isinstance(response.get("messages"), list):
        return _last(turns_of(response["messages"], "its response")), format
    if "content" in response or "tool_calls" in response:
        if str(response.get("stop_reason")) in FIELDS["cut_short"]:
            raise PassedOver(CUT_SHORT)
        is_block = isinstance(response.get("content"), list) or "stop_reason" in response
        turns = turns_of([{"role": "assistant", **response}], "its response")
        return _last(turns), ANTHROPIC if is_block else format
    if isinstance(response.get("text"), str):
        return Turn("assistant", response["text"]), format
    raise WrongRow("its response has no choices, content or output")


def _listed(response: list[Any], format: str) -> tuple[Turn, str]:
    """Return the answer in a response that is a list of items, and the format of it."""
    if any(isinstance(item, Mapping) and "delta" in str(item.get("choices")) for item in response):
        raise WrongRow("its response is a stream of chunks: log whole responses")
    if any(isinstance(item, Mapping) and item.get("type") == "message" for item in response):
        return _last(_items(response, "output")), RESPONSES
    return _last(turns_of(response, "its response")), format


def _choice(response: Row) -> Turn:
    choices = decoded(response["choices"])
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise UnansweredRow("its response has no choices")
    if len(choices) > 1:
        raise WrongRow(f"its response has {len(choices)} answers to one request")
    [choice] = choices
    if "delta" in choice:
        raise WrongRow("its response is a chunk of a stream: log whole responses")
    if choice.get("finish_reason") in FIELDS["cut_short"]:
        raise PassedOver(CUT_SHORT)
    message = choice.get("message")
    if isinstance(message, Mapping):
        return _last(turns_of([{"role": "assistant", **message}], "its response"))
    if isinstance(choice.get("text"), str):
        return Turn("assistant", choice["text"])
    raise WrongRow("its response has a choice without a message")


def _last(turns: list[Turn]) -> Turn:
    if not turns or turns[-1].role != "assistant":
        raise UnansweredRow("its response has no message of the model")
    return turns[-1]


def _items(items: Any, what: str) -> list[Turn]:
    """Return the turns of a list of items of the Responses API."""
    if not isinstance(items, list):
        raise WrongRow(f"{what} is neither text nor a list")
    messages = []
    for item in items:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind == "function_call":
            messages.append(
                {"role": "assistant", "tool_calls": [{**item, "id": item.get("call_id")}]}
            )
        elif kind == "function_call_output":
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
            )
        elif kind != "reasoning":
            messages.append(item)
    return turns_of(messages, what)


def _name(row: Row, format: str) -> str:
    if row.keys() & FIELDS["of_litellm"].keys():
        return LITELLM
    return LANGFUSE if row.keys() & FIELDS["of_langfuse"].keys() and "input" in row else format
