"""Every format is recognised by its content, and what is wrong is said by line and cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.logs.conversation import Conversation, as_question, history_of
from stratos.contrib.logs.exchanges import OTHER_REQUEST
from stratos.contrib.logs.turn_rows import SLICES, Seen, TurnReader, read_conversations
from stratos.core.reasons import Because, Reason
from stratos.tasks.rows import Unanswered
from stratos.tasks.table import Row
from stratos.tasks.words import JsonEndsHere, LineTooLong, RowTooLong

ASKED = {"role": "user", "content": "Two and two?"}
SAID = {"role": "assistant", "content": "Four."}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
CHOICES = [{"index": 0, "finish_reason": "stop", "message": SAID}]
USAGE = {"prompt_tokens": 11, "completion_tokens": 3}


def otlp(attributes: dict[str, str], **more: Any) -> dict[str, Any]:
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    span = {"name": "chat m", "attributes": listed, **more}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span]}]}]}


GEN_AI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "Two and two?"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "Four."}],
                "finish_reason": "stop",
            }
        ]
    ),
}
ROWS = {
    "fine-tuning messages": {"messages": [SYSTEM, ASKED, SAID]},
    "ShareGPT": {
        "system": "Be brief.",
        "conversations": [
            {"from": "human", "value": "Two and two?"},
            {"from": "gpt", "value": "Four."},
        ],
    },
    "Alpaca": {
        "system": "Be brief.",
        "instruction": "Two and two?",
        "input": "",
        "output": "Four.",
    },
    "prompt and completion": {"prompt": [SYSTEM, ASKED], "completion": [SAID]},
    "chat-completions requests and responses": {
        "request": {"model": "m", "messages": [SYSTEM, ASKED]},
        "response": {"model": "m", "choices": CHOICES, "usage": USAGE},
    },
    "Responses API requests and responses": {
        "request": {"model": "m", "instructions": "Be brief.", "input": "Two and two?"},
        "response": {
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Four."}],
                },
            ]
        },
    },
    "Anthropic messages": {
        "request": {"model": "m", "system": "Be brief.", "messages": [ASKED]},
        "response": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "…"}, {"type": "text", "text": "Four."}],
            "stop_reason": "end_turn",
        },
    },
    "LiteLLM log rows": {
        "id": "1",
        "call_type": "acompletion",
        "model": "m",
        "messages": [SYSTEM, ASKED],
        "response": {"choices": CHOICES},
        "startTime": 1_760_000_000.5,
        "response_cost": 0.1,
        "status": "success",
    },
    "Langfuse observations": {
        "id": "1",
        "traceId": "t",
        "type": "GENERATION",
        "startTime": "2025-10-09T08:53:20.500Z",
        "model": "m",
        "input": [SYSTEM, ASKED],
        "output": SAID,
        "usage": {"input": 11, "output": 3},
    },
    "OpenTelemetry GenAI spans": otlp(GEN_AI),
    "OpenInference spans": {
        "name": "ChatCompletion",
        "attributes": {
            "llm.model_name": "m",
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.content": "Two and two?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "Four.",
        },
    },
    "OpenLLMetry spans": {
        "attributes": {
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "Two and two?",
            "gen_ai.completion.0.content": "Four.",
        }
    },
}


def write(path: Path, *rows: Any) -> str:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def read(path: str, seen: Seen | None = None, **keys: str) -> list[tuple[str, Any]]:
    return list(read_conversations(path, seen or Seen(), **keys))


def why(tmp_path: Path, row: Any) -> str:
    [(line, found)] = read(write(tmp_path / "a.jsonl", row))
    assert line.startswith("line 1")
    if isinstance(found, Unanswered):
        return str(found.why)
    assert isinstance(found, Reason), found
    return str(found)


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_told_by_content_and_holds_the_same_conversation(
    name: str, tmp_path: Path
) -> None:
    [(_, found)] = read(write(tmp_path / "a.jsonl", ROWS[name]))
    assert isinstance(found, Conversation), found
    assert found.about.format == name
    assert list(found.messages) == [SYSTEM, ASKED, SAID]
    assert found.answered == (2,)


@pytest.mark.parametrize("name", ROWS)
def test_a_value_of_another_type_is_said_and_ends_nothing(name: str, tmp_path: Path) -> None:
    """Each field at any depth becomes a number, null, a text or a list in turn."""
    rows = [row for value in (7, None, "x", [[]]) for row in spoilt(ROWS[name], value)]
    found = read(write(tmp_path / "a.jsonl", *rows, ROWS[name]))
    assert isinstance(found[-1][1], Conversation)
    assert all(isinstance(one, Reason | Unanswered | Conversation) for _, one in found)


def spoilt(node: Any, value: Any) -> list[Any]:
    if isinstance(node, dict):
        here = [{**node, key: value} for key in node]
        inner = [{**node, key: one} for key in node for one in spoilt(node[key], value)]
        return here + inner
    if isinstance(node, list):
        return [
            [*node[:k], one, *node[k + 1 :]]
            for k in range(len(node))
            for one in (value, *spoilt(node[k], value))
        ]
    return []


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Two and two?", "completion": "Four."},
        {"prompt": "Two and two?", "response": "Four."},
        {"system_prompt": "Be brief.", "question": "Two and two?", "response": "Four."},
        {"instruction": "Two and two?", "context": "", "response": "Four."},
        {"input": "Two and two?", "output": "Four."},
        {"input": {"messages": [ASKED]}, "preferred_output": [SAID], "non_preferred_output": []},
        {"chosen": [ASKED, SAID], "rejected": [ASKED], "prompt": "Two and two?"},
    ],
)
def test_other_spellings_of_a_pair_are_known(row: dict[str, Any], tmp_path: Path) -> None:
    [(_, found)] = read(write(tmp_path / "a.jsonl", row))
    assert isinstance(found, Conversation), found
    assert list(found.messages)[-2:] == [ASKED, SAID] and len(found.answered) == 1


def test_particulars_are_read_where_formats_have_them(tmp_path: Path) -> None:
    [(_, of_pair)] = read(
        write(tmp_path / "a.jsonl", ROWS["chat-completions requests and responses"])
    )
    assert (of_pair.about.model, of_pair.about.input_tokens, of_pair.about.output_tokens) == (
        "m",
        11,
        3,
    )
    [(_, of_litellm)] = read(write(tmp_path / "a.jsonl", ROWS["LiteLLM log rows"]))
    [(_, of_langfuse)] = read(write(tmp_path / "a.jsonl", ROWS["Langfuse observations"]))
    assert of_litellm.about.time_s == of_langfuse.about.time_s == 1_760_000_000.5
    assert (of_langfuse.about.input_tokens, of_langfuse.about.output_tokens) == (11, 3)
    nano = otlp(GEN_AI, startTimeUnixNano="1760000000500000000")
    [(_, of_span)] = read(write(tmp_path / "a.jsonl", nano))
    assert (of_span.about.time_s, of_span.about.model) == (1_760_000_000.5, "m")


def test_a_request_with_its_history_has_one_answer(tmp_path: Path) -> None:
    more = [ASKED, SAID, {"role": "user", "content": "And two?"}]
    row = {"messages": more, "response": {"choices": [{"message": {"content": "Six."}}]}}
    [(_, found)] = read(write(tmp_path / "a.jsonl", row))
    assert found.answered == (3,) and found.messages[3]["content"] == "Six."
    [(_, whole)] = read(
        write(tmp_path / "a.jsonl", {"messages": [*more, {"role": "assistant", "content": "Six."}]})
    )
    assert whole.answered == (1, 3)


def test_one_array_and_objects_of_several_lines_are_read_as_rows(tmp_path: Path) -> None:
    rows = [ROWS["ShareGPT"], {**ROWS["Alpaca"], "x": "y" * 2000}] * 500
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    assert [where for where, _ in read(str(path))] == [f"row {k}" for k in range(1, 1001)]
    path.write_text(json.dumps(rows))
    assert len(read(str(path))) == 1000
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows))
    assert len(read(str(path))) == 1000
    path.write_text(json.dumps(rows)[:-40])
    found = read(str(path))
    assert found[-1] == ("row 1000", JsonEndsHere(""))
    assert len(found) == 1000
    path.write_text("[]")
    assert read(str(path)) == []


def test_a_row_that_is_too_long_is_named_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stratos.tasks import files

    monkeypatch.setattr(files, "LONGEST_LINE", 10_000)
    long = {"messages": [{**ASKED, "content": "x" * 20_000}, SAID]}
    for name, rows in (("a.json", [long, ROWS["ShareGPT"]]), ("b.jsonl", None)):
        path = tmp_path / name
        if rows:
            path.write_text(json.dumps(rows))
        else:
            write(path, long, ROWS["ShareGPT"])
        (_, wrong), (_, found) = read(str(path))
        assert isinstance(wrong, RowTooLong | LineTooLong) and isinstance(found, Conversation)


def test_columns_of_csv_and_parquet_hold_json(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"messages": [json.dumps([SYSTEM, ASKED, SAID])] * 2})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    nested = pandas.DataFrame({"messages": [[SYSTEM, ASKED, SAID]] * 2})
    nested.to_parquet(tmp_path / "b.parquet")
    for name in ("a.csv", "a.parquet", "b.parquet"):
        assert [one.answered for _, one in read(str(tmp_path / name))] == [(2,), (2,)]


def test_a_folder_of_datasets_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"messages": [ASKED, SAID]}, {"messages": [SYSTEM, ASKED, SAID]}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    assert [one.answered for _, one in read(str(tmp_path / "saved"))] == [(1,), (2,)]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no data set that datasets saved"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [SAID, ASKED]}, "has no answer of the model"),
        ({"messages": [SYSTEM, SAID]}, "roles out of order: no message is the user's"),
        (
            {"messages": [SAID, SAID, ASKED, SAID]},
            "roles out of order: message 2 is the model's and follows the model's",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL]}, ASKED, SAID]},
            "roles out of order: message 1 is the model's and is the first",
        ),
        (
            {"messages": [ASKED, SAID, SAID]},
            "roles out of order: message 3 is the model's and follows the model's",
        ),
        (
            {"messages": [ASKED, SAID, SYSTEM, SAID]},
            "roles out of order: message 4 is the model's and follows the model's",
        ),
        ({"messages": [ASKED]}, "has no answer of the model"),
        ({"messages": []}, "messages is empty"),
        ({"messages": [{"role": "narrator"}]}, 'message 1 has the role "narrator"'),
        (
            {"messages": [ASKED, {"role": "tool", "content": "4"}, SAID]},
            "message 2 is the result of a tool that was not called",
        ),
        (
            {
                "messages": [
                    ASKED,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{a:"}}],
                    },
                ]
            },
            "message 2 calls f with arguments that are no JSON",
        ),
        (
            {"messages": [ASKED], "choices": CHOICES * 2},
            "its response has 2 answers to one request",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAID]},
            "message 1 of the user has an image and no text",
        ),
        ({"request": {"messages": [ASKED]}, "response": None}, "has no response"),
        ({"a": 1, "b": 2}, "has no format that is known; it has a, b"),
        ('{"messages": [{"role": "us', "not JSON (Unterminated string starting at, column 24)"),
        (otlp({"gen_ai.request.model": "m"}), "is a span without messages: record them with "
         "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(row: Any, said: str, tmp_path: Path) -> None:
    assert why(tmp_path, row) == said


def test_a_greeting_and_a_later_system_message_are_history(tmp_path: Path) -> None:
    hello = {"role": "assistant", "content": "Hello, what is it?"}
    rows = [
        {"messages": [SYSTEM, hello, ASKED, SAID]},
        {"request": {"messages": [hello, ASKED]}, "response": {"choices": CHOICES}},
        {"messages": [ASKED, SYSTEM, SAID, SYSTEM]},
        {"messages": [SYSTEM, ASKED, SYSTEM, ASKED, SAID, SYSTEM, ASKED, SAID]},
    ]
    found = [one for _, one in read(write(tmp_path / "a.jsonl", *rows))]
    assert [one.answered for one in found] == [(3,), (2,), (2,), (4, 7)]
    assert [one["role"][0] for one in found[3].messages] == list("susuasua")
    reader = TurnReader()
    reader.find_system(str(tmp_path / "a.jsonl"))
    made = [row for _, row in reader.rows(str(tmp_path / "a.jsonl")) if isinstance(row, Row)]
    assert [row.slice for row in made] == [SLICES[0]] * 4 + [SLICES[1]]
    assert history_of(made[1].question) == [hello, ASKED]
    assert history_of(made[2].question) == [ASKED, SYSTEM]


def test_a_request_for_other_work_is_left_out_and_counted(tmp_path: Path) -> None:
    asked = {"model": "m", "input": "a text"}
    embedded = {"object": "list", "data": [{"object": "embedding", "embedding": [0.1]}]}
    moderated = {"id": "modr-1", "results": [{"flagged": False, "categories": {}}]}
    rows = [
        {"request": asked, "response": embedded},
        {"request": {"body": asked}, "response": {"status_code": 200, "body": embedded}},
        {"request": {"body": json.dumps(asked)}, "response": json.dumps(moderated)},
        {"request": {"prompt": "a cat"}, "response": {"data": [{"url": "https://x.test/1"}]}},
        {"request": {"messages": [ASKED]}, "response": {"choices": CHOICES}},
        {"prompt": "Two?", "completion": json.dumps({"data": 4})},
    ]
    seen = Seen()
    found = read(write(tmp_path / "a.jsonl", *rows), seen)
    assert [one.answered for _, one in found] == [(1,), (1,)]
    assert dict(seen.passed) == {OTHER_REQUEST: 4}


def test_what_is_no_answer_is_passed_over_and_counted(tmp_path: Path) -> None:
    cut = {"messages": [ASKED], "choices": [{"finish_reason": "length", "message": SAID}]}
    failed = {"messages": [ASKED], "response": {"error": {"message": "429"}}}
    other = otlp({"http.method": "GET"})
    search = {**ROWS["Langfuse observations"], "type": "RETRIEVER"}
    seen = Seen()
    assert read(write(tmp_path / "a.jsonl", cut, failed, other, search), seen) == []
    assert seen.passed == {
        "answers that were cut short": 1,
        "requests that failed": 1,
        "spans of other work": 2,
    }


def test_images_are_left_out_and_keys_are_replaced_before_anything_sees_them(
    tmp_path: Path,
) -> None:
    key = "sk-" + "a1" * 12
    text = f"See ![x](data:image/png;base64,{'QUJD' * 40}) with {key}"
    row = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": text}, {"type": "input_audio", "data": "x"}],
            },
            SAID,
        ]
    }
    seen = Seen()
    [(_, found)] = read(write(tmp_path / "a.jsonl", row), seen)
    assert found.messages[0]["content"] == "See ![x]([image]) with ***"
    assert (seen.n_images, seen.n_secrets) == (2, 1)


def test_tools_are_written_into_the_history(tmp_path: Path) -> None:
    call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
    openai = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "4"},
        SAID,
    ]
    anthropic = [
        ASKED,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 2, "b": 2}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "1", "content": "4"}],
        },
        SAID,
    ]
    call = {"name": "add", "arguments": {"a": 2, "b": 2}}
    for messages in (openai, anthropic):
        seen = Seen()
        [(_, found)] = read(write(tmp_path / "a.jsonl", {"messages": messages}), seen)
        assert [one["content"] for one in found.messages[1:3]] == [
            f"<tool_call>\n{json.dumps(call)}\n</tool_call>",
            "<tool_response>\n4\n</tool_response>",
        ]
        assert found.answered == (3,) and seen.n_calls == 1


def test_other_formats_are_mapped_by_keys(tmp_path: Path) -> None:
    row = {"data": {"turns": [ASKED], "out": {"text": "Four."}}, "x": [1]}
    path = write(tmp_path / "a.jsonl", row)
    [(_, found)] = read(path, messages="data.turns", answer="data.out.text")
    assert list(found.messages) == [ASKED, SAID]
    [(_, wrong)] = read(path, messages="data.nothing")
    assert wrong == Because("lacks the field data.nothing")


def test_a_history_is_one_text_and_back() -> None:
    for history in (
        [ASKED],
        [SYSTEM, ASKED],
        [ASKED, SAID, ASKED],
        [{"role": "user", "content": as_question([SYSTEM, ASKED])}],
    ):
        assert history_of(as_question(history)) == history
    assert as_question([ASKED]) == "Two and two?"
    assert history_of('[{"role":"x"') == [{"role": "user", "content": '[{"role":"x"'}]


def test_every_form_of_a_key_is_replaced() -> None:
    from stratos.core.redact import redact_shapes

    jwt = f"eyJ{'a' * 12}.{'b' * 12}.{'c' * 12}"
    keys = [
        *(f"{mark}{'a1' * 16}" for mark in ("sk-", "sk-ant-", "hf_", "ghp_", "gho_", "ghu_")),
        *(f"{mark}{'a1' * 16}" for mark in ("ghs_", "ghr_", "github_pat_", "AIza", "xoxb-")),
        *(f"{mark}{'a1' * 16}" for mark in ("glpat-", "ya29.", "Bearer ")),
        f"AKIA{'A1' * 8}",
        jwt,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ]
    for key in keys:
        text, n = redact_shapes(f"use {key} now")
        assert n == 1 and text.replace("Bearer ", "") == "use *** now", key
    assert redact_shapes("a task-force of sk-ill") == ("a task-force of sk-ill", 0)
