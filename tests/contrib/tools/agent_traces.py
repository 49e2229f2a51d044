"""Conversations of an agent that books tables, in each form that agents are logged in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

CITIES = ["Oslo", "Rome", "Lisbon", "Ghent", "Turin", "Porto", "Lyon", "Graz", "Bergen", "Malmo"]
CUISINES = ["thai", "greek", "vegan", "seafood"]
NAMES = ["Blue Door", "Old Mill", "Luna", "Harbour", "Green Fig", "Saffron", "The Anchor", "Petite"]
SYSTEM = "You book tables in restaurants: find one, reserve a table, or cancel a reservation."
Message = dict[str, Any]


def tool(name: str, required: list[str], /, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": f"{name} of a service.",
                                             "parameters": parameters}}  # fmt: skip


TEXT = {"type": "string"}
TOOLS = [
    tool("find_restaurant", ["city"], city=TEXT, cuisine={"type": "string", "enum": CUISINES}),
    tool("reserve_table", ["name", "time", "people"], name=TEXT, time=TEXT,
         people={"type": "integer"}),
    tool("cancel_reservation", ["code"], code=TEXT),
]  # fmt: skip


def call(k: int, name: str, /, **arguments: Any) -> Message:
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": f"call_{k}", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(k: int, **fields: Any) -> Message:
    return {"role": "tool", "tool_call_id": f"call_{k}", "content": json.dumps(fields)}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def conversation(k: int) -> list[Message]:
    """Return the messages of one conversation, as the OpenAI API has them."""
    draw = random.Random(k)
    city, cuisine = draw.choice(CITIES), draw.choice([*CUISINES, ""])
    first, second = draw.sample(NAMES, 2)
    time, people, code = f"{draw.randint(17, 22)}:30", draw.randint(1, 8), f"R{k:04d}"
    wanted = {"city": city} | ({"cuisine": cuisine} if cuisine else {})
    messages = [
        {"role": "system", "content": SYSTEM},
        user(draw.choice([f"I am looking for a {cuisine or 'good'} place in {city}",
                          f"Where can I eat {cuisine or 'well'} in {city}?",
                          f"Find me somewhere {cuisine or 'nice'} to eat, {city}"])),
        call(1, "find_restaurant", **wanted),
        result(1, names=[first, second], rating=draw.randint(1, 50) / 10),
        said(f"I found {first} and {second}. Shall I reserve a table?"),
        user(draw.choice([f"Yes, {first} at {time} for {people}",
                          f"Book {first}, {people} people, {time}"])),
        call(2, "reserve_table", name=first, time=time, people=people),
        result(2, code=code),
        said(f"Your table at {first} is reserved, the code is {code}."),
    ]  # fmt: skip
    if draw.random() < 0.4:
        messages += [
            user(f"Sorry, please cancel {code}"),
            call(3, "cancel_reservation", code=code),
            result(3, cancelled=True),
            said(f"The reservation {code} is cancelled."),
        ]
    return messages


def openai(messages: list[Message]) -> list[Any]:
    return [{"messages": messages, "tools": TOOLS}]


def without_tools(messages: list[Message]) -> list[Any]:
    return [{"messages": messages}]


def wrapped(messages: list[Message]) -> list[Any]:
    return [{"context": json.dumps(messages)}]


def _blocks(message: Message) -> Message:
    """Return a message as the Anthropic API has it."""
    if message["role"] == "tool":
        block = {"type": "tool_result", "tool_use_id": message["tool_call_id"],
                 "content": message["content"]}  # fmt: skip
        return {"role": "user", "content": [block]}
    blocks: list[Message] = []
    if message["content"]:
        blocks.append({"type": "text", "text": message["content"]})
    for one in message.get("tool_calls", ()):
        function = one["function"]
        blocks.append({"type": "tool_use", "id": one["id"], "name": function["name"],
                       "input": json.loads(function["arguments"])})  # fmt: skip
    return {"role": message["role"], "content": blocks}


def anthropic(messages: list[Message]) -> list[Any]:
    tools = [{"name": one["function"]["name"], "description": one["function"]["description"],
              "input_schema": one["function"]["parameters"]} for one in TOOLS]  # fmt: skip
    system = [{"type": "text", "text": SYSTEM}]
    return [{"system": system, "tools": tools, "messages": [*map(_blocks, messages[1:])]}]


def _langchain(message: Message) -> Message:
    kind = {"user": "human", "assistant": "ai"}.get(message["role"], message["role"])
    made = {"type": kind, "content": message["content"] or ""}
    if "tool_call_id" in message:
        made["tool_call_id"] = message["tool_call_id"]
    calls = [{"name": one["function"]["name"], "args": json.loads(one["function"]["arguments"]),
              "id": one["id"], "type": "tool_call"}
             for one in message.get("tool_calls", ())]  # fmt: skip
    return {**made, "tool_calls": calls} if kind == "ai" else made


def langchain(messages: list[Message]) -> list[Any]:
    return [{"messages": [*map(_langchain, messages)], "tools": TOOLS}]


def langgraph(messages: list[Message]) -> list[Any]:
    written = [{"type": one["type"], "data": one} for one in map(_langchain, messages)]
    return [{"values": {"messages": written}}]


def _parts(message: Message) -> Message:
    """Return a message as the conventions of OpenTelemetry for models have it."""
    if message["role"] == "tool":
        part = {"type": "tool_call_response", "id": message["tool_call_id"],
                "response": message["content"]}  # fmt: skip
        return {"role": "tool", "parts": [part]}
    parts = [{"type": "text", "content": message["content"]}] if message["content"] else []
    for one in message.get("tool_calls", ()):
        function = one["function"]
        parts.append({"type": "tool_call", "id": one["id"], "name": function["name"],
                      "arguments": json.loads(function["arguments"])})  # fmt: skip
    return {"role": message["role"], "parts": parts}


def spans(messages: list[Message]) -> list[Any]:
    """Return a span for each turn of the model."""
    session = json.dumps(messages[1:])
    rows = []
    for k, message in enumerate(messages):
        if message["role"] == "assistant":
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.conversation.id": hashlib.sha1(session.encode()).hexdigest(),
                "gen_ai.tool.definitions": json.dumps([one["function"] for one in TOOLS]),
                "gen_ai.input.messages": json.dumps([*map(_parts, messages[:k])]),
                "gen_ai.output.messages": json.dumps([_parts(message)]),
            }
            rows.append({"name": "chat m", "attributes": attributes})
    return rows


def requests(messages: list[Message]) -> list[Any]:
    """Return a request with its response for each turn of the model."""
    return [
        {"request": {"model": "m", "messages": messages[:k], "tools": TOOLS},
         "response": {"choices": [{"message": message}]}}
        for k, message in enumerate(messages)
        if message["role"] == "assistant"
    ]  # fmt: skip


def last_request(messages: list[Message]) -> list[Any]:
    """Return the last of them alone: the others were not logged."""
    return requests(messages)[-1:]


FORMS: dict[str, Callable[[list[Message]], list[Any]]] = {
    "openai": openai,
    "without tools": without_tools,
    "wrapped": wrapped,
    "anthropic": anthropic,
    "langchain": langchain,
    "langgraph": langgraph,
    "spans": spans,
    "requests": requests,
    "last request": last_request,
}


def lines(form: str, n: int) -> str:
    """Return the JSON lines of conversations in one form."""
    rows = [row for k in range(n) for row in FORMS[form](conversation(k))]
    return "".join(f"{json.dumps(row)}\n" for row in rows)
