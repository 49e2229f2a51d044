"""Injection from schemas: values, requests that are read back, and the tools that are left out."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.tools.calls import (
    Call,
    CannotDrawError,
    Drawer,
    examples_in,
    read,
    value_of,
    written,
)
from stratos.contrib.tools.request_drawer import Draws, Requests, plain_request, template_of
from stratos.contrib.tools.signatures import request_in, tools_of
from stratos.contrib.tools.tool_rows import Names, row_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.contrib.tools.words import (
    NeverDrawn,
    NoArgument,
    NoDraw,
    NotDrawn,
    NoTools,
    WrongAccept,
)
from stratos.core.reasons import Because, Reason

SCHEDULE: dict[str, Any] = {
    "name": "schedule",
    "description": "Plan a visit of the gardener at a date",
    "parameters": {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date"},
            "who": {"$ref": "#/$defs/person"},
        },
        "required": ["when", "who"],
        "$defs": {
            "person": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "phone": {"type": "string"},
                    "home": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
                "required": ["name"],
            }
        },
    },
}
IRRIGATE: dict[str, Any] = {
    "name": "irrigate",
    "description": "Water a bed for some minutes",
    "parameters": {
        "type": "object",
        "properties": {
            "bed": {"type": "string", "pattern": "^[A-D][0-9]{1,2}$"},
            "minutes": {"type": "integer", "minimum": 1, "maximum": 120},
        },
        "required": ["bed", "minutes"],
    },
}
ARGUMENTS = tuple(IRRIGATE["parameters"]["properties"])
SENSOR: dict[str, Any] = {
    "name": "read_sensor",
    "description": "Read a sensor",
    "parameters": {"properties": {"kind": {"enum": ["humidity", "co2"]}}, "required": ["kind"]},
}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Gets the weather of a city. Of any.",
    "parameters": {
        "properties": {"city": {"type": "string"}, "temperatureUnit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
}


def task_of(tmp_path: Path, tools: list[dict[str, Any]]) -> ToolsTask:
    path = tmp_path / "rows.jsonl"
    call = {"name": "read_sensor", "arguments": {"kind": "co2"}}
    rows = [{"question": f"co2 of room {k}?", "tools": tools, "calls": [call]} for k in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ToolsTask(path=str(path), drawn_from="schemas", n_drawn=300)


def test_objects_are_drawn_and_read_back(tmp_path: Path) -> None:
    task = task_of(tmp_path, [SCHEDULE, SENSOR])
    items = list(task.reverse(300))
    people = [
        (call.arguments["who"], request_in(item.question))
        for item in items
        for call in read(item.answer) or ()
        if call.name == "schedule"
    ]
    assert len(people) > 80
    assert {key for person, _ in people for key in person} == {"name", "phone", "home"}
    assert all(person["name"] in request for person, request in people)
    assert all(item.answer == "[]" or task.verify(item) is None for item in items)
    assert task.never_drawn is None


def test_a_plain_request_names_what_is_done_and_each_argument() -> None:
    [weather] = tools_of([WEATHER])
    call = Call("weather", {"city": "Rome", "temperatureUnit": "F"})
    request = plain_request(call, weather)
    assert request == "Gets the weather of a city: city = Rome, temperature unit = F"
    assert Requests().read(request, [weather]) == [[call]]
    for unread in ("Tell me a joke", f"{request}, city = Oslo", request.replace("= F", "= K")):
        assert Requests().read(unread, [weather]) == []


def test_a_request_that_can_be_read_in_two_ways_is_not_taken() -> None:
    tools = tools_of([WEATHER, {**WEATHER, "name": "climate"}])
    request = plain_request(Call("weather", {"city": "Rome"}), tools[0])
    assert len(Requests().read(request, tools)) == 2


def test_several_calls_are_read_back() -> None:
    tools = tools_of([WEATHER, SENSOR])
    rng = random.Random(1)
    for k in range(50):
        pair = [tools[k % 2], tools[k % 3 % 2]]
        calls = [Drawer().call(tool, rng) for tool in pair]
        readings = Requests().read(Requests().write(calls, pair, rng), tools)
        assert [written(reading) for reading in readings] == [written(calls)]


def test_a_row_gives_a_template_for_other_values() -> None:
    weather, schedule = tools_of([WEATHER, SCHEDULE])
    call = Call("weather", {"city": "Rome", "temperatureUnit": "F"})
    template = template_of("Weather of Rome in F, please", call, weather)
    assert template is not None and template.slots == ("city", "temperatureUnit")
    assert template.pieces == ("Weather of ", " in ", ", please")
    for request in ("Weather there", "Rome or Rome", "Weather of Rome in F?" + "!" * 400):
        assert template_of(request, call, weather) is None
    book = Call("schedule", {"when": "2027-05-01", "who": {"name": "Olga"}})
    rows = [('book {"name": "Olga"} on 2027-05-01', book, schedule)]
    [[again]] = Requests.learnt(rows).read('book {"name": "Tim"} on 2027-06-02', [schedule])
    assert again.arguments == {"when": "2027-06-02", "who": {"name": "Tim"}}


def test_tools_that_cannot_be_drawn_are_named(tmp_path: Path) -> None:
    task = task_of(tmp_path, [SCHEDULE, IRRIGATE, SENSOR])
    calls = [call for item in task.reverse(300) for call in read(item.answer) or ()]
    assert {call.name for call in calls} == {"schedule", "read_sensor"}
    reason = NotDrawn(NoDraw.NO_EXAMPLES, "bed", "a pattern")
    assert task.drawn_in_vain[f"irrigate: {reason}"] > 20
    assert task.never_drawn == NeverDrawn({"irrigate": reason}, n_tools=3)
    # An example of a description is a value.
    bed = {**IRRIGATE["parameters"]["properties"]["bed"], "description": "A bed, such as 'B12'"}
    properties = {**IRRIGATE["parameters"]["properties"], "bed": bed}
    described = {**IRRIGATE, "parameters": {**IRRIGATE["parameters"], "properties": properties}}
    task = task_of(tmp_path, [described, SENSOR])
    assert any('"B12"' in item.answer for item in task.reverse(100))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 5},
        {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25},
        {"type": "integer", "maximum": -5},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "examples": ["only this"]},
        {"type": ["string", "null"]},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 2},
        {"anyOf": [{"const": 7}, {"type": "boolean"}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    ],
)
def test_values_match_their_schemas(schema: dict[str, Any]) -> None:
    rng = random.Random(0)
    parameters = {"properties": {"x": schema}, "required": ["x"]}
    [tool] = tools_of([{"name": "t", "parameters": parameters}])
    for _ in range(50):
        assert tool.problem(Drawer().call(tool, rng).arguments) is None


def test_values_come_from_rows_descriptions_and_names() -> None:
    rng = random.Random(0)
    with pytest.raises(CannotDrawError):
        value_of({}, {"type": "string", "pattern": "^x$"}, "a", rng)
    seen = Drawer({("t", "x"): ["xx"]})
    [tool] = tools_of([{"name": "t", "parameters": {"properties": {"x": {"pattern": "^x+$"}}}}])
    assert {seen.call(tool, rng).arguments.get("x", "xx") for _ in range(30)} == {"xx"}
    day = {"type": "string", "description": "In the form DD/MM/YYYY."}
    assert value_of({}, day, "start", rng)[2:6:3] == "//"
    assert value_of({}, {"type": "string"}, "departure_city", rng).istitle()
    assert examples_in("Unit, e.g. 'km' or \"mi\". The king's 'own'.") == ("km", "mi")
    assert examples_in("Such as the one that is nearest to you.") == ()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tools": []}, NoTools("tools")),
        ({"optional": ["nope"]}, NoArgument("optional", 1, "nope", "irrigate", ARGUMENTS)),
        ({"accept": {"nope": [1]}}, NoArgument("accept", 1, "nope", "irrigate", ARGUMENTS)),
        ({"accept": {"minutes": ["ten"]}}, WrongAccept(1, "minutes", "ten", "irrigate")),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
         Because("message 1 of the user has an image or file and no text")),
        ({"content": " "}, Because("message 1 of the user is empty")),
    ],
)  # fmt: skip
def test_what_no_row_should_say_is_refused(more: dict[str, Any], why: Reason) -> None:
    call = {
        "name": "irrigate",
        "arguments": {"bed": "B1", "minutes": 5},
        "accept": {"minutes": [6]},
    }
    call |= {key: value for key, value in more.items() if key in ("optional", "accept")}
    line = {
        "messages": [{"role": "user", "content": more.get("content", "water B1 for 5")}],
        "tools": more.get("tools", [IRRIGATE]),
        "calls": [call] if more.get("tools", True) else [],
    }
    names = Names("question", "messages", "tools", "calls")
    assert row_of(line, names) == why


def test_draws_of_many_tools_are_counted_and_cut_short() -> None:
    draws = Draws()
    for k in range(30):
        for _ in range(40 - k):
            draws.miss([f"t{k}"], NotDrawn(NoDraw.NOT_READ))
    draws.n_made["t0"] += 1
    counts = draws.by_tool()
    assert len(counts) == 21
    assert sum(counts.values()) == draws.in_vain.total()
    never = draws.never()
    assert never is not None and never.n_tools == 30
    assert [*never.reasons] == [f"t{k}" for k in range(1, 30)]
    assert "; and 9 more. Give examples" in str(never)
