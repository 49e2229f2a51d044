"""Tool calls: read in every form that models write, and compared by the tools' schemas."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stratos.contrib.tools.calls import (
    Call,
    begins_call,
    calls_of,
    is_right,
    overlap,
    read,
    why_invalid,
    written,
)
from stratos.contrib.tools.signatures import (
    Tool,
    grammar_of,
    question_of,
    request_in,
    tools_in,
    tools_of,
)
from stratos.contrib.tools.words import UnknownTool
from stratos.teachers.base import Question
from stratos.teachers.reply import to_answer

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Get the weather.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "parts": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}}},
        },
        "required": ["city"],
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {}}}
TOOLS = tools_of([WEATHER, CLOCK])
ROME = [Call("weather", {"city": "Rome", "days": 2})]


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "weather", "arguments": {"city": "Rome", "days": 2}}]',
        'Answer: {"name": "weather", "arguments": {"city": "Rome", "days": 2}}',
        '```json\n[{"name": "weather", "parameters": {"city": "Rome", "days": 2}}]\n```',
        'I call it.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 2}}\n'
        "</tool_call>",
        '{"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '
        '"{\\"city\\": \\"Rome\\", \\"days\\": 2}"}}]}',
        'Answer: [weather(city="Rome", days=2)]',
        '<|python_tag|>weather(city="Rome", days=2)',
        'For [1] see {x}: [{"name": "weather", "arguments": {"city": "Rome", "days": 2}}] Done.',
    ],
)
def test_calls_are_read_in_every_form(text: str) -> None:
    assert read(text) == ROME


def test_several_calls_no_call_and_what_is_neither() -> None:
    two = [Call("clock"), Call("weather", {"city": "Rome"})]
    assert read(written(two)) == two
    lines = '{"name": "clock", "arguments": {}}\n{"name": "weather", "arguments": {"city": "Rome"}}'
    assert read(lines) == two
    assert read("<tool_call>{}</tool_call>") is None
    for none in ("[]", "Answer: []", "None.", "no tool", "Answer: no call"):
        assert read(none) == [], none
    cut = '[{"name": "weather", "arguments": {"city": '
    code = "__import__('os').system('x')", "f(open('x'))"
    for neither in ("", "It is sunny.", cut, "[1, 2]", *code, "[" * 5000, "{" * 9999):
        assert read(neither) is None, neither


@pytest.mark.parametrize(
    "text",
    ["Answer: []", "use <tool_call> tags", "a ```python\nprint(1)\n``` b", "none", "\x7f", "[{"],
)
def test_calls_may_hold_any_text(text: str) -> None:
    calls = [Call("send", {"text": text})]
    assert read(written(calls)) == calls
    assert read(f"Answer: {written(calls)}") == calls
    assert read(f"[send(text={text!r})]") == calls


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('[weather(city="Rome", parts=[])]', [Call("weather", {"city": "Rome", "parts": []})]),
        ('[f(items=[{"name": "a"}])]', [Call("f", {"items": [{"name": "a"}]})]),
        ('[clock(), g(b={"name": "z"})]', [Call("clock"), Call("g", {"b": {"name": "z"}})]),
        ('[]\n[{"name": "f", "arguments": {}}]', [Call("f")]),
        ('```json\n{"name": "f"}\n```\n```json\n{"name": "g"}\n```', [Call("f"), Call("g")]),
        ("No tool fits:\n```json\n[]\n```", []),
        ("No tool fits, the array [] is empty.", None),
        ('I would use f(items=[{"name": "a"}]) here.', None),
        ('[{"name": "f", "arguments": {}}, {"name": "wea', None),
        ('[{"name": "f", "arguments": {}}', None),
        ('{"name": "f", "arguments": {}}\n{"name": "wea', None),
        ('{"tool_calls": [{"name": "f", "arguments": {}}, {"na', None),
        ("()", None),
    ],
)
def test_what_is_in_a_call_is_none_and_what_is_cut_off_is_not_read(text: str, calls: Any) -> None:
    assert read(text) == calls


FLAGS = tools_of(
    [
        {
            "name": "f",
            "parameters": {
                "properties": {
                    "flags": {"type": "array", "items": {"type": "boolean"}},
                    "o": {"type": "object", "properties": {"b": {"type": "boolean"}}},
                    "s": {"type": "string"},
                    "a": {"type": "integer", "default": 1},
                },
                "anyOf": [{"required": ["flags"]}, {"required": ["o"]}, {"required": ["s"]},
                          {"required": ["a"]}],
            },
        }
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "gold", "right"),
    [
        ({"flags": [1, 0]}, {"flags": [True, False]}, False),
        ({"o": {"b": 1}}, {"o": {"b": True}}, False),
        ({}, {"a": 1}, False),  # anyOf wants it
        ({"s": "git add"}, {"s": "git add ."}, False),
        ({"s": "cd"}, {"s": "cd .."}, False),
        ({"s": "cp /tmp"}, {"s": "cp . /tmp"}, False),
        ({"s": "!"}, {"s": "?"}, False),
        ({"s": "a?"}, {"s": "a"}, False),
        ({"s": ""}, {"s": "..."}, False),
        ({"s": "is it so"}, {"s": "Is it so?"}, True),
        ({"s": "Rome Italy"}, {"s": "Rome, Italy."}, True),
        ({"s": "x" + "!" * 20_000 + "y"}, {"s": "x"}, False),
    ],
)
def test_a_right_call_matches_its_schema_and_signs_that_mean_something_count(
    given: Any, gold: Any, right: bool
) -> None:
    started = time.monotonic()
    assert is_right([Call("f", given)], [Call("f", gold)], FLAGS, ordered=False) is right
    assert time.monotonic() - started < 5


def test_a_value_that_a_row_accepts_is_right_even_against_the_schema() -> None:
    gold = [Call("weather", {"city": "Rome", "days": 2}, {"days": ["two"], "unit": ["kelvin"]})]
    accepted = [Call("weather", {"city": "Rome", "days": "two", "unit": "kelvin"})]
    assert is_right(accepted, gold, TOOLS, ordered=False)


def test_nested_arguments_are_learnt_in_the_order_of_their_schema() -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    ways = {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/p"}]}}
    [tool] = tools_of(
        [{"name": "f", "parameters": {"properties": {"ways": ways}, "$defs": {"p": point}}}]
    )
    made = tool.ordered({"ways": [{"y": 1, "x": 2.0}, None]})
    assert json.dumps(made) == '{"ways": [{"x": 2, "y": 1}, null]}'


@pytest.mark.parametrize(
    ("given", "gold", "right"),
    [
        ({"city": "rome"}, {"city": "Rome"}, True),
        ({"city": "Rome", "days": 1}, {"city": "Rome"}, True),  # the default
        ({"city": "Rome"}, {"city": "Rome", "days": 1}, True),
        ({"city": "Rome", "days": 2}, {"city": "Rome"}, False),
        ({"city": "Rome"}, {"city": "Rome", "unit": "C"}, False),
        ({"city": "Rome", "unit": "C"}, {"city": "Rome"}, False),
        ({"city": "Rome", "unit": "c"}, {"city": "Rome", "unit": "C"}, False),  # not of the enum
        ({"city": "Rome", "unit": None}, {"city": "Rome"}, True),
        ({"city": "Rome, Italy."}, {"city": "Rome Italy"}, True),
        ({"city": "v1.2"}, {"city": "v12"}, False),
        ({"city": "Rome", "days": "2"}, {"city": "Rome", "days": 2}, False),  # the type
        ({"city": "Rome", "days": 2.0}, {"city": "Rome", "days": 2}, True),
        ({"days": 2}, {"city": "Rome", "days": 2}, False),
        ({"city": "Rome", "more": 1}, {"city": "Rome"}, False),
        ({"city": "Rome", "parts": ["a", "b"]}, {"city": "Rome", "parts": ["b", "a"]}, True),
        ({"city": "Rome", "where": {"lat": 1}}, {"city": "Rome", "where": {"lat": 1.0}}, True),
        ({"city": "Rome", "where": {}}, {"city": "Rome", "where": {"lat": 1.0}}, False),
    ],
)
def test_arguments_are_compared_by_their_schema(given: Any, gold: Any, right: bool) -> None:
    one, other = [Call("weather", given)], [Call("weather", gold)]
    assert is_right(one, other, TOOLS, ordered=False) is right


def test_what_a_row_accepts_besides_is_right_too() -> None:
    gold = [Call("weather", {"city": "Rome", "unit": "C"}, {"city": ["Roma"]}, frozenset(["unit"]))]
    for arguments in ({"city": "Roma", "unit": "C"}, {"city": "Rome"}):
        assert is_right([Call("weather", arguments)], gold, TOOLS, ordered=False)
    assert not is_right([Call("weather", {"city": "Paris"})], gold, TOOLS, ordered=False)


def test_the_order_of_calls_counts_only_where_it_is_said_to() -> None:
    calls = [Call("weather", {"city": city}) for city in ("Rome", "Oslo")]
    assert is_right(calls[::-1], calls, TOOLS, ordered=False)
    assert not is_right(calls[::-1], calls, TOOLS, ordered=True)
    assert not is_right(calls[:1] * 2, calls, TOOLS, ordered=False)
    # Either fits the first gold call, only one the second: a greedy pairing would fail.
    gold = [Call("weather", {"city": "Rome"}, {"city": ["Oslo"]}), calls[0]]
    assert is_right([calls[0], calls[1]], gold, TOOLS, ordered=False)
    assert is_right([], [], TOOLS, ordered=False)
    assert not is_right([Call("clock")], [], TOOLS, ordered=False)
    assert overlap(calls, calls[:1]) == pytest.approx(2 * 2 / 6)


def test_tools_are_read_in_the_forms_of_apis_and_refused_by_name() -> None:
    anthropic = {"name": "weather", "input_schema": WEATHER["parameters"]}
    assert tools_of([anthropic])[0].properties == TOOLS[0].properties
    bfcl = {
        "name": "a.b",
        "parameters": {
            "type": "dict",
            "properties": {
                "x": {"type": "tuple", "items": {"type": "float"}},
                "y": {"type": "any"},
            },
        },
    }
    properties = {"x": {"type": "array", "items": {"type": "number"}}, "y": {}}
    assert tools_of(json.dumps([bfcl]))[0].properties == properties
    for tools, said in (
        ("{", "which is no JSON"),
        ([{"x": 1}], "tool 1 has no name"),
        ([WEATHER, WEATHER], "two tools are called weather"),
        ([{"name": "a", "parameters": {"$ref": "http://a/b"}}], "the parameters of a: "),
        ([{"name": "a", "parameters": {"type": "array"}}], "are no object, but array"),
        ([{"name": "a\x1b[31m"}], "tool 1 is called"),
    ):
        with pytest.raises(ValueError, match=said):
            tools_of(tools)
    with pytest.raises(ValueError, match=r"the arguments of call 1 are .* which is no JSON"):
        calls_of([{"name": "a", "arguments": "{"}])
    assert why_invalid([Call("x")], TOOLS) == UnknownTool(1, "x", ("weather", "clock"))


def test_a_question_tells_its_tools_and_its_request_again() -> None:
    request = "Weather?\n\nRequest:\nTools:\n"
    question = question_of(TOOLS, [{"role": "user", "content": request}])
    assert (tools_in(question), request_in(question)) == (TOOLS, request)
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    question = question_of(TOOLS, turns)
    assert tools_in(question) == TOOLS
    assert [json.loads(line) for line in request_in(question).splitlines()] == turns
    assert tools_in(question_of((), turns[1:])) == ()
    separated = tools_of([{"name": "a", "description": "one\u2028two\x85three"}])
    assert tools_in(question_of(separated, turns)) == separated
    assert tools_in("What is it?") == ()


def test_the_grammar_of_an_answer_takes_valid_calls_alone() -> None:
    from stratos.tasks.schema.document import validator

    tree = {"name": "tree", "parameters": {"properties": {"of": {"$ref": "#/$defs/n"}},
            "$defs": {"n": {"type": "integer"}}}}  # fmt: skip
    checked = validator(grammar_of(tools_of([WEATHER, CLOCK, tree])))
    assert checked.is_valid(json.loads(written(ROME)))
    assert checked.is_valid([])
    assert checked.is_valid([{"name": "tree", "arguments": {"of": 1}}])
    assert not checked.is_valid([{"name": "tree", "arguments": {"of": "1"}}])
    assert not checked.is_valid([{"name": "weather", "arguments": {}}])
    assert not checked.is_valid([{"name": "other", "arguments": {}}])
    assert validator(grammar_of(())).is_valid([])


def test_signs_at_the_end_of_words_do_not_count_however_many_there_are() -> None:
    tool = Tool("say", parameters={"type": "object", "properties": {"text": {"type": "string"}}})
    signs = "!" * 100_000
    for given, right in (
        ("Hi, you", True),
        (f"Hi{signs} you{signs}", True),
        (f"H{signs}i you", False),
    ):
        calls = [Call("say", {"text": given})]
        assert is_right(calls, [Call("say", {"text": "Hi you"})], [tool], ordered=True) is right


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"},
        {"type": "null"}, {"type": "string", "enum": ["a", "b"]}, {"type": "integer", "enum": [1]},
        {"type": "string", "minLength": 2}, {"type": ["string", "null"]}, {"type": "array"}, {},
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["a", "abc", 1, 1.0, 1.5, True, None, [1], {"b": 2}])
def test_a_look_at_types_refuses_and_takes_what_a_validator_does(schema: Any, value: Any) -> None:
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    tool = Tool("f", "", parameters)
    assert (tool.problem({"x": value}) is None) == is_valid(value, schema)
    assert tool.problem({}) is not None
    assert tool.problem({"x": value, "y": 1}) is not None


def is_valid(value: Any, schema: Any) -> bool:
    return Draft202012Validator(schema).is_valid(value)


def test_native_calls_of_a_teacher_are_read_as_those_in_a_text() -> None:
    calls = [{"type": "function", "function": {"name": name, "arguments": "{\"n\": 1}"}}
             for name in "ab"]  # fmt: skip
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": calls}
    reply = {"choices": [{"finish_reason": "tool_calls", "message": message}]}
    text = to_answer(reply, Question([{"role": "user", "content": "go"}], 9), 0.1).text
    assert read(text) == [Call("a", {"n": 1}), Call("b", {"n": 1})]


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ('Hm. <tool_call>{"name": "a", "ar', True), ('[{"name": "a"', True),
        ("I have called a.", False), ('{"status": "ok"}', False), ("[1] see there", False),
    ],
)  # fmt: skip
def test_a_call_that_is_cut_off_is_no_text_to_the_user(text: str, begins: bool) -> None:
    assert begins_call(text) == begins
