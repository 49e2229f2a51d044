"""Conversations of an agent as a task: every turn of the model is learnt, in each form of a log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import agent_traces
import pytest
from agent_traces import FORMS, TOOLS, call, conversation, lines, result, said, user

from stratos.contrib.logs.chat_task import ChatTask
from stratos.contrib.logs.inferred import infer_tools
from stratos.contrib.logs.log_task import LogTask
from stratos.contrib.logs.row_formats import trace_of_messages
from stratos.contrib.logs.words import OnlyCalls
from stratos.contrib.tools.signatures import LONGEST_RESULT, messages_in, question_of, tools_in
from stratos.contrib.tools.tool_rows import TEXT, Names, ToolRowReader
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.core.errors import ConfigError
from stratos.evaluate.baselines import free_baselines
from stratos.probe.look.columns import chosen
from stratos.tasks.base import Item
from stratos.tasks.files import read_records

N = 120
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(form: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    file.write_text(lines(form, N))
    return str(file)


@pytest.fixture(scope="module")
def task(path: str) -> ToolsTask:
    return ToolsTask(path, compares_words=False)


def items(task: ToolsTask) -> dict[str, list[Item]]:
    return {split: task.items(split, 9999) for split in SPLITS}  # type: ignore[arg-type]


def written(tmp_path: Path, *rows: Any) -> str:
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(file)


def turns_of(item: Item) -> list[str]:
    """Return what was said before a turn, and the turn, without tools and system prompt."""
    messages = [one for one in messages_in(item.question) if one["role"] != "system"]
    return [*(json.dumps(one) for one in messages), item.answer]


def test_every_form_gives_the_same_turns_each_once(task: ToolsTask, form: str) -> None:
    found = {tuple(turns_of(one)) for some in items(task).values() for one in some}
    wanted = set()
    for k in range(N):
        before: list[str] = []
        for message in conversation(k)[1:]:
            calls = [
                {"name": one["function"]["name"],
                 "arguments": json.loads(one["function"]["arguments"])}
                for one in message.get("tool_calls", ())
            ]  # fmt: skip
            if message["role"] == "assistant":
                wanted.add((*before, json.dumps(calls) if calls else message["content"]))
            plain = {"role": message["role"], "content": message["content"] or ""}
            before.append(json.dumps({**plain, "tool_calls": calls} if calls else plain))
    held = {turns for turns in wanted if turns[-1].startswith("[")} - found
    assert found == wanted, held
    assert sum(map(len, items(task).values())) == len(wanted)


def test_no_conversation_has_turns_in_two_splits(task: ToolsTask) -> None:
    codes = {
        split: {code for one in some for code in range(N) if f"R{code:04d}" in one.question}
        for split, some in items(task).items()
    }
    assert all(codes.values())
    assert len(set().union(*codes.values())) == sum(map(len, codes.values()))


def test_tools_are_those_of_the_request_or_of_the_calls(task: ToolsTask, form: str) -> None:
    [item] = task.items("test", 1)
    found = {tool.name: tool for tool in tools_in(item.question)}
    assert set(found) == {one["function"]["name"] for one in TOOLS}
    for one in TOOLS:
        parameters = one["function"]["parameters"]
        assert set(found[one["function"]["name"]].required) == set(parameters["required"])
    assert found["reserve_table"].properties["people"] == {"type": "integer"}
    are_inferred = form in ("without tools", "wrapped", "langgraph")
    assert any("inferred from the calls" in note for note in task.notes) == are_inferred


def test_look_names_the_task(path: str) -> None:
    row = json.loads(Path(path).read_text().splitlines()[0])
    values = {name: [json.dumps(value) if not isinstance(value, str) else value]
              for name, value in row.items()}  # fmt: skip
    with pytest.raises(ConfigError, match=r"stratos \+task=tools task\.path="):
        chosen(path, values, None, None)


def test_a_text_is_right_by_its_words_and_a_call_in_its_place_is_wrong(task: ToolsTask) -> None:
    texts = task.items("test", 5, slice=TEXT)
    assert len(texts) == 5
    for item in texts:
        assert task.score(item.answer, item).exact == 1
        assert task.field_scores(item, task.parse(item.answer)) == {"tools": 1.0, "text": 1.0}
        called = '[{"name": "cancel_reservation", "arguments": {"code": "R1"}}]'
        assert task.score(called, item).exact == 0
        assert task.field_scores(item, task.parse(called))["tools"] == 0
        assert task.score("No idea.", item).exact == 0
        assert task.field_scores(item, task.parse("No idea."))["tools"] == 1
        assert task.verify(item) is None
    [call] = task.items("test", 1, slice="multiple")
    assert task.field_scores(call, task.parse("No idea."))["tools"] == 0
    assert task.score("No idea.", call).exact == 0


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        ("It is on hold for you, Mia, under R7.", True),
        ("Mia, it is on hold for you under R7 at Dock.", False),
        ("It is on hold for you, Mia, under R8.", False),
        ("Great, it is on hold for you, Mia's code is R7.", True),
    ],
)
def test_a_text_is_wrong_with_a_number_or_a_name_of_another_conversation(
    task: ToolsTask, given: str, is_right: bool
) -> None:
    item = replace(task.items("test", 1, slice=TEXT)[0], answer="It is on hold under R7, Mia.")
    assert task.score(given, item).exact == is_right


def test_numbers_of_a_text_are_compared_by_value(task: ToolsTask) -> None:
    item = replace(task.items("test", 1, slice=TEXT)[0], answer="There is a fine of €12.50 due.")
    given = {text: task.score(text, item).exact for text in (
        "There is a fine of €12.5 due.", "There is a fine of €12.51 due.")}  # fmt: skip
    assert [*given.values()] == [1, 0]


def test_tools_that_are_given_back_replace_the_inferred_ones(tmp_path: Path) -> None:
    path = written(tmp_path, *({"messages": conversation(k)} for k in range(60)))
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS))
    task = ToolsTask(path, tools_path=str(tools))
    [item] = task.items("test", 1)
    assert [tool.description for tool in tools_in(item.question)] == [
        one["function"]["description"] for one in TOOLS
    ]
    assert not any("inferred" in note for note in task.notes)
    for text in ("{", "[]"):
        tools.write_text(text)
        with pytest.raises(ValueError, match="tools_path"):
            ToolsTask(path, tools_path=str(tools))


def test_calls_without_any_argument_are_read(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": None,
              "tool_calls": [{"function": {"name": "time", "arguments": "{}"}}]}  # fmt: skip
    rows = ({"messages": [user(f"time {k}"), answer]} for k in range(60))
    assert len(ToolsTask(written(tmp_path, *rows)).items("train", 99)) > 20


def test_arguments_that_are_no_object_break_their_own_line_alone(tmp_path: Path) -> None:
    rows = [{"messages": conversation(k)} for k in range(60)]
    broken = json.loads(json.dumps(rows[0]))
    made = next(message for message in broken["messages"] if message.get("tool_calls"))
    made["tool_calls"][0]["function"]["arguments"] = "[1]"
    path = written(tmp_path, *rows[1:], broken)
    task = ToolsTask(path, answers="trust", on_error="skip")
    assert task.left_out["broken line"] == 1
    assert sum(map(len, items(task).values())) > 60


def test_half_a_character_in_a_message_is_read(tmp_path: Path) -> None:
    rows = [{"messages": [*conversation(k)]} for k in range(60)]
    rows[0]["messages"].append({"role": "user", "content": "thanks \ud83d"})
    rows[0]["messages"].append({"role": "assistant", "content": "Sure \ud83d"})
    assert items(ToolsTask(written(tmp_path, *rows)))["test"]


def test_a_text_alone_among_calls_is_no_call_where_the_user_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, *({"messages": conversation(k), "tools": TOOLS} for k in range(60)))
    task = ToolsTask(path, texts="no_call", compares_words=False)
    assert TEXT not in task.slices
    assert {one.answer[:1] for some in items(task).values() for one in some} == {"["}
    assert task.answer_schema(task.items("test", 1)[0]) is not None
    assert ToolsTask(path).answer_schema(task.items("test", 1)[0]) is None


def only_calls(k: int) -> dict[str, Any]:
    messages = [
        call(9, "reply", text=one["content"])
        if one["role"] == "assistant" and one["content"] else one for one in conversation(k)
    ]  # fmt: skip
    return {"context": json.dumps(messages)}


@pytest.mark.parametrize("other", [ChatTask, LogTask])
def test_other_tasks_name_the_one_for_calls(other: type, tmp_path: Path) -> None:
    path = written(tmp_path, *map(only_calls, range(60)))
    with pytest.raises(ValueError, match="every answer") as error:
        other(path)
    assert str(OnlyCalls(path, 60, path)) in str(error.value)
    task = ToolsTask(path, compares_words=False)
    assert task.slices == ("simple", "multiple", "parallel", "irrelevant")
    assert task.answer_schema(task.items("test", 1)[0]) is not None, "decoding by grammar"


def test_a_long_result_is_cut() -> None:
    messages = [user("Where?"), {"role": "tool", "content": "x" * 5000}, said("y" * 5000)]
    read = messages_in(question_of((), messages))
    assert [len(one["content"]) for one in read] == [6, LONGEST_RESULT + 1, 5000]


def test_a_frequent_first_request_with_several_answers_is_learnt(tmp_path: Path) -> None:
    rows = []
    for k in range(60):
        first = said("Where?") if k % 3 == 0 else call(1, "find_restaurant", city="Oslo")
        rest = [] if k % 3 == 0 else [result(1, names=[f"Place {k}"])]
        rows.append(
            {
                "messages": [
                    user("Hello"),
                    first,
                    *rest,
                    user(f"Table {k} at {k % 12}:00"),
                    call(2, "reserve_table", name=f"n{k}", time="1", people=k),
                ]
            }
        )
    task = ToolsTask(written(tmp_path, *rows), compares_words=False)
    hello = [one for some in items(task).values() for one in some if len(turns_of(one)) == 2]
    assert [one.answer for one in hello] == [
        '[{"name": "find_restaurant", "arguments": {"city": "Oslo"}}]'
    ]


def test_schemas_are_inferred_from_the_values() -> None:
    calls = [
        call(1, "book", people=k, price=k / 2 if k % 2 else k, day=["Mon", "Tue"][k % 2],
             name=f"n{k}", tags=["a", None][: k % 3], to={"city": "Oslo", "zip": k}
             | ({"note": "x"} if k == 3 else {}), **({"late": True} if k < 5 else {}))
        for k in range(30)
    ]  # fmt: skip
    trace = trace_of_messages({"messages": [user("x"), *calls]})
    assert trace is not None
    [tool] = infer_tools([trace.turns])
    schema = tool["function"]["parameters"]
    assert schema["required"] == ["people", "price", "day", "name", "tags", "to"]
    assert schema["properties"] == {
        "people": {"type": "integer"},
        "price": {"type": "number"},
        "day": {"type": "string", "enum": ["Mon", "Tue"]},
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": ["null", "string"]}},
        "to": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": "integer"},
                           "note": {"type": "string"}},
            "required": ["city", "zip"],
        },
        "late": {"type": "boolean"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.tool.definitions": json.dumps(TOOLS)},
        {f"llm.tools.{k}.tool.json_schema": json.dumps(one) for k, one in enumerate(TOOLS)},
        {f"llm.request.functions.{k}.{name}": json.dumps(value) if name == "parameters" else value
         for k, one in enumerate(TOOLS) for name, value in one["function"].items()},
    ],
)  # fmt: skip
def test_spans_tell_their_tools(attributes: dict[str, Any]) -> None:
    [span, *_] = agent_traces.spans(conversation(1))
    del span["attributes"]["gen_ai.tool.definitions"]
    trace = trace_of_messages({"attributes": {**span["attributes"], **attributes}})
    assert trace is not None
    named = [one.get("function", one) for one in trace.tools]
    assert named == [one["function"] for one in TOOLS]


def test_nothing_is_drawn_beside_conversations(task: ToolsTask) -> None:
    assert task.n_made == task.n_worded == 0
    assert len(list(task.reverse(9999))) == task.n_train


def test_the_notes_say_what_follows_a_call(task: ToolsTask) -> None:
    [note] = [note for note in task.notes if "What mostly follows" in note]
    n = len(task.items("validation", 9999))
    assert f"is right in {n} of {n} validation turns" in note, "these agents always do the same"


def test_what_mostly_follows_is_a_baseline_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, *({"messages": conversation(k), "tools": TOOLS} for k in range(60)))
    task = ToolsTask(path, compares_words=False)
    train, test = task.items("train", 9999), task.items("test", 9999)
    score = {each.score.role: each.score for each in free_baselines(task, train, test)}
    assert score["situation"].fields["tools"].mean == 1, "these agents always do the same"
    assert score["majority"].fields["tools"].mean < 1
    assert score["situation"].slice().f1 > score["majority"].slice().f1
    requests = written(tmp_path, *({"question": f"time in city {k}", "tools": [{"name": "time"}],
                                    "calls": [{"name": "time"}]} for k in range(60)))  # fmt: skip
    assert ToolsTask(requests).in_situation([], []) is None


def test_a_turn_is_answered_as_the_nearest_turn(task: ToolsTask) -> None:
    train, test = task.items("train", 9999), task.items("test", 9999)
    answers = task.lookup(train, test)
    scores = [task.field_scores(item, task.parse(answer))["tools"]
              for item, answer in zip(test, answers, strict=True)]  # fmt: skip
    assert sum(scores) == len(test)


def test_calls_that_langchain_writes_twice_are_one() -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    beside = {"name": "f", "args": {"a": 1}, "id": "t", "type": "tool_call"}
    messages = [{"type": "human", "content": "x"},
                {"type": "ai", "content": [block], "tool_calls": [beside]}]  # fmt: skip
    trace = trace_of_messages({"messages": messages})
    assert trace is not None and len(trace.turns[-1].calls) == 1


def test_tools_that_are_inferred_are_written_and_taken_again(tmp_path: Path) -> None:
    path = written(tmp_path, *map(only_calls, range(60)))
    tools = tmp_path / "tools.json"
    with pytest.raises(ValueError, match=r"tools\.json is new: it has the 4 tools"):
        ToolsTask(path, tools_path=str(tools))
    names = [tool["function"]["name"] for tool in json.loads(tools.read_text())]
    assert names == ["cancel_reservation", "find_restaurant", "reply", "reserve_table"]
    assert items(ToolsTask(path, tools_path=str(tools))) == items(ToolsTask(path))


def test_a_wrong_call_is_named_by_its_message(tmp_path: Path) -> None:
    wrong = conversation(3)
    wrong[2] = call(1, "find_restaurant", town="Oslo")
    rows = [*({"messages": conversation(k), "tools": TOOLS} for k in range(4, 60)),
            {"messages": wrong, "tools": TOOLS}]  # fmt: skip
    path = written(tmp_path, *rows)
    with pytest.raises(ValueError, match="line 57, message 3: call 1 of find_restaurant"):
        ToolsTask(path, answers="trust")
    trusting = ToolsTask(path, answers="trust", on_error="skip")
    assert trusting.left_out["broken line"] == 1


def test_turns_that_are_probably_wrong_are_left_out_and_counted(tmp_path: Path) -> None:
    wrong = conversation(3)
    wrong[2] = call(1, "find_restaurant", town="Oslo")
    rows = [*({"messages": conversation(k), "tools": TOOLS} for k in range(4, 60)),
            {"messages": wrong, "tools": TOOLS}]  # fmt: skip
    path = written(tmp_path, *rows)
    doubts, tested = tmp_path / "doubts.jsonl", tmp_path / "tested.jsonl"
    tested.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:20]))
    task, trusting = (
        ToolsTask(path, doubts_path=str(doubts)),
        ToolsTask(path, answers="trust", on_error="skip"),
    )
    [note] = [note for note in task.notes if "probably wrong" in note]
    assert "(the first: line 57, message 3)" in note
    assert f"{doubts} lists all of them" in note
    [doubt] = map(json.loads, doubts.read_text().splitlines())
    assert doubt["where"] == "line 57, message 3"
    assert doubt["why"] in note
    assert json.loads(doubt["answer"]) == [
        {"name": "find_restaurant", "arguments": {"town": "Oslo"}}
    ]
    apart = ToolsTask(path, test_path=str(tested))
    [note] = [note for note in apart.notes if "probably wrong" in note]
    assert f"Turns of {tested} are tested as they are" in note
    answers = [item.answer for some in items(task).values() for item in some]
    assert not any("town" in answer for answer in answers)
    assert sum(map(len, items(trusting).values())) == len(answers)


def test_a_file_of_requests_is_surveyed_by_its_first_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"question": "time", "tools": [{"name": "time"}], "calls": [{"name": "time"}]}
    reader = ToolRowReader(Names("question", "messages", "tools", "calls"))
    n_read = 0

    def counted(path: str) -> Any:
        nonlocal n_read
        for line in read_records(path):
            n_read += 1
            yield line

    monkeypatch.setattr("stratos.contrib.tools.tool_rows.read_records", counted)
    reader.survey(written(tmp_path, *[row] * 1200))
    assert n_read == 1000
    assert not reader.are_traces


def test_that_nobody_looked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratos.contrib.tools.tool_rows.MOST_CHECKED", 59)
    path = written(tmp_path, *({"messages": conversation(k), "tools": TOOLS} for k in range(60)))
    assert any("nobody looked" in note for note in ToolsTask(path).notes)
    assert not any("nobody looked" in note for note in ToolsTask(path, answers="trust").notes)


def test_names_that_drifted_are_learnt_as_the_usual_ones(tmp_path: Path) -> None:
    rows = [{"messages": conversation(k)} for k in range(150)]
    drifted = json.loads(json.dumps(rows[:20]).replace("find_restaurant", "findRestaurants"))
    task = ToolsTask(written(tmp_path, *rows[20:], *drifted), compares_words=False)
    assert any("were mapped to the usual ones" in note for note in task.notes)
    text = json.dumps([item.answer for some in items(task).values() for item in some])
    assert "find_restaurant" in text
    assert "findRestaurants" not in text


def test_intervals_count_conversations(task: ToolsTask) -> None:
    items = task.items("test", 9999)
    groups = task.groups_of(items)
    codes = [next((c for c in range(N) if f"R{c:04d}" in item.question), None) for item in items]
    of_codes = {code: {g for g, c in zip(groups, codes, strict=True) if c == code}
                for code in codes if code is not None}  # fmt: skip
    assert of_codes and all(len(some) == 1 for some in of_codes.values())
    assert len(set(groups)) < len(items) / 2


def test_conversations_without_any_call_are_those_of_another_task(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Is room {k} free?"), said(f"Room {k} is free."),
                          user("And tomorrow?"), said("No, it is not.")], "tools": TOOLS}
            for k in range(40)]  # fmt: skip
    with pytest.raises(ValueError, match=r"no answer calls a tool.*\+task=chat"):
        ToolsTask(written(tmp_path, *rows))
