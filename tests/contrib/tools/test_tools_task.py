"""A file of tool calls as a task: rows, slices, scores, and requests made from schemas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.logs.words import SecretsReplaced
from stratos.contrib.tools.signatures import tools_in
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.contrib.tools.words import UnknownTool
from stratos.evaluate.metrics import field_shares
from stratos.tasks.dedup.copies import HeldOut
from stratos.tasks.words import Unreadable

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Gets the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"], "default": "C"}},
        "required": ["city"],
    },
}
TIMER: dict[str, Any] = {
    "name": "set_timer",
    "description": "Set a timer.",
    "parameters": {"properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]},
}


def rows(n: int) -> list[dict[str, Any]]:
    cities = ["Rome", "Oslo", "Lima", "Quito", "Accra", "Delhi", "Bonn"]
    made: list[dict[str, Any]] = []
    for k in range(n):
        city, m = cities[k % 7], k + 1
        weather = {"name": "weather", "arguments": {"city": city}}
        timer = {"name": "set_timer", "arguments": {"minutes": m}}
        made += [
            {"question": f"How is {city} on day {k}?", "tools": [WEATHER], "calls": [weather]},
            {"question": f"Wake me in {m} minutes", "tools": [WEATHER, TIMER], "calls": [timer]},
            {
                "messages": [
                    {"role": "system", "content": f"Today is {k}."},
                    {"role": "user", "content": f"Weather in {city}, and a timer for {m}."},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "function": {
                                    "name": c["name"],
                                    "arguments": json.dumps(c["arguments"]),
                                }
                            }
                            for c in (weather, timer)
                        ],
                    },
                ],
                "tools": [{"type": "function", "function": one} for one in (WEATHER, TIMER)],
            },
            {"question": f"Tell me joke {k}", "tools": [TIMER], "calls": []},
        ]
    return made


def write(path: Path, some: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> ToolsTask:
    return ToolsTask(write(tmp_path / "calls.jsonl", rows(60)))


def test_rows_have_slices_and_scores(task: ToolsTask) -> None:
    items = [*task.items("train", 1000), *(task.held_out() or ())]
    assert Counter(item.slice for item in items) == dict.fromkeys(task.slices, 60)
    assert task.refusals() == []
    sizes = ", ".join(f"60 {name}" for name in task.slices)
    assert any(sizes in note for note in task.notes)
    for item in items:
        assert task.score(item.answer, item).exact == 1
        assert task.score(f"Answer: {item.answer}", item).exact == 1
        assert task.verify(item) is None
        assert task.score("It is fine.", item).parsed is False
    by_slice = {item.slice: item for item in items}
    assert task.score("[]", by_slice["irrelevant"]).exact == 1
    assert task.score("[]", by_slice["simple"]).exact == 0
    parallel = by_slice["parallel"]
    turned = json.dumps(json.loads(parallel.answer)[::-1])
    assert task.score(turned, parallel).exact == 1
    assert task.normal(turned) == task.normal(parallel.answer)
    found = field_shares(task, [parallel] * 2, [turned, '[{"name": "x", "arguments": {}}]'])
    assert {name: one.mean for name, one in found.items()} == {
        "(valid)": 0.5, "tools": 0.5, "arguments": 0.5
    }  # fmt: skip
    told = task.messages(parallel)
    assert told[0]["content"].startswith("Call the tools")
    assert told[-1]["content"] == parallel.question
    assert task.answer_schema(parallel) is task.answer_schema(parallel)


def test_what_is_wrong_with_a_row_is_said_by_its_line(tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    user = {"role": "user", "content": "a"}
    bad = [
        {"question": "a", "calls": [call]},
        {"question": "a", "tools": "x", "calls": []},
        {"question": "a", "tools": [WEATHER], "calls": [{"name": "weather", "arguments": {}}]},
        {"question": "a", "tools": [TIMER], "calls": [call]},
        {"question": "a", "tools": [WEATHER], "calls": [{"name": "weather", "arguments": "{"}]},
        {"messages": [user, {"role": "tool", "content": "x"}], "tools": [WEATHER], "calls": []},
        {"messages": [{"role": "robot"}], "tools": [WEATHER], "calls": []},
        {"tools": [WEATHER], "calls": []},
        {"question": "a", "tools": [WEATHER]},
    ]
    path = write(tmp_path / "a.jsonl", [*bad, *rows(30)])
    with pytest.raises(ValueError) as caught:
        ToolsTask(path)
    for said in (
        "line 1: has no field tools or functions or function; it has question, calls",
        "line 2: tools is x, which is no JSON",
        "line 3: call 1 of weather: $: 'city' is a required property",
        "line 4: call 1 is of weather, which is no tool of the row; it has set_timer",
        "line 5: the arguments of call 1 are {, which is no JSON",
        "line 6: message 2 is the result of a tool that no message called",
        "line 7: message 1 has the role robot, not one of system",
        "line 8: has no question or request or query or prompt or messages",
        "line 9: has no calls or tool_calls or answer",
    ):
        assert said in str(caught.value)
    task = ToolsTask(path, on_error="skip")
    assert task.left_out == {"broken line": 8, "row without an answer": 1}


def test_other_right_values_are_kept_with_the_row_and_not_learnt(tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": {"city": "Rome"}, "accept": {"city": ["Roma"]}}
    some = [
        {**row, "calls": [call]} if "Rome" in row.get("question", "") else row for row in rows(60)
    ]
    task = ToolsTask(write(tmp_path / "a.jsonl", some))
    items = [*task.items("train", 999), *task.held_out()]
    item = next(one for one in items if '"Rome"' in one.answer and one.slice == "simple")
    assert "Roma" not in item.answer
    roma = [{"name": "weather", "arguments": {"city": "Roma"}}]
    assert task.score(json.dumps(roma), item).exact == 1


def test_injection_draws_calls_whose_requests_are_read_back(task: ToolsTask) -> None:
    own = task.n_train
    made = list(task.reverse(own + 300))[own:]
    assert 200 < len(made) <= 300
    assert {item.family for item in made}.isdisjoint(item.family for item in task.held_out())
    assert list(task.reverse(own + 300))[own:] == made
    assert [i.id for i in task.reverse(own + 300, seed=1)][own:] != [i.id for i in made]
    counts = Counter(item.slice for item in made)
    assert all(counts[name] > 15 for name in task.slices)
    for item in made:
        assert task.verify(item) is None
        said = task.own_words(item.question)
        for call in json.loads(item.answer):
            plain = said.replace(",", "")  # 1,500 is 1500
            assert all(str(value) in plain for value in call["arguments"].values())
    # The wording of the rows is used with other values.
    assert any(task.own_words(item.question).startswith("Wake me in ") for item in made)
    assert list(task.reverse(own - 5)) == task.items("train", own - 5)
    without = ToolsTask(task.path, n_drawn=0)
    assert len(list(without.reverse(9999))) == own


def test_injection_from_schemas_learns_no_request_and_no_value_of_a_row(task: ToolsTask) -> None:
    alone = ToolsTask(task.path, drawn_from="schemas", n_drawn=300)
    made = list(alone.reverse(9999))
    assert 200 < len(made) <= 300
    assert {item.id for item in made}.isdisjoint(item.id for item in task.items("train", 999))
    assert all(alone.verify(item) is None for item in made)
    counts = Counter(item.slice for item in made)
    assert all(counts[name] > 15 for name in task.slices)
    said = [task.own_words(item.question) for item in made]
    assert not any(one.startswith(("Wake me", "How is")) for one in said)
    assert alone.n_made == 300 - alone.n_train
    for setting, error in (
        ({"drawn_from": "air"}, "drawn_from=air: it is rows or schemas"),
        ({"drawn_from": "schemas", "n_drawn": 0}, "learns from requests that are drawn"),
    ):
        with pytest.raises(ValueError, match=error):
            ToolsTask(task.path, **setting)


def test_tools_in_common_are_no_leak_and_requests_in_common_are(task: ToolsTask) -> None:
    held = HeldOut(task.held_out(), task.items("train", 1000), task.own_words)
    assert all(held.leak(item) is None for item in task.items("train", 1000))
    [item] = task.items("test", 1, slice="simple")
    assert held.leak(item) == "held out (exact)"
    assert tools_in(item.question)


@pytest.mark.parametrize(
    "key",
    ["AIzaSyA-abcdefghijklmnopqrstuvwx", "glpat-abcdefghijklmnop1234", "sk-proj-" + "a1" * 20],
)
def test_keys_of_rows_reach_no_item_and_no_message(tmp_path: Path, key: str) -> None:
    more = rows(60)
    calls = [{"name": "weather", "arguments": {"city": "Rome"}, "accept": {"city": [f"x\n{key}"]}}]
    more.append({"question": "Rome, or as I said?", "tools": more[0]["tools"], "calls": calls})
    task = ToolsTask(write(tmp_path / "a.jsonl", more))
    items = [one for split in ("train", "validation", "test") for one in task.items(split, 99)]  # type: ignore[arg-type]
    assert any("***" in str(one.origin) for one in items)
    assert not any(key in str(one) for one in items)
    assert str(SecretsReplaced(1)) in task.notes
    wrong = [
        {**calls[0], "arguments": f'{{"city": "{key}'}, {**calls[0], "arguments": {"city": [key]}},
        {**calls[0], "name": key}, f'{{"name": "{key}',
    ]  # fmt: skip
    for one in wrong:
        bad = {
            "question": "x",
            "tools": more[0]["tools"],
            "calls": [one] if isinstance(one, dict) else one,
        }
        with pytest.raises(ValueError) as error:
            ToolsTask(write(tmp_path / "b.jsonl", [*more, bad]))
        assert "***" in str(error.value) and key[:12] not in str(error.value)


def test_calls_that_no_tool_takes_are_refuted(task: ToolsTask) -> None:
    item = next(one for one in task.items("validation", 99) if one.slice == "simple")
    assert task.refute(item, item.answer) is None
    [tool] = tools_in(item.question)
    unknown = task.refute(item, '[{"name": "sub", "arguments": {}}]')
    assert unknown == UnknownTool(1, "sub", (tool.name,))
    assert task.refute(item, "well") == task.refute(item, " \n") == Unreadable()
