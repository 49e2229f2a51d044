"""Arguments that are objects or lists: flattened, put together again, learnt and answered."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from agent_traces import user

from stratos.contrib.tools.call_learner import learn
from stratos.contrib.tools.call_paths import Part, flattened, leaves_of, named_values, nested
from stratos.contrib.tools.call_student import Caller, state_of
from stratos.contrib.tools.calls import calls_of
from stratos.contrib.tools.signatures import Tool, question_of, tools_of

TEXT = {"type": "string"}
SHIP: dict[str, Any] = {
    "name": "ship",
    "parameters": {
        "type": "object",
        "required": ["to", "items"],
        "properties": {
            "to": {
                "type": "object",
                "required": ["name", "address"],
                "properties": {
                    "name": TEXT,
                    "address": {"$ref": "#/$defs/address"},
                },
            },
            "items": {"type": "array", "items": TEXT, "minItems": 1},
            "options": {
                "anyOf": [
                    {"type": "object", "required": ["express"],
                     "properties": {"express": {"type": "boolean"}, "note": TEXT}},
                    {"type": "null"},
                ]
            },
        },
        "$defs": {
            "address": {
                "type": "object",
                "required": ["street", "city"],
                "properties": {"street": TEXT, "city": TEXT},
            }
        },
    },
}  # fmt: skip
NAMES = ("Ann Lee", "Omar Haddad", "Lena Novak", "Priya Shah", "Noah Kim", "Emma Brown")
CITIES = ("Oslo", "Rome", "Ghent", "Porto", "Lyon", "Graz")
THINGS = ("lamp", "kettle", "mirror", "clock", "chair", "carpet", "heater", "drill")
OTHERS = ("Zoe Martin", "Amir Rahimi"), ("Riga", "Seville"), ("tent", "toaster", "mat", "fan")


def request(rng: random.Random, *, others: bool = False) -> tuple[str, dict[str, Any]]:
    names, cities, things = OTHERS if others else (NAMES, CITIES, THINGS)
    name, city = rng.choice(names), rng.choice(cities)
    street = f"{rng.randint(1, 99)} {rng.choice(('Mill', 'Park', 'Hill'))} Road"
    items = rng.sample(things, rng.randint(1, 3))
    listed = " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
    text = rng.choice(
        (f"Send a {listed} to {name}, {street} in {city}", f"Ship {listed} to {name}: {street}, "
         f"{city}")
    )  # fmt: skip
    arguments: dict[str, Any] = {
        "to": {"name": name, "address": {"street": street, "city": city}}, "items": items,
    }  # fmt: skip
    if rng.random() < 0.4:
        arguments["options"] = {"express": True}
        text += ", express please"
    return text, arguments


@pytest.fixture(scope="module")
def tool() -> Tool:
    return tools_of([SHIP])[0]


@pytest.fixture(scope="module")
def student(tool: Tool) -> Caller:
    rng = random.Random(0)
    rows = [request(rng) for _ in range(160)]
    states = [state_of(question_of([tool], [user(text)]), "2026") for text, _ in rows]
    answers = [json.dumps([{"name": "ship", "arguments": arguments}]) for _, arguments in rows]
    return learn(states, answers, "2026")


def test_each_property_and_item_is_an_argument_of_its_own(tool: Tool) -> None:
    assert [leaf.name for leaf in tool.leaves] == [
        "to/", "to/name", "to/address/", "to/address/street", "to/address/city",
        "items/[]", "items/*", "options/", "options/express", "options/note",
    ]  # fmt: skip
    required = {leaf.name for leaf in tool.leaves if leaf.is_required}
    assert {"to/", "to/address/", "items/[]", "options/express"} <= required
    assert not {"options/", "options/note"} & required


def test_what_is_flattened_is_put_together_again(tool: Tool) -> None:
    _, arguments = request(random.Random(3))
    for some in (arguments, arguments | {"options": {"express": False, "note": "mind the dog"}}):
        flat = flattened(tool.leaves, some)
        values = {
            leaf.name: flat[leaf.name] if leaf.part is Part.ITEM else flat[leaf.name][0]
            for leaf in tool.leaves
            if flat[leaf.name]
        }
        assert nested(tool.leaves, values) == some


def test_a_required_argument_that_is_left_out_is_null_where_it_may_be() -> None:
    parameters = {
        "type": "object",
        "required": ["city", "filter"],
        "properties": {
            "city": {"type": ["string", "null"]},
            "filter": {"anyOf": [{"type": "array", "items": TEXT}, {"type": "null"}]},
        },
    }
    leaves = leaves_of(parameters)
    assert flattened(leaves, {"city": None, "filter": None}) == {
        "city": [], "filter/[]": [], "filter/*": [],
    }  # fmt: skip
    assert nested(leaves, {}) == {"city": None, "filter": None}


def test_lists_of_objects_and_objects_without_properties_stay_whole() -> None:
    parameters = {
        "properties": {
            "lines": {"type": "array", "items": {"type": "object", "properties": {"n": TEXT}}},
            "extra": {"type": "object"},
            "size": {"type": "object", "enum": [{"a": 1}], "properties": {"a": TEXT}},
        }
    }
    assert [leaf.name for leaf in leaves_of(parameters)] == ["lines", "extra", "size"]


def test_a_schema_that_holds_itself_has_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": TEXT}}
    leaves = leaves_of({"properties": {"node": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}})
    assert max(len(leaf.path) for leaf in leaves) <= 5


def test_earlier_calls_are_named_as_their_leaves_are(tool: Tool) -> None:
    _, arguments = request(random.Random(3))
    names = {name for name, _ in named_values(arguments)}
    assert {"to", "to/name", "to/address/city", "items", "items/*"} <= names


def test_objects_and_lists_are_answered_with_values_that_no_row_has(
    tool: Tool, student: Caller
) -> None:
    rng = random.Random(1)
    rows = [request(rng, others=True) for _ in range(60)]
    given = student.predict([question_of([tool], [user(text)]) for text, _ in rows])
    calls = [calls_of(prediction.text) for prediction in given]
    assert all(tool.problem(call.arguments) is None for some in calls for call in some)
    right = [some and some[0].arguments == arguments
             for some, (_, arguments) in zip(calls, rows, strict=True)]  # fmt: skip
    assert sum(map(bool, right)) > 0.8 * len(right)


def test_a_list_of_a_result_is_taken_whole() -> None:
    close = {"name": "close", "parameters": {"type": "object", "required": ["ids"], "properties": {
        "ids": {"type": "array", "items": TEXT}}}}  # fmt: skip
    tools = tools_of([close, {"name": "find"}])
    rng = random.Random(0)

    def state(n: int) -> tuple[str, list[str]]:
        ids = [f"t{rng.randint(1000, 9999)}" for _ in range(n)]
        messages = [user("close all open tickets"),
                    {"role": "assistant", "content": "", "tool_calls": [
                        {"name": "find", "arguments": {}}]},
                    {"role": "tool", "content": json.dumps({"open": ids, "n": n})}]  # fmt: skip
        return question_of(tools, messages), ids

    rows = [state(rng.randint(1, 5)) for _ in range(60)]
    answers = [json.dumps([{"name": "close", "arguments": {"ids": ids}}]) for _, ids in rows]
    student = learn([state_of(text, "2026") for text, _ in rows], answers, "2026")
    question, ids = state(7)
    [given] = student.predict([question])
    assert calls_of(given.text)[0].arguments == {"ids": ids}
