"""Logs of requests with tools as a task of calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.logs.command import lines_of, survey
from stratos.contrib.logs.words import OtherWorkloads, SecretsReplaced
from stratos.contrib.tools.signatures import request_in
from stratos.contrib.tools.tool_rows import NO_TOOLS, TEXT_AFTER_RESULTS
from stratos.contrib.tools.tools_task import ToolsTask

CITIES = [f"{one}{two}" for one in ("Ro", "Be", "Pa", "Li", "Ma") for two in ("me", "rn", "lo")]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
ANTHROPIC = [{"name": "weather", "input_schema": SCHEMA}]
SYSTEM = "You help with the weather of any city in the world by calling the tools you have."


def chat(messages: list[Any], said: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, **said}
    return {
        "created": 1_760_000_000,
        "request": {"model": "gpt-4o", "messages": messages, "tools": OPENAI, **more},
        "response": {"choices": [{"finish_reason": "stop", "message": message}]},
    }


def calls(city: str, arguments: Any = None) -> dict[str, Any]:
    found = json.dumps({"city": city}) if arguments is None else arguments
    function = {"name": "weather", "arguments": found}
    return {"tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def asked(city: str, k: int = 0) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"How warm is it in {city} on day {k}?"},
    ]


def completions(n: int) -> list[dict[str, Any]]:
    return [chat(asked(CITIES[k % 15], k), calls(CITIES[k % 15])) for k in range(n)]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return str(path)


def answers(task: ToolsTask) -> dict[str, str]:
    splits = ("train", "validation", "test")
    items = [item for split in splits for item in task.items(split, 999)]  # type: ignore[arg-type]
    return {item.question: item.answer for item in items}


def test_each_format_of_a_log_gives_the_same_calls(tmp_path: Path) -> None:
    anthropic = {
        "request": {
            "model": "claude",
            "system": SYSTEM,
            "messages": asked("Oslo", 1)[1:],
            "tools": ANTHROPIC,
        },
        "response": {
            "stop_reason": "tool_use",
            "content": [{"type": "tool_use", "id": "t", "name": "weather",
                         "input": {"city": "Oslo"}}],
        },
    }  # fmt: skip
    responses = {
        "request": {"instructions": SYSTEM, "input": "How warm is it in Oslo on day 2?",
                    "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}]},
        "response": {"output": [{"type": "function_call", "call_id": "t", "name": "weather",
                                 "arguments": '{"city": "Oslo"}'}]},
    }  # fmt: skip
    litellm = {
        "call_type": "completion",
        "messages": asked("Oslo", 3),
        "optional_params": {"tools": OPENAI},
        "response": {"choices": [{"message": {"role": "assistant", **calls("Oslo")}}]},
    }
    tools = json.dumps(OPENAI)
    payload = {
        "call_type": "acompletion",
        "messages": asked("Oslo", 5),
        "model_parameters": {"temperature": 0, "tools": tools},
        "response": {"choices": [{"message": {"role": "assistant", **calls("Oslo")}}]},
    }
    spend = [
        {
            "call_type": "acompletion",
            "messages": "{}",
            "proxy_server_request": json.dumps(sent),
            "response": json.dumps(payload["response"]),
        }
        for sent in (
            {"model": "gpt-4o", "messages": asked("Oslo", 6), "tools": OPENAI},
            {"url": "https://x.test", "body": {"messages": asked("Oslo", 7), "tools": OPENAI}},
        )
    ]
    plain = {"messages": [*asked("Oslo", 4), {"role": "assistant", **calls("Oslo")}],
             "tools": OPENAI}  # fmt: skip
    rows = [*completions(40), anthropic, responses, litellm, payload, *spend, plain]
    task = ToolsTask(write(tmp_path / "a.jsonl", rows))
    found = answers(task)
    assert len(found) == 47
    oslo = {question: answer for question, answer in found.items() if "Oslo" in question}
    wanted = '[{"name": "weather", "arguments": {"city": "Oslo"}}]'
    assert len(oslo) == 7 and set(oslo.values()) == {wanted}
    heads = {question.partition("\n\n")[0] for question in oslo}
    assert len(heads) == 1, "tools are written alike"
    assert any("46 were logged with their responses" in one for one in task.notes)


def test_text_is_no_call_but_not_behind_results(tmp_path: Path) -> None:
    said = {"content": "I only know the weather."}
    history = [*asked("Rome"), {"role": "assistant", **calls("Rome")},
               {"role": "tool", "tool_call_id": "c1", "content": "21 C"}]  # fmt: skip
    again = [*history, {"role": "user", "content": "And in Bern?"}]
    rows = [
        *completions(40),
        chat([asked("x")[0], {"role": "user", "content": "Who are you?"}], said),
        chat(history, {"content": "It is 21 degrees."}),
        chat(again, calls("Bern")),
        chat(asked("Oslo"), {"content": "Cold."}, tools=None),
    ]
    task = ToolsTask(write(tmp_path / "a.jsonl", rows))
    found = answers(task)
    [told] = [answer for question, answer in found.items() if "Who are you?" in question]
    assert told == "[]"
    [question] = [one for one in found if "And in Bern?" in one]
    assert '"role": "tool", "content": "21 C"' in question and '"tool_calls"' in question
    assert task.left_out == {TEXT_AFTER_RESULTS: 1, NO_TOOLS: 1}
    assert f"Left out of {task.path}: {TEXT_AFTER_RESULTS}: 1; {NO_TOOLS}: 1." in task.notes


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (chat(asked("Rome"), calls("Rome", "{city")), "arguments that are no JSON"),
        (chat([*asked("Rome"), {"role": "tool", "content": "1"}], calls("Rome")),
         "the result of a tool that was not called"),
        (chat([*asked("Rome"), {"role": "assistant", "content": "Hm."}], calls("Rome")),
         "roles out of order"),
        (chat(asked("Rome"), calls("Rome", '{"town": "Rome"}')), "town"),
        (chat(asked("Rome"), {"tool_calls": [{"function": {"name": "rm", "arguments": "{}"}}]}),
         "rm"),
        (chat(asked("Rome"), calls("Rome"), tools=[{"function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"$ref": "https://x.test/a"}}}}}]),
         "names another document"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_line(row: Any, why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*completions(40), row])
    with pytest.raises(ValueError, match="line 41") as error:
        ToolsTask(path)
    assert why in str(error.value)
    assert ToolsTask(path, on_error="skip").left_out == {"broken line": 1}


def test_keys_in_a_log_reach_nothing(tmp_path: Path) -> None:
    key = "sk-proj-" + "a1B2c3D4" * 6
    rows = [*completions(40), chat(asked(f"Rome, my key is {key}"), calls(key))]
    task = ToolsTask(write(tmp_path / "a.jsonl", rows))
    assert not [one for pair in answers(task).items() for one in pair if key in one]
    assert any("are replaced by ***" in one for one in task.notes)


@pytest.mark.parametrize("before", ["\n", "\t", "密钥是", "MY_"])
def test_no_escape_hides_a_key_in_a_log(tmp_path: Path, before: str) -> None:
    key = "sk-proj-" + "a1B2c3D4" * 6
    said = [
        *asked("Paris"),
        {"role": "assistant", "content": "And?"},
        {"role": "user", "content": f"{before}{key}"},
    ]
    rows = [
        *completions(40),
        chat(said, calls("Rome")),
        chat(asked("Oslo"), calls(f"{before}{key}")),
    ]
    task = ToolsTask(write(tmp_path / "a.jsonl", rows))
    assert not [one for pair in answers(task).items() for one in pair if key in one]
    assert str(SecretsReplaced(2)) in task.notes


def test_a_log_without_calls_says_what_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [chat(asked("Rome", k), {"content": "?"}, tools=None)
                                        for k in range(60)])  # fmt: skip
    with pytest.raises(ValueError, match="60 requests without tools") as error:
        ToolsTask(path)
    assert f"stratos logs {path}" in str(error.value)


def test_the_survey_names_the_command(tmp_path: Path) -> None:
    others = [chat([{"role": "user", "content": f"Tell me story number {k} of the sea, please."}],
                   {"content": "Once."}, tools=None) for k in range(60)]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [*completions(60), *others])
    lines = [*lines_of(survey(path), None)]
    [line] = [one for one in lines if "+task=tools" in one]
    assert any("tools: offered in 60 rows" in one for one in lines)
    workload = line.rpartition("task.workload=")[2]
    task = ToolsTask(path, workload=workload)
    assert len(answers(task)) == 60 and task.left_out == {}
    assert str(OtherWorkloads(path, workload, 60)) in task.notes


def by_split(task: ToolsTask) -> dict[str, set[str]]:
    splits = ("train", "validation", "test")
    return {one: {item.question for item in task.items(one, 999)} for one in splits}  # type: ignore[arg-type]


def grown(n: int, turns: int) -> list[dict[str, Any]]:
    """Return conversations, each logged as requests that grow."""
    rows = []
    for k in range(n):
        history: list[dict[str, Any]] = []
        for turn in range(turns):
            city = CITIES[(k + turn) % 15]
            history.append({"role": "user", "content": f"And {city} on day {k}, {turn}?"})
            rows.append(chat(list(history), calls(city)))
            result = {"role": "tool", "tool_call_id": "c1", "content": "warm"}
            history += [{"role": "assistant", "content": None, **calls(city)}, result]
    return rows


def test_requests_that_continue_each_other_are_of_one_split(tmp_path: Path) -> None:
    found = by_split(ToolsTask(write(tmp_path / "a.jsonl", grown(40, 4))))
    days = {
        split: {k for k in range(40) if any(f"on day {k}," in one for one in some)}
        for split, some in found.items()
    }
    assert sum(map(len, days.values())) == 40 and sum(map(len, found.values())) == 160


def test_requests_of_one_session_are_of_one_split(tmp_path: Path) -> None:
    rows = [{**one, "session_id": k % 20} for k, one in enumerate(completions(200))]
    found = by_split(ToolsTask(write(tmp_path / "a.jsonl", rows)))
    sessions = {
        split: {k % 20 for k in range(200) if any(f"day {k}?" in one for one in some)}
        for split, some in found.items()
    }
    assert sum(map(len, sessions.values())) == 20


def test_tools_that_differ_make_no_other_request(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Weather in {CITIES[k % 15]} on {k % 10}?",
            "tools": [{"name": "weather", "description": f"Day {k}.", "parameters": SCHEMA}],
            "calls": [{"name": "weather", "arguments": {"city": CITIES[k % 15]}}],
        }
        for k in range(300)
    ]
    task = ToolsTask(write(tmp_path / "a.jsonl", rows))
    found = by_split(task)
    requests = [{request_in(one) for one in some} for some in found.values()]
    assert sum(map(len, requests)) == len(set().union(*requests)) == 30
    assert "whatever their tools" in task.notes[0]
    [held] = task.items("test", 1)
    again = held.question.replace("Day ", "The day is ")
    assert task.content.requests.family(again) == held.family
