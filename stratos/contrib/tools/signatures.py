"""Tools as a model reads them: name, description, and the JSON Schema of the arguments.

Taken are the forms of the OpenAI and Anthropic APIs, and a bare function with `parameters`. Types
that are named as in Python (`dict`, `float`) are read as those of JSON Schema.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from stratos.contrib.tools.call_paths import Leaf, leaves_of
from stratos.contrib.tools.words import NestedTooDeep, WrongArguments
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.tasks.schema.answers import spelled
from stratos.tasks.schema.document import pointer, validator, why_refused

_TYPES = {
    "dict": "object", "float": "number", "double": "number", "int": "integer", "long": "integer",
    "str": "string", "bool": "boolean", "list": "array", "tuple": "array", "any": None,
}  # fmt: skip
_HEAD, _REQUEST, _CONVERSATION = "Tools:\n", "\n\nRequest:\n", "\n\nConversation:\n"
LONGEST_RESULT = 2000
"""Characters of a result of a tool that a model reads; `offered.jinja` has the same number."""
_INNER = ("items", "additionalProperties", "not")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions")
_written = json.JSONEncoder(ensure_ascii=False).encode
_NOTES = {"title", "description", "default", "examples"}
_PLAIN_PARAMETERS = _NOTES | {"type", "properties", "required", "additionalProperties"}
_PLAIN_ARGUMENT = _NOTES | {"type", "enum"}
_PLAIN_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "null": (type(None),),
}  # fmt: skip
_NOTHING: tuple[tuple[type, ...], None] = (), None


@dataclass(frozen=True)
class Tool:
    """One tool that may be called."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of the arguments: an object."""

    @cached_property
    def line(self) -> str:
        """The tool as one line of JSON."""
        return json.dumps(
            {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
            ensure_ascii=False,
        )

    @property
    def properties(self) -> Mapping[str, Any]:
        """Name to schema of each argument."""
        return self.parameters.get("properties", {})

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What is chosen of the arguments, one after the other."""
        return leaves_of(self.parameters)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the arguments that every call has."""
        return tuple(self.parameters.get("required", ()))

    @cached_property
    def closed(self) -> dict[str, Any]:
        """Return the schema of the arguments; those that it does not name are errors."""
        named = {"type": "object", "properties": {}, **self.parameters}
        return {"additionalProperties": False, **named}

    @cached_property
    def _validator(self) -> Any:
        return validator(self.closed)

    def problem(self, arguments: Mapping[str, Any]) -> Reason | None:
        """Return what is wrong with the arguments of a call; None if nothing."""
        if self._are_plain(arguments):
            return None
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._validator.iter_errors(arguments))
        except RecursionError:
            return NestedTooDeep()
        if error is None:
            return None
        return WrongArguments(pointer(error.absolute_path), error.message)

    @cached_property
    def _plain(self) -> dict[str, tuple[tuple[type, ...], Sequence[Any] | None]] | None:
        """Types and values of the arguments whose schema asks for nothing else.

        None where the schema asks for more than single arguments.
        """
        if not self.parameters.keys() <= _PLAIN_PARAMETERS:
            return None
        return {
            name: (_PLAIN_TYPES[schema["type"]], schema.get("enum"))
            for name, schema in self.properties.items()
            if isinstance(schema, Mapping)
            and schema.keys() <= _PLAIN_ARGUMENT
            and isinstance(kind := schema.get("type"), str)
            and kind in _PLAIN_TYPES
            and (kind == "string" or "enum" not in schema)
        }

    def _are_plain(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a look at types and values tells that arguments match the schema.

        It takes a hundredth of the time of a validator, and leaves to that all that is not so.
        """
        if (plain := self._plain) is None:
            return False
        for name, value in arguments.items():
            types, values = plain.get(name, _NOTHING)
            if type(value) not in types or (values is not None and value not in values):
                return False
        return all(name in arguments for name in self.required)

    def has(self, name: str) -> bool:
        """Return whether there may be an argument of a name."""
        return name in self.properties or self.closed["additionalProperties"] is not False

    def takes(self, schema: Any, value: Any) -> bool:
        """Return whether a value matches a schema of these parameters."""
        try:
            is_valid: bool = self._validator.evolve(schema=schema).is_valid(value)
        except RecursionError:
            return False
        return is_valid

    def without_nulls(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments without those that are null and whose schema takes no null."""
        return {
            name: value
            for name, value in arguments.items()
            if value is not None
            or name in self.required
            or name not in self.properties
            or self.takes(self.properties[name], None)
        }

    def ordered(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as they are learnt: as a grammar of the schema lets them be written."""
        if self._are_plain(arguments):
            return {name: arguments[name] for name in self.properties if name in arguments}
        return spelled(self.parameters, dict(arguments), self.takes)


def json_of(text: str, subject: str) -> Any:
    """Return what a text is the JSON of.

    Raises:
        ValueError: it is none; the message begins with the subject and its verb.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{subject} {shown(text)}, which is no JSON") from None


def tools_of(value: Any) -> tuple[Tool, ...]:
    """Return the tools that a row names.

    Raises:
        ValueError: they cannot be read; the message says which and why.
    """
    if isinstance(value, str):
        value = json_of(value, "tools is")
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise ValueError("tools is no list")
    return _tools_of(json.dumps(value, ensure_ascii=False))


@lru_cache(maxsize=4096)
def _tools_of(text: str) -> tuple[Tool, ...]:
    tools = tuple(_named_tool(value, k) for k, value in enumerate(json.loads(text), start=1))
    names = Counter(tool.name for tool in tools)
    if twice := sorted(name for name, n in names.items() if n > 1):
        raise ValueError(f"two tools are called {shown(twice[0])}")
    return tools


def _named_tool(value: Any, number: int) -> Tool:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"tool {number} has no name")
    name = value["name"].strip()
    if not name or name != shown(name, 200):
        raise ValueError(f"tool {number} is called {shown(name) or 'nothing'}")
    parameters = value.get("parameters", value.get("input_schema")) or {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"the parameters of {name} are no object")
    tool = Tool(name, str(value.get("description") or "").strip(), _as_json_schema(parameters))
    return _checked(tool.line)


@lru_cache(maxsize=65_536)
def _checked(line: str) -> Tool:
    """Return the tool of a line; tools repeat from row to row, and are checked once.

    Raises:
        ValueError: its parameters are refused; the message says why.
    """
    tool = Tool(**json.loads(line))
    if (problem := why_refused(tool.parameters)) is not None:
        raise ValueError(f"the parameters of {tool.name}: {str(problem).rstrip('.')}")
    if (kind := tool.parameters.get("type", "object")) != "object":
        raise ValueError(f"the parameters of {tool.name} are no object, but {kind}")
    return tool


def _as_json_schema(node: Any) -> Any:
    """Return a schema whose types are those of JSON Schema."""
    if not isinstance(node, Mapping):
        return node
    made = dict(node)
    kind = made.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        made["type"] = _TYPES[kind]
        if made["type"] is None:
            del made["type"]
    for name in _INNER:
        if name in made:
            made[name] = _as_json_schema(made[name])
    for name in _LISTS:
        if isinstance(made.get(name), list):
            made[name] = [_as_json_schema(inner) for inner in made[name]]
    for name in _MAPS:
        if isinstance(made.get(name), Mapping):
            made[name] = {key: _as_json_schema(inner) for key, inner in made[name].items()}
    return made


# --- the text of a question ----------------------------------------------------------------------


def question_of(tools: Sequence[Tool], messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that a model is asked with: the tools, and what was said."""
    return question_with(tools, messages, [*map(line_of, messages)])


def question_with(
    tools: Sequence[Tool], messages: Sequence[Mapping[str, Any]], lines: Sequence[str]
) -> str:
    """Return the same of messages whose lines are known: they are written once for all turns."""
    head = _HEAD + "\n".join(tool.line for tool in tools)
    if len(messages) == 1 and messages[0]["role"] == "user":
        return f"{head}{_REQUEST}{messages[0]['content']}"
    return head + _CONVERSATION + "\n".join(lines)


def line_of(message: Mapping[str, Any]) -> str:
    """Return a message as one line of JSON, of a long result of a tool its beginning."""
    return _written(_cut(message))


def _cut(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message, of a long result of a tool its beginning."""
    if message["role"] != "tool" or len(message["content"]) <= LONGEST_RESULT:
        return message
    return {**message, "content": f"{message['content'][:LONGEST_RESULT]}…"}


def tools_in(question: str) -> tuple[Tool, ...]:
    """Return the tools that a question's text names; none where it is no such text."""
    return _tools_of_head(_parts(question)[0])


@lru_cache(maxsize=256)
def _tools_of_head(head: str) -> tuple[Tool, ...]:
    try:
        lines = [json.loads(line) for line in head.removeprefix(_HEAD).split("\n") if line]
        return tools_of(lines)
    except ValueError:
        return ()


def request_in(question: str) -> str:
    """Return what a question's text asks for, without the tools."""
    return _parts(question)[1]


def messages_in(question: str) -> list[dict[str, Any]]:
    """Return the messages that a question's text holds."""
    head, request = _parts(question)
    if question.startswith(head + _CONVERSATION):
        try:
            return [json.loads(line) for line in request.split("\n")]
        except ValueError:
            pass  # a text of a user that only looks like it
    return [{"role": "user", "content": request}]


def request_of(question: str) -> dict[str, Any]:
    """Return a question's text as a request of the OpenAI API, whose calls have ids."""
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages_in(question):
        made = {"role": message["role"], "content": message["content"]}
        if calls := message.get("tool_calls"):
            waiting = [f"call_{len(messages)}_{k}" for k in range(len(calls))]
            made["tool_calls"] = [
                {"id": id, "type": "function",
                 "function": {"name": call["name"], "arguments": _written(call["arguments"])}}
                for id, call in zip(waiting, calls, strict=True)
            ]  # fmt: skip
        elif message["role"] == "tool":
            made["tool_call_id"] = waiting.pop(0) if waiting else ""
        messages.append(made)
    tools = [{"type": "function", "function": json.loads(tool.line)} for tool in tools_in(question)]
    return {"messages": messages, "tools": tools}


def _parts(question: str) -> tuple[str, str]:
    # No line of a tool holds a line end, so that the first mark is the right one.
    for mark in (_REQUEST, _CONVERSATION):
        head, separator, rest = question.partition(mark)
        if separator and "\n\n" not in head:
            return head, rest
    return ("", question) if not question.startswith(_HEAD) else (question, "")


# --- the grammar of an answer --------------------------------------------------------------------


def grammar_of(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON Schema of a list of calls of these tools."""
    definitions: dict[str, Any] = {}
    calls = []
    for number, tool in enumerate(tools):
        key = f"tool{number}"
        definitions[key] = _moved(tool.closed, f"#/$defs/{key}")
        arguments = {"$ref": f"#/$defs/{key}"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    items: dict[str, Any] = {"items": {"anyOf": calls}} if calls else {"maxItems": 0}
    return {"type": "array", **items, "$defs": definitions}


def _moved(node: Any, root: str) -> Any:
    """Return a schema whose references begin at a place of another one."""
    if isinstance(node, list):
        return [_moved(inner, root) for inner in node]
    if not isinstance(node, Mapping):
        return node
    return dict(_moved_fields(node, root))


def _moved_fields(node: Mapping[str, Any], root: str) -> Iterator[tuple[str, Any]]:
    for name, inner in node.items():
        if name == "$ref" and isinstance(inner, str):
            yield name, root + inner.removeprefix("#")
        elif name not in ("$schema", "$id"):
            yield name, _moved(inner, root)
