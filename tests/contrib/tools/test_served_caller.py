"""A student that calls tools, in a real server process, asked by the API's own client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from agent_traces import SYSTEM, TOOLS, call, lines, result, user

from stratos.contrib.tools.call_learner import learn, year_in
from stratos.contrib.tools.call_student import Caller, state_of
from stratos.contrib.tools.calls import question_of_request
from stratos.contrib.tools.signatures import question_of, request_of, tools_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.predictor import PredictorServer
from stratos.deploy.hosted_server import Hosted
from stratos.deploy.manifest import Known, write_known
from stratos.deploy.server import Server
from stratos.models.kinds.base import predictor_class

ASKED = [{"role": "system", "content": SYSTEM}, user("Find me somewhere vegan to eat, Cork")]
FOUND = [*ASKED, call(1, "find_restaurant", city="Cork", cuisine="vegan"),
         result(1, names=["The Quay", "Iris"], rating=4.1)]  # fmt: skip
RESERVE = {"type": "function", "function": {"name": "reserve_table"}}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ToolsTask:
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    path.write_text(lines("openai", 100))
    return ToolsTask(str(path), compares_words=False)


@pytest.fixture(scope="module")
def student(task: ToolsTask) -> Caller:
    items = task.items("train", 9999)
    answers = [item.answer for item in items]
    year = year_in(answers)
    return learn([state_of(item.question, year) for item in items], answers, year)


@pytest.fixture(scope="module")
def known(task: ToolsTask, student: Caller) -> Known:
    [item] = task.items("test", 1)
    [given] = student.predict([item.question])
    chat = task.student_messages(item)
    return Known(chat, given.text, item.answer, True, 16, task.request_of(chat))


@pytest.fixture(scope="module")
def server(
    student: Caller, known: Known, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served") / "agent"
    student.save(folder)
    write_known(folder, [known])
    with serving_bundle(folder, PredictorServer().setting(), folder / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip


def asked(client: openai.OpenAI, messages: list[dict[str, Any]], **more: Any) -> Any:
    made: Any = client.chat.completions.create
    return made(model="agent", messages=messages, **{"tools": TOOLS, **more})


def test_calls_are_streamed_as_the_api_has_them(client: openai.OpenAI) -> None:
    chunks = list(asked(client, ASKED, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [d for chunk in chunks if chunk.choices
              for d in chunk.choices[0].delta.tool_calls or ()]  # fmt: skip
    assert [delta.index for delta in deltas] == [0] * len(deltas)
    head, *rest = deltas
    assert head.id and head.type == "function"
    assert (head.function.name, head.function.arguments) == ("find_restaurant", "")
    assert all(delta.id is None and delta.function.name is None for delta in rest)
    arguments = "".join(delta.function.arguments for delta in rest)
    assert json.loads(arguments) == {"city": "Cork", "cuisine": "vegan"}
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert ends[-1] == "tool_calls" and not any(ends[:-1])
    assert chunks[-1].usage is not None and not chunks[-1].choices


def test_the_clients_own_reader_puts_the_stream_together(client: openai.OpenAI) -> None:
    stream: Any = client.chat.completions.stream
    with stream(model="agent", messages=ASKED, tools=TOOLS) as events:
        choice = events.get_final_completion().choices[0]
    whole = asked(client, ASKED).choices[0]
    for each in (choice, whole):
        [made] = each.message.tool_calls
        assert made.function.name == "find_restaurant" and each.finish_reason == "tool_calls"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == json.loads(
        whole.message.tool_calls[0].function.arguments
    )


def test_a_text_is_streamed_where_a_text_is_due(client: openai.OpenAI) -> None:
    chunks = list(asked(client, FOUND, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == asked(client, FOUND).choices[0].message.content and "Iris" in text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tool_choice_holds_an_answer_to_calls_or_to_a_text(client: openai.OpenAI) -> None:
    none = asked(client, ASKED, tool_choice="none").choices[0]
    assert none.message.tool_calls is None and none.finish_reason == "stop"
    assert none.message.content
    wanted = [*FOUND, {"role": "assistant", "content": "I found The Quay and Iris."},
              user("Yes, Iris at 19:30 for 4")]  # fmt: skip
    for choice in ("required", RESERVE, "auto"):
        given = asked(client, wanted, tool_choice=choice).choices[0]
        [made] = given.message.tool_calls
        assert made.function.name == "reserve_table" and given.finish_reason == "tool_calls"
        assert json.loads(made.function.arguments) == {"name": "Iris", "time": "19:30", "people": 4}
    required = asked(client, FOUND, tool_choice="required").choices[0]
    assert required.message.tool_calls, "where a text would be due"
    chunks = list(asked(client, FOUND, tool_choice="required", stream=True))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}}, "fly"),
        ({"tool_choice": "required", "tools": openai.NOT_GIVEN}, "tools"),
        ({"tool_choice": "must"}, "tool_choice"),
        ({"stream": True, "logprobs": True}, "logprobs"),
        ({"tool_choice": RESERVE}, "tool_choice"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    client: openai.OpenAI, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        asked(client, [user("Hello")], **more)


def test_parts_of_a_message_are_lines_as_in_the_rows(client: openai.OpenAI) -> None:
    words = ["Find", "me", "somewhere", "vegan", "to", "eat,", "Cork"]
    text = user("\n".join(words))
    parts = {"role": "user", "content": [{"type": "text", "text": word} for word in words]}
    one, several = (asked(client, [ASKED[0], m]).choices[0].message for m in (text, parts))
    [[call], [same]] = one.tool_calls, several.tool_calls
    assert call.function == same.function and "Cork" in call.function.arguments


def test_results_of_calls_stand_in_their_order_whatever_the_request_has() -> None:
    calls = [call(k, "find_restaurant", city=city)["tool_calls"][0]
             for k, city in enumerate(("Cork", "Bonn"))]  # fmt: skip
    results = [{"role": "tool", "tool_call_id": made["id"], "content": f"{k}"}
               for k, made in enumerate(calls)]  # fmt: skip
    made = {"role": "assistant", "content": None, "tool_calls": calls}
    last = user("Which?")
    question = question_of_request([*ASKED, made, *results, last], TOOLS)
    assert question_of_request([*ASKED, made, *reversed(results), last], TOOLS) == question
    assert question.index('"content": "0"') < question.index('"content": "1"')
    # A call without an id moves no message of the user before a result.
    calls[0]["id"] = None
    assert question_of_request([*ASKED, made, results[1], last], TOOLS).endswith('"Which?"}')


def test_a_request_with_too_many_tools_is_refused_at_once(client: openai.OpenAI) -> None:
    many = [{"type": "function", "function": {"name": f"f{k}"}} for k in range(20_000)]
    start = time.monotonic()
    with pytest.raises(openai.BadRequestError, match="20,000 are too many"):
        asked(client, ASKED, tools=many)
    assert time.monotonic() - start < 5


def test_calls_of_the_history_are_read_or_refused(client: openai.OpenAI) -> None:
    def history(arguments: str) -> list[dict[str, Any]]:
        function = {"name": "find_restaurant", "arguments": arguments}
        asks = {"role": "assistant", "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": function}]}  # fmt: skip
        return [*ASKED, asks, {"role": "tool", "tool_call_id": "1", "content": "{}"}]

    with pytest.raises(openai.BadRequestError, match="in message 3 the arguments of call 1"):
        asked(client, history("{bad"))
    none, empty = (asked(client, history(text)).choices[0].message for text in ("null", "{}"))
    assert none.content == empty.content and bool(none.tool_calls) == bool(empty.tool_calls)


def test_the_example_of_a_hosted_student_offers_tools(known: Known, client: openai.OpenAI) -> None:
    hosted = Hosted("b", "agent", 1, 1, "m", [], {}, "", "", "", "predictor", 1, known=[known])
    body = json.loads(hosted.example)
    assert {tool["function"]["name"] for tool in body["tools"]} == {
        "find_restaurant", "reserve_table", "cancel_reservation",
    }  # fmt: skip
    assert "Tools:" not in json.dumps(body["messages"])
    choice = client.chat.completions.create(**body).choices[0]
    calls = [{"name": c.function.name, "arguments": json.loads(c.function.arguments)}
             for c in choice.message.tool_calls or ()]  # fmt: skip
    assert (calls or choice.message.content) == (
        json.loads(known.text) if known.text[:1] == "[" else known.text
    )


def test_a_long_example_is_typed_as_a_file(known: Known, tmp_path: Path) -> None:
    log = str(tmp_path / "server.log")
    hosted = Hosted("b", "agent", 1, 1, "m", [], {}, log, "", "", "predictor", 1, known=[known])
    assert len(hosted.example) > 1000 and hosted.example_data == f"@{tmp_path / 'server.ask'}"
    assert (tmp_path / "server.ask").read_text() == hosted.example
    assert replace(hosted, known=[]).example_data.startswith("'{")


def test_a_request_is_read_back_as_the_question_that_it_is_of(student: Caller) -> None:
    tools = tools_of(TOOLS)
    told = json.loads(json.dumps(FOUND))
    made = {"name": "find_restaurant", "arguments": {"city": "Cork", "cuisine": "vegan"}}
    told[2] = {"role": "assistant", "content": "", "tool_calls": [made]}
    told[3] = {"role": "tool", "content": FOUND[3]["content"]}
    question = question_of(tools, told)
    request = request_of(question)
    assert student.request_text(request["messages"], request["tools"]) == question
    ids = [request["messages"][2]["tool_calls"][0]["id"], request["messages"][3]["tool_call_id"]]
    assert ids[0] == ids[1]


def test_its_class_says_what_the_card_says(student: Caller, tmp_path: Path) -> None:
    student.save(tmp_path)
    assert predictor_class(tmp_path) is Caller
    assert "tagger" not in Caller.about and "calls tools" in Caller.about
