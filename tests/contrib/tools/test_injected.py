"""Injection from schemas: objects are said by their fields, and what is never drawn is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.tools import ToolsTask
from stratos.contrib.tools.calls import Call, read
from stratos.contrib.tools.drawing import CannotDrawError
from stratos.contrib.tools.injected import Draws
from stratos.contrib.tools.plain_requests import write
from stratos.contrib.tools.request_templates import Requests, flat_of, templates_of
from stratos.contrib.tools.signatures import request_in, tools_of
from stratos.contrib.tools.tool_rows import Names, row_of
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


def task_of(tmp_path: Path, tools: list[dict[str, Any]]) -> ToolsTask:
    path = tmp_path / "rows.jsonl"
    call = {"name": "read_sensor", "arguments": {"kind": "co2"}}
    rows = [{"question": f"co2 of room {k}?", "tools": tools, "calls": [call]} for k in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ToolsTask(path=str(path), drawn_from="schemas", n_drawn=300)


def test_objects_are_drawn_and_said_by_their_fields(tmp_path: Path) -> None:
    task = task_of(tmp_path, [SCHEDULE, SENSOR])
    items = list(task.reverse(300))
    who = [
        (call.arguments["who"], request_in(item.question))
        for item in items
        for call in read(item.answer) or ()
        if call.name == "schedule"
    ]
    assert len(who) > 80
    assert {key for one, _ in who for key in one} == {"name", "phone", "home"}
    assert all(one["name"] in request for one, request in who)
    assert not any("None" in request_in(item.question) for item in items)
    assert all(item.answer == "[]" or task.verify(item) is None for item in items)
    assert task.never_drawn is None


def test_a_row_with_an_object_gives_a_template() -> None:
    [tool] = tools_of([SCHEDULE])
    call = Call("schedule", {"when": "2027-05-01", "who": {"name": "Olga"}})
    templates = templates_of([("book Olga on 2027-05-01", call, tool)])
    found = Requests(templates).read("book Tim Brown on 2027-06-02", [tool])
    wanted = {"when": "2027-06-02", "who": {"name": "Tim Brown"}}
    assert [[one.arguments for one in some] for some in found] == [[wanted]]


def test_a_call_is_the_same_with_and_without_fields() -> None:
    [tool] = tools_of([SCHEDULE])
    flat = flat_of(tool)
    assert list(flat.tool.properties) == ["when", "who_name", "who_phone", "who_home_city"]
    assert flat.tool.required == ("when", "who_name")
    # Keys come back in the order of the schema, in which they are learnt.
    who = {"home": {"city": "Rome"}, "name": "Olga"}
    call = Call("schedule", {"who": who, "when": "2027-05-01"})
    again = flat.nested(flat.call(call))
    in_order = {"when": "2027-05-01", "who": {"name": "Olga", "home": {"city": "Rome"}}}
    assert json.dumps(again.arguments) == json.dumps(in_order)
    with pytest.raises(CannotDrawError, match="fields that its schema does not name"):
        flat.call(Call("schedule", {"when": "2027-05-01", "who": {"name": "O", "age": 3}}))
    # Two arguments that would have one name, and tools without objects, stay as they are.
    double = {"who_name": {"type": "string"}, "who": SCHEDULE["parameters"]["$defs"]["person"]}
    [same] = tools_of([{"name": "x", "parameters": {"properties": double}}])
    assert flat_of(same).tool == same
    [sensor] = tools_of([SENSOR])
    assert flat_of(sensor).tool == sensor


def test_what_cannot_be_drawn_or_said_is_told_by_tool(tmp_path: Path) -> None:
    task = task_of(tmp_path, [SCHEDULE, IRRIGATE, SENSOR])
    items = list(task.reverse(300))
    assert {call.name for item in items for call in read(item.answer) or ()} == {
        "schedule",
        "read_sensor",
    }
    reason = NotDrawn(NoDraw.NO_EXAMPLES, "bed", "a pattern")
    assert task.drawn_in_vain[f"irrigate: {reason}"] > 20
    assert task.never_drawn == NeverDrawn({"irrigate": reason}, n_tools=3)
    # An example of a description is a value.
    bed = {**IRRIGATE["parameters"]["properties"]["bed"], "description": "A bed, such as 'B12'"}
    properties = {**IRRIGATE["parameters"]["properties"], "bed": bed}
    told = {**IRRIGATE, "parameters": {**IRRIGATE["parameters"], "properties": properties}}
    task = task_of(tmp_path, [told, SENSOR])
    assert any('"B12"' in item.answer for item in task.reverse(100))
    [tool] = tools_of([SENSOR])
    with pytest.raises(CannotDrawError) as caught:
        write(Call("read_sensor", {"kind": None}), tool, random.Random(0))
    assert caught.value.reason == NotDrawn(NoDraw.NOT_SAYABLE, "kind")


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
