"""Tools of a request are written by the student's chat template as the text that it has learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.tools.signatures import question_of, tools_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.deploy.engines.chat_ids import ChatError, ChatIds
from stratos.distill.tokenizer import trained_tokenizer
from stratos.tasks.chat import instruct, prefix_template

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Get the weather, é.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"name": "clock"},
]
ONE = [{"role": "user", "content": "What's it like in <Rome>?"}]
SEVERAL = [{"role": "system", "content": "Now is 5."}, *ONE]
CALL = {"name": "weather", "arguments": {"city": "Rómä <b>"}}
PLAIN_CALLS = [
    *ONE,
    {"role": "assistant", "content": "", "tool_calls": [CALL, {"name": "clock", "arguments": {}}]},
    {"role": "tool", "content": "20 degrees"},
    {"role": "user", "content": "And Oslo?"},
]
"""As the training has them."""


@pytest.mark.parametrize("told", ["", "Call the tools."])
@pytest.mark.parametrize("messages", [ONE, SEVERAL])
def test_it_writes_the_question_of_the_training(messages: Any, told: str, tmp_path: Path) -> None:
    tokenizer = trained_tokenizer(["What's it like in Rome?"] * 3, 300)
    instruct(tokenizer, told)
    asked = [{"role": "user", "content": question_of(tools_of(TOOLS), messages)}]
    wanted = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    plain = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    prefix_template(tokenizer, ToolsTask.template_prefix)
    for tools, ids in ((TOOLS, wanted), (None, plain)):
        found = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)
        assert found["input_ids"] == ids
    tokenizer.save_pretrained(tmp_path)
    assert ChatIds(tmp_path).ids(messages, TOOLS) == wanted
    assert ChatIds(tmp_path).ids(messages) == plain


@pytest.mark.parametrize("form", ["text", "compact text", "object"])
def test_calls_of_earlier_messages_are_written_as_in_the_training(
    form: str, tmp_path: Path
) -> None:
    arguments: Any = CALL["arguments"]
    if form != "object":
        separators = (",", ":") if form == "compact text" else None
        arguments = json.dumps(arguments, ensure_ascii=False, separators=separators)
    calls = [
        {"id": "a", "type": "function", "function": {**CALL, "arguments": arguments}},
        {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
    ]
    made = {"role": "assistant", "content": None, "tool_calls": calls}
    served = [*ONE, made, {**PLAIN_CALLS[2], "tool_call_id": "a"}, PLAIN_CALLS[3]]
    tokenizer = trained_tokenizer(["What's it like in Rome?"] * 3, 300)
    wanted = question_of(tools_of(TOOLS), PLAIN_CALLS)
    asked = [{"role": "user", "content": wanted}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    prefix_template(tokenizer, ToolsTask.template_prefix)
    tokenizer.save_pretrained(tmp_path)
    assert ChatIds(tmp_path).ids(served, TOOLS) == ids
    if form != "compact text":  # which transformers' template does not read
        found = tokenizer.apply_chat_template(served, tools=TOOLS, add_generation_prompt=True)
        assert found["input_ids"] == ids


def test_a_template_that_takes_none_says_so(tmp_path: Path) -> None:
    trained_tokenizer(["a"] * 3, 300).save_pretrained(tmp_path)
    with pytest.raises(ChatError, match="the chat template of this model takes none"):
        ChatIds(tmp_path).ids(ONE, TOOLS)
