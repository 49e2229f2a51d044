"""Calls as models write them: JSON, tagged JSON, what an API returns, or a call in Python.

Calls are also drawn from the schemas of tools: by type, enum, format, examples, and training rows.
"""

from __future__ import annotations

import ast
import datetime
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stratos.contrib.tools.signatures import Tool, json_of, question_of, tools_of
from stratos.contrib.tools.words import NoDraw, NotDrawn, UnknownTool, WrongCall
from stratos.core.extensions import table
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.tasks.answers import as_key, pairs_all, plain_json, same
from stratos.tasks.chat import MARK
from stratos.tasks.schema.document import resolved

M = TypeVar("M")
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_FENCED = re.compile(r"```(?:json|python|tool_code)?[ \t]*\n?(.*?)(?:```|$)", re.DOTALL)
_PYTHON_TAG = re.compile(r"<\|?python_tag\|?>")
_NO_CALL = r"none|null|nothing|no (?:call|tool|function)s?"
_NONE = re.compile(rf"[\s*_`'\"(\[]*(?:{_NO_CALL})[\s*_`'\").\]]*", re.IGNORECASE)
_OPEN = re.compile(r"[\[{]")
_NEXT = re.compile(r"\s*(?:```\s*```(?:json)?\s*)?[,;]?\s*(?=\{)")
"""What may stand between objects that are several calls."""
_OF_JSON = re.compile(r"[\[{]\s*[{\"]")
"""How a list or an object begins that is JSON, even if it is cut off."""
_BEGUN = re.compile(r"\s*(?:\[\s*)?\{\s*\"name\"\s*:")
_IN_PYTHON = re.compile(r"(?:=\s*|\w\()\Z")
"""What stands before a value that is an argument in Python."""
_DECODER = json.JSONDecoder()
_MOST_STARTS = 50
"""Brackets of a text behind which calls are looked for."""
_LONGEST = 100_000
MOST_TOOLS = 1024
"""Of a request: the schema of each is checked while other requests wait."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    accept: dict[str, list[Any]] = field(default_factory=dict)
    """Of a gold call: other values of an argument that are right."""
    optional: frozenset[str] = frozenset()
    """Of a gold call: arguments that may be left out."""


def written(calls: Sequence[Call]) -> str:
    """Return calls as the text that a student learns to write."""
    plain = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return plain_json(plain)


def question_of_request(chat: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
    """Return the text that a model is asked with for a request of the API that offers tools.

    Args:
        chat: its messages, each with a text.
        tools: that it offers.

    Raises:
        ValueError: tools, or calls of a message, cannot be read, or there are more than
            `MOST_TOOLS`; the message says which and why.
    """
    if len(tools) > MOST_TOOLS:
        raise ValueError(f"tools: {len(tools):,} are too many, {MOST_TOOLS:,} may be offered.")
    messages = []
    chat = in_order(chat, _ids_of, lambda message: message.get("tool_call_id"))
    for number, message in enumerate(chat, start=1):
        plain = {"role": message["role"], "content": (message["content"] or "").strip()}
        try:
            calls = calls_of([*map(_with_arguments, message.get("tool_calls") or [])])
        except (TypeError, ValueError) as error:
            raise ValueError(f"messages: in message {number} {error}") from None
        if calls:
            plain["tool_calls"] = json.loads(written(calls))
        messages.append(plain)
    try:
        return question_of(tools_of([*tools]), messages)
    except ValueError as error:
        raise ValueError(f"tools: {error}") from None


def in_order(
    messages: Sequence[M], calls: Callable[[M], Sequence[Any]], result_of: Callable[[M], Any]
) -> list[M]:
    """Return messages in which results of calls that were made together stand as these do.

    Args:
        messages: of a conversation.
        calls: returns the ids of the calls of a message.
        result_of: returns the id of the call that a message is the result of; None of another.
    """
    ordered, ids = list[M](), list[Any]()
    for message in messages:
        ids = [*calls(message)] or ids
        ordered.append(message)
        # The results before it that belong behind it; those of no call stay.
        k = len(ordered) - 1
        while k and result_of(message) in ids and result_of(ordered[k - 1]) in ids and (
            ids.index(result_of(ordered[k - 1])) > ids.index(result_of(message))
        ):  # fmt: skip
            ordered[k - 1 : k + 1] = [message, ordered[k - 1]]
            k -= 1
    return ordered


def _ids_of(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls")
    return [call["id"] for call in calls or () if isinstance(call, Mapping) and call.get("id")]


def _with_arguments(call: Any) -> Any:
    """Return a call of a message; null, which some clients send for no arguments, is an object."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or function.get("arguments") not in (None, "null"):
        return call
    return {**call, "function": {**function, "arguments": "{}"}}


def read(text: str) -> list[Call] | None:
    """Return the calls that a text makes, [] where it says that it makes none.

    None where neither can be read: what is no call is not taken for the decision to make none.
    """
    text = text[-_LONGEST:]
    # A text that is calls as a whole may hold anything inside its arguments.
    if (whole := _whole(text)) is not None or MARK not in text:
        return whole if whole is not None else _within(text)
    behind = text.rpartition(MARK)[2]
    calls = _whole(behind)
    calls = _within(behind) if calls is None else calls
    return _within(text) if calls is None else calls


def begins_call(text: str) -> bool:
    """Return whether a text begins a call, though it may be cut off, and is no text to a user."""
    return _BEGUN.match(text) is not None or "<tool_call>" in text


def _whole(text: str) -> list[Call] | None:
    """Return the calls that all of a text is; None if there is more, or it is none."""
    text = text.strip()
    if _NONE.fullmatch(text):
        return []
    value = _decoded(text)
    return _python(text) if value is None else calls_of_or_none(value)


def _within(text: str) -> list[Call] | None:
    """Return the calls that a text has somewhere; None if there are none."""
    if tagged := _TAGGED.findall(text):
        values = [_decoded(value.strip()) for value in tagged]
        calls = [None if value is None else calls_of_or_none(value) for value in values]
        return [call for some in calls for call in some or ()] if all(calls) else None
    fenced = [value[1] for value in _FENCED.finditer(text)]
    tag = _PYTHON_TAG.search(text)
    for part in [*(fenced if len(fenced) == 1 else ()), *([text[tag.end() :]] if tag else ())]:
        if (whole := _whole(part)) is not None:
            return whole
    # An empty list among words does not say that no tool is called.
    return next(filter(None, map(calls_of_or_none, _values(text))), None)


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON lists and objects of a text; what lies within one is passed over.

    Behind one that is cut off there are none: what is whole in it is a part of what was meant.
    """
    position = 0
    for _ in range(_MOST_STARTS):
        start = _OPEN.search(text, position)
        if start is None:
            return
        value, position = _value_at(text, start.start())
        if value is None and _OF_JSON.match(text, start.start()):
            return
        if value is None or _IN_PYTHON.search(text[max(0, start.start() - 20) : start.start()]):
            continue
        # Objects one after the other are several calls.
        values = [value]
        while isinstance(value, dict) and (more := _NEXT.match(text, position)):
            value, position = _value_at(text, more.end())
            if value is None:
                return
            values.append(value)
        yield values if len(values) > 1 else values[0]


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value at a place and where it ends; None where there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def calls_of_or_none(value: Any) -> list[Call] | None:
    """Return the calls that a value is; None where it is none."""
    try:
        return calls_of(value)
    except ValueError:
        return None


def calls_of(value: Any) -> list[Call]:
    """Return the calls of a row or an answer.

    Raises:
        ValueError: they cannot be read; the message says which and why.
    """
    if isinstance(value, str):
        decoded = _decoded(value)
        if decoded is None:
            raise ValueError(f"calls is {shown(value)}, which is no JSON")
        value = decoded
    if isinstance(value, Mapping):
        inner = value.get("tool_calls", value.get("calls"))
        value = inner if isinstance(inner, list) else [value]
    if not isinstance(value, list):
        raise ValueError("calls is no list")
    return [_call_of(item, k) for k, item in enumerate(value, start=1)]


def _call_of(value: Any, number: int) -> Call:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"call {number} has no name")
    named = [key for key in ("arguments", "parameters", "input", "args") if key in value]
    arguments = value[named[0]] if named else {}
    if isinstance(arguments, str):
        arguments = json_of(arguments or "{}", f"the arguments of call {number} are")
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of call {number} are no object")
    accept, optional = value.get("accept", {}), value.get("optional", [])
    if not isinstance(accept, Mapping) or not all(isinstance(v, list) for v in accept.values()):
        raise ValueError(f'accept of call {number} has to be {{"argument": [values]}}')
    if not isinstance(optional, list):
        raise ValueError(f"optional of call {number} has to be a list of arguments")
    return Call(value["name"], dict(arguments), dict(accept), frozenset(map(str, optional)))


def _python(text: str) -> list[Call] | None:
    """Return the calls of a text such as [weather(city="Rome"), time()]; None where it is none."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    calls = []
    for node in nodes:
        if not isinstance(node, ast.Call) or node.args:
            return None
        try:
            arguments = {
                keyword.arg: ast.literal_eval(keyword.value)
                for keyword in node.keywords
                if keyword.arg
            }
            # Only what JSON can say.
            arguments = json.loads(json.dumps(arguments))
        except (ValueError, TypeError, RecursionError, MemoryError):
            return None
        calls.append(Call(ast.unparse(node.func), arguments))
    return calls or None


_PAUSE = re.compile(r"(?<=\w)[.,;:!?]++(?=\s)")
"""Signs of a sentence between its words: right behind one, before a space."""
_SIGNS = ".,;:!?"
"""Signs of a sentence, which do not count at the end of a text of several words."""


def why_invalid(calls: Sequence[Call], tools: Sequence[Tool]) -> Reason | None:
    """Return what is wrong with the first wrong call by the tools' schemas; None if nothing."""
    by_name = {tool.name: tool for tool in tools}
    for number, call in enumerate(calls, start=1):
        tool = by_name.get(call.name)
        if tool is None:
            return UnknownTool(number, call.name, tuple(by_name))
        if (problem := tool.problem(call.arguments)) is not None:
            return WrongCall(number, call.name, problem)
    return None


def is_right(
    given: Sequence[Call], gold: Sequence[Call], tools: Sequence[Tool], *, ordered: bool
) -> bool:
    """Return whether calls are the gold calls one by one, in any order.

    Args:
        given: what a model calls.
        gold: what it should call.
        tools: that it may call.
        ordered: whether the order counts.
    """
    by_name = {tool.name: tool for tool in tools}
    if len(given) != len(gold) or any(call.name not in by_name for call in given):
        return False
    fits = [[same_call(call, right, by_name[call.name]) for right in gold] for call in given]
    if ordered:
        return all(row[number] for number, row in enumerate(fits))
    return pairs_all(fits)


def same_call(given: Call, gold: Call, tool: Tool) -> bool:
    """Return whether a call does what a gold call does.

    It matches the schema of the tool as a whole, apart from a value that the gold call accepts. An
    argument that is left out, or is null where that is no value, has the default of its schema.
    """
    if given.name != gold.name:
        return False
    ours, theirs = tool.without_nulls(given.arguments), tool.without_nulls(gold.arguments)
    if any(name not in ours for name in tool.required) or not all(map(tool.has, ours)):
        return False
    for name in ours.keys() | theirs.keys():
        schema = tool.properties.get(name, True)
        default = _default(tool, schema)
        right = [*gold.accept.get(name, ()), *([theirs[name]] if name in theirs else [])]
        if name not in theirs and default is not None:
            right.append(default)
        if name in ours:
            if not any(_is_right(ours[name], value, schema, tool) for value in right):
                return False
        elif name not in gold.optional and not (
            default is not None and any(_is_right(default, value, schema, tool) for value in right)
        ):
            return False
    # Of a gold call that does not match its schema, either, each argument was checked alone.
    problem = tool.problem(_as_gold(ours, theirs, gold))
    return problem is None or tool.problem(theirs) is not None


def _as_gold(ours: Mapping[str, Any], theirs: Mapping[str, Any], gold: Call) -> dict[str, Any]:
    """Return arguments with those of the gold call in place of what it accepts as it is written."""
    accepted = {
        name for name, value in ours.items()
        if any(_is_identical(value, accept) for accept in gold.accept.get(name, ()))
    }  # fmt: skip
    return {
        name: theirs[name] if name in accepted else value
        for name, value in ours.items()
        if name not in accepted or name in theirs
    }


def _is_right(given: Any, gold: Any, schema: Any, tool: Tool) -> bool:
    """Return whether a value is right: it is the wanted one, or is equal and matches the schema."""
    if _is_identical(given, gold):
        return True
    return _same(given, gold, schema, tool) and tool.takes(schema, given)


def _is_identical(given: Any, gold: Any) -> bool:
    return json.dumps(given, sort_keys=True) == json.dumps(gold, sort_keys=True)


def _same(given: Any, gold: Any, schema: Any, tool: Tool) -> bool:
    """Return whether two values are equal by their schema."""
    schema = resolved(tool.parameters, schema)
    named: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    if isinstance(given, list) and isinstance(gold, list):
        if named.get("uniqueItems"):
            return {*map(as_key, given)} == {*map(as_key, gold)}
        inner = named.get("items", True)
        pairs = zip(given, gold, strict=False)
        return len(given) == len(gold) and all(_same(a, b, inner, tool) for a, b in pairs)
    if isinstance(given, Mapping) and isinstance(gold, Mapping):
        for name in given.keys() | gold.keys():
            inner = named.get("properties", {}).get(name, True)
            default = _default(tool, inner)
            if (name not in given or name not in gold) and default is None:
                return False
            if not _same(given.get(name, default), gold.get(name, default), inner, tool):
                return False
        return True
    if isinstance(given, str) and isinstance(gold, str):
        return same(_without_signs(given), _without_signs(gold))
    return same(given, gold)


def _without_signs(text: str) -> str:
    """Return a text without the signs behind its words, of one word with them."""
    ended = text.rstrip().rstrip(_SIGNS)
    is_sentence = len(text.split()) > 1 and ended[-1:].isalnum()
    return _PAUSE.sub("", ended if is_sentence else text)


def _default(tool: Tool, schema: Any) -> Any:
    schema = resolved(tool.parameters, schema)
    return schema.get("default") if isinstance(schema, Mapping) else None


def overlap(given: Sequence[Call], gold: Sequence[Call]) -> float:
    """Return F1 over the names of the calls and their arguments."""
    names = Counter(call.name for call in given), Counter(call.name for call in gold)
    return _f1(names[0] + _arguments(given), names[1] + _arguments(gold))


def overlap_of_arguments(given: Sequence[Call], gold: Sequence[Call]) -> float:
    """Return F1 over the arguments of calls, whatever the tools are called."""
    return _f1(_arguments(given), _arguments(gold))


def _f1(given: Counter[str], gold: Counter[str]) -> float:
    total = given.total() + gold.total()
    return 2 * (given & gold).total() / total if total else 1.0


def _arguments(calls: Sequence[Call]) -> Counter[str]:
    return Counter(
        f"{name} {as_key(value)}" for call in calls for name, value in call.arguments.items()
    )


VALUES: dict[str, Any] = table(__file__, "values.toml")
"""Texts and ranges of numbers by the names of arguments."""
_TEXTS = {name: entry["values"] for entry in reversed(VALUES["texts"]) for name in entry["names"]}
_FROM_ROWS = 0.5
"""Share of values that are taken from the training rows, where those have some."""
_MOST_WITH_OPTIONAL, _OPTIONAL = 0.5, 1.2
"""Share of calls that have an optional argument at most, and how many a call has on average."""
_AS_DESCRIBED = 0.5
"""Share of values that are an example of the description, where it has some."""
_DEEPEST = 4
_MOST_ITEMS = 3
_TRIES = 20
_SPAN = 100
"""Between the bounds of a number of which only one is given."""
_EXAMPLES = re.compile(
    r"""(?:such as|e\.?g\.?,?|for example,?|examples?|like|default is)[ :(]*"""
    r"""((?:(?:[,/ ]|or\b|and\b)*(?:'[^'\n]{1,60}'|"[^"\n]{1,60}"|`[^`\n]{1,60}`))+)""",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""'([^']+)'|"([^"]+)"|`([^`]+)`""")
_DATES = {"YYYY-MM-DD": "%Y-%m-%d", "DD/MM/YYYY": "%d/%m/%Y", "MM/DD/YYYY": "%m/%d/%Y"}
"""Form of a date that a description names, and how it is written."""
_BY_NAME = {"date": "date", "email": "email", "url": "uri", "uri": "uri", "link": "uri"}
"""Word in the name of an argument, and the format of its value."""


class CannotDrawError(Exception):
    """A schema asks for values that nothing here can make; the message says which."""

    def __init__(self, reason: NotDrawn, tool: str = "") -> None:
        super().__init__(str(reason))
        self.reason, self.tool = reason, tool


@dataclass(frozen=True)
class Drawer:
    """Draws calls of tools."""

    seen: Mapping[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    """Of a tool's argument its values in the training rows."""

    def call(self, tool: Tool, rng: random.Random) -> Call:
        """Return a valid call of a tool.

        Raises:
            CannotDrawError: none could be made.
        """
        optional = [name for name in tool.properties if name not in tool.required]
        share = _share_of_optional(len(optional))
        for _ in range(_TRIES):
            arguments: dict[str, Any] = {}
            # A call says something, where there is anything that it can say.
            needed = {*tool.required} or {rng.choice(optional or [""])}
            for name, schema in tool.properties.items():
                if name not in needed and rng.random() >= share:
                    continue
                try:
                    arguments[name] = self._argument(tool, name, schema, rng)
                except CannotDrawError as error:
                    if name in tool.required:
                        raise CannotDrawError(error.reason, tool.name) from error
            if tool.problem(arguments) is None:
                return Call(tool.name, tool.ordered(arguments))
        raise CannotDrawError(NotDrawn(NoDraw.NO_MATCH), tool.name)

    def _argument(self, tool: Tool, name: str, schema: Any, rng: random.Random) -> Any:
        known = self.seen.get((tool.name, name), ())
        if known and rng.random() < _FROM_ROWS:
            return rng.choice(known)
        try:
            return value_of(tool.parameters, schema, name, rng)
        except CannotDrawError:
            if not known:
                raise
            return rng.choice(known)


def _share_of_optional(n: int) -> float:
    """Return the share of calls that have each of `n` optional arguments."""
    return min(_MOST_WITH_OPTIONAL, _OPTIONAL / max(1, n))


def value_of(
    root: Mapping[str, Any], schema: Any, name: str, rng: random.Random, depth: int = 0
) -> Any:
    """Return a value that a schema describes.

    Args:
        root: the schema that references are read in.
        schema: of the value.
        name: of the argument, which tells what a text may be.
        rng: source of chance.
        depth: how many values this one is in.

    Raises:
        CannotDrawError: nothing here can make one.
    """
    schema = resolved(root, schema)
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise CannotDrawError(NotDrawn(NoDraw.UNKNOWN_VALUES, name))
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return rng.choice(schema[key])
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return value_of(root, rng.choice(schema[key]), name, rng, depth + 1)
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind in ("integer", "number"):
        return _number(schema, kind == "integer", name, rng)
    if kind == "string":
        return _text(schema, name, rng)
    if kind == "array":
        return _items(root, schema, name, rng, depth)
    if kind == "object" and schema.get("properties"):
        required = schema.get("required", ())
        share = _share_of_optional(len(schema["properties"].keys() - set(required)))
        return {
            key: value_of(root, inner, key, rng, depth + 1)
            for key, inner in schema["properties"].items()
            if key in required or rng.random() < share
        }
    raise CannotDrawError(NotDrawn(NoDraw.NO_FIELDS, name))


def _items(
    root: Mapping[str, Any], schema: Mapping[str, Any], name: str, rng: random.Random, depth: int
) -> list[Any]:
    inner = schema.get("items", {"type": "string"})
    least = schema.get("minItems", 1)
    n = rng.randint(least, max(least, min(_MOST_ITEMS, schema.get("maxItems", _MOST_ITEMS))))
    items: list[Any] = []
    for _ in range(_TRIES):
        if len(items) == n:
            break
        item = value_of(root, inner, name, rng, depth + 1)
        items += [item] if item not in items else []
    return items


def _number(schema: Mapping[str, Any], is_whole: bool, name: str, rng: random.Random) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        ranges = VALUES["ranges"]
        known = (ranges[word] for word in reversed(_words(name)) if word in ranges)
        low, high = next(known, (1, _SPAN))
    low = (min(1, high - _SPAN) if high < 1 else 1) if low is None else low
    high = max(low + _SPAN, low) if high is None else high
    step = schema.get("multipleOf", 1 if is_whole else 0.5)
    n_steps = int((high - low) / step) if step > 0 else 0
    start = low + rng.randint(0, max(0, n_steps)) * step
    if step:  # the multiple that is nearest
        start = round(start / step) * step
    value = round(float(start), 6)
    return int(value) if is_whole or value.is_integer() else value


def _text(schema: Mapping[str, Any], name: str, rng: random.Random) -> str:
    form = schema.get("format")
    description = str(schema.get("description", ""))
    day = datetime.date(2024, 1, 1) + datetime.timedelta(rng.randrange(1000))
    time = f"{rng.randrange(24):02d}:{rng.choice((0, 15, 30, 45)):02d}"
    drawn = {
        "date": day.isoformat(),
        "date-time": f"{day.isoformat()}T{time}:00Z",
        "time": f"{time}:00",
        "email": f"{_word(rng)}@{_word(rng)}.org",
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "uri": f"https://{_word(rng)}.org/{_word(rng)}",
        "ipv4": ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
    }
    if form in drawn:
        return drawn[form]
    examples = examples_in(description)
    if "pattern" in schema or form is not None:
        if examples:
            return rng.choice(examples)
        lacking = "a pattern" if "pattern" in schema else f"the format {form}"
        raise CannotDrawError(NotDrawn(NoDraw.NO_EXAMPLES, name, lacking))
    for mark, layout in _DATES.items():
        if mark in description.upper():
            return day.strftime(layout)
    if examples and rng.random() < _AS_DESCRIBED:
        return rng.choice(examples)
    words = _words(name)
    by_name = next((_BY_NAME[word] for word in words if word in _BY_NAME), None)
    if by_name is not None:
        return drawn[by_name]
    if "id" in words:
        return f"{_word(rng)[:2].upper()}{rng.randrange(1000, 9999)}"
    known = texts_of_name(name)
    return rng.choice(known) if known else f"{_word(rng)} {_word(rng)}"


def texts_of_name(name: str) -> Sequence[str]:
    """Return texts that an argument of a name may be; none where the name tells of none."""
    return next((_TEXTS[word] for word in reversed(_words(name)) if word in _TEXTS), ())


def _word(rng: random.Random) -> str:
    return rng.choice(VALUES["words"])


def _words(name: str) -> list[str]:
    parts = "".join(f"_{c}" if c.isupper() else c for c in name).replace("-", "_").lower()
    words = [part for part in parts.split("_") if part]
    return [word if word in _TEXTS else word.rstrip("s") for word in words]


def examples_in(description: str) -> tuple[str, ...]:
    """Return the values in quotes that a description gives as examples."""
    quoted = (text for listed in _EXAMPLES.findall(description) for text in _QUOTED.findall(listed))
    return tuple(dict.fromkeys(next(filter(None, texts)).strip() for texts in quoted))
