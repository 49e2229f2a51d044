"""GGUF files are loaded by the real llama.cpp, and its server answers as transformers does."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served_bundle import CHATS, by_transformers

from stratos.core.errors import StratosError
from stratos.deploy.bundle_server import environment_of, serve_arguments
from stratos.deploy.engines.base import export_path
from stratos.deploy.engines.chat_ids import ChatIds, first_difference
from stratos.deploy.engines.gguf_file import (
    ARCHITECTURES,
    by_llama,
    cannot_export,
    export,
    write_gguf,
)
from stratos.deploy.engines.http_api import lines_of
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.words import ScaledRotary, UnevenRows, UnknownArchitecture
from stratos.deploy.server import HOST, Server, free_port, serving
from stratos.models.decode.batched import complete
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.records import ServingSetting

pytestmark = pytest.mark.skipif(
    LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable())
)


@pytest.fixture(scope="module")
def expected(bundle: Path) -> list[str]:
    """What transformers answers, greedily."""
    return by_transformers(bundle)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    run = ServingSetting("llamacpp", slots=4, format="f32")
    with serving(
        serve_arguments(str(bundle), HOST, port, run, context=256),
        port=port,
        log_path=tmp_path_factory.mktemp("log") / "server.log",
        module=LlamaCpp.module,
        environment=environment_of(bundle),
    ) as found:
        yield found


def post(server: Server, body: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", "/v1/chat/completions", data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def ask(server: Server, chat: Any, **more: Any) -> dict[str, Any]:
    status, text = post(server, {"model": "m", "messages": chat, **more})
    assert status == 200, text
    return json.loads(text)


def test_it_answers_as_transformers_alone_and_many_at_once(server, expected) -> None:
    assert [text_of(ask(server, chat)) for chat in CHATS] == expected
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda chat: text_of(ask(server, chat)), CHATS * 6))
    assert found == expected * 6


def test_it_says_how_likely_its_answers_are_as_the_evaluation_does(server, bundle) -> None:
    model, tokenizer = load_model(bundle, dtype="auto"), load_tokenizer(bundle)
    asked = {"max_new_tokens": 24, "batch_size": 4, "with_logprobs": True}
    for chat, wanted in zip(CHATS, complete(model, tokenizer, CHATS, **asked), strict=True):
        found = ask(server, chat, max_tokens=24, logprobs=True)["choices"][0]["logprobs"]["content"]
        assert sum(one["logprob"] for one in found) == pytest.approx(wanted.logprob, abs=0.02)
        assert len(found) == wanted.output_tokens and all(one["token"] for one in found)
        assert "logprobs" not in ask(server, chat, max_tokens=2)["choices"][0]


def text_of(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def test_a_request_that_is_too_long_is_refused_and_others_are_answered(server, expected) -> None:
    long = json.dumps({"messages": [{"role": "user", "content": "1 " * 2_000_000}]})
    status, text = post(server, long.encode())
    assert status == 413 and b"A request may have 2 MiB." in text
    with ThreadPoolExecutor(4) as pool:  # 1.9 MiB: cut into tokens, and longer than the context
        many = [pool.submit(post, server, long.encode()[:50] + b"1 " * 950_000 + b'"}]}')
                for _ in range(3)]  # fmt: skip
        assert text_of(ask(server, CHATS[0])) == expected[0]
        assert {one.result()[0] for one in many} == {400}


def test_usage_and_the_reason_of_the_end_are_told(server, bundle) -> None:
    answer = ask(server, CHATS[0], max_tokens=5)
    assert answer["choices"][0]["finish_reason"] == "length"
    n_asked = len(ChatIds(bundle).ids(CHATS[0]))
    assert answer["usage"] == {
        "prompt_tokens": n_asked, "completion_tokens": 5, "total_tokens": n_asked + 5,
    }  # fmt: skip


def test_a_stream_is_the_same_answer_in_parts(server, expected) -> None:
    import openai

    client = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none",
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip
    for chat, text in zip(CHATS, expected, strict=True):
        chunks = list(
            client.chat.completions.create(model="m", messages=chat, stream=True)  # type: ignore
        )
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(parts) == text and sum(map(bool, parts)) > 3
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        assert chunks[-1].usage.completion_tokens > 3


def test_a_stream_may_have_line_separators_that_json_does_not_escape(server) -> None:
    text = "a\u2028b\u2029c\x85d"
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": text}}}
    asked = {"messages": CHATS[0], "response_format": schema, "max_tokens": 200}
    assert json.loads(text_of(ask(server, CHATS[0], **asked))) == text
    _, answer = post(server, {**asked, "stream": True})
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
    parts = [json.loads(one)["choices"][0]["delta"].get("content", "") for one in events]
    assert json.loads("".join(parts)) == text and answer.endswith(b"data: [DONE]\n\n")


def test_lines_end_at_line_feeds_alone_wherever_the_bytes_are_cut() -> None:
    wanted = ['data: {"a": "1\u20282\x853\x0b4"}', "", "data: [DONE]", "end"]
    data = "\r\n".join(wanted).encode()

    async def told(size: int) -> list[str]:
        async def parts() -> AsyncIterator[bytes]:
            for at in range(0, len(data), size):
                yield data[at : at + size]

        return [line async for line in lines_of(parts())]

    for size in range(1, len(data) + 1):
        assert asyncio.run(told(size)) == wanted


def test_a_stop_sequence_ends_the_answer_also_of_a_stream(server, expected) -> None:
    stop = expected[0][4:7]
    until = expected[0][: expected[0].index(stop)]
    answer = ask(server, CHATS[0], stop=[stop])
    assert text_of(answer) == until and answer["choices"][0]["finish_reason"] == "stop"
    _, text = post(server, {"messages": CHATS[0], "stop": stop, "stream": True})
    lines = [line[6:] for line in text.decode().splitlines() if line.startswith("data: {")]
    parts = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines]
    assert "".join(parts) == until


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"no json", "Expecting value"),
        ({"prompt": "x"}, "messages: expected a list of messages."),
        ({"messages": ["x"]}, "messages: each needs a role and a content."),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "reads text alone"),
        ({"messages": CHATS[0], "n": 2}, "n: this server gives one answer to a request."),
        ({"messages": CHATS[0], "logprobs": 3}, "logprobs: expected true or false."),
        (
            {"messages": CHATS[0], "logprobs": True, "stream": True},
            "logprobs: they are given whole. Leave stream out.",
        ),
        ({"messages": CHATS[0], "max_tokens": -1}, "max_tokens=-1: expected a whole number"),
        ({"messages": [{"role": "user", "content": "word " * 400}]}, "the context of 256 tokens"),
        ({"messages": [{"role": "user", "content": "word " * 400}], "stream": True}, "exceeds"),
        ({"messages": [{"role": "robot", "content": "a"}]}, '"robot": expected system, user, '),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "one of role user at least."),
        (b'{"messages": [{"role": "user", "content": "a"}], "seed": ' + b"1" * 5000 + b"}",
         "the request has a number that is too large."),
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_refused_and_said(server, body, told) -> None:
    status, text = post(server, body)
    assert status == 400
    assert told in json.loads(text)["error"]["message"]
    assert server.process.poll() is None


def test_llama_cpp_itself_cuts_byte_pairs_as_transformers(bundle) -> None:
    own = ChatIds(bundle)
    ids = [own.ids(chat) for chat in CHATS]
    assert by_llama(export_path(bundle, "q8_0.gguf"), CHATS) == ids
    other = [*ids[:2], [*ids[2][:3], 7, *ids[2][4:]], ids[3]]
    assert first_difference(ids, ids, own) == ""
    told = first_difference(ids, other, own)
    assert told.startswith("question 3, token 4: ") and " becomes 7 (" in told


def test_a_tokenizer_that_gguf_cannot_express_is_refused_by_llama_cpp_itself(
    bundle, tmp_path
) -> None:
    path = tmp_path / "q8_0.gguf"
    assert write_gguf(bundle, path, "q8_0", ids_only=True) is False
    with pytest.raises(StratosError, match="This file takes token ids alone: GGUF cannot express"):
        by_llama(path, CHATS)


def test_own_tokens_that_differ_are_found_out_and_leave_the_tokenizer_out(
    bundle, tmp_path, monkeypatch, snapshot
) -> None:
    import shutil

    from stratos.deploy.engines import gguf_file

    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    monkeypatch.setattr(gguf_file, "_cut_of", lambda spec: "smollm")  # cuts numbers into digits
    note = export(copy, ("f32",), CHATS)
    assert note == snapshot
    with pytest.raises(StratosError, match="takes token ids alone"):
        by_llama(export_path(copy, "f32.gguf"), CHATS)


def test_formats_are_of_the_sizes_that_their_bits_say(bundle, tmp_path) -> None:
    sizes = {}
    for form in ("f32", "f16", "q8_0", "q4_k_m"):
        write_gguf(bundle, tmp_path / f"{form}.gguf", form)
        sizes[form] = (tmp_path / f"{form}.gguf").stat().st_size
    assert sizes["f32"] > 1.8 * sizes["f16"] > 1.8 * sizes["q8_0"]
    assert sizes["q8_0"] > sizes["q4_k_m"]


@pytest.mark.parametrize(
    ("changes", "form", "why"),
    [
        ({"model_type": "gemma2"}, "f32", UnknownArchitecture("gemma2", tuple(ARCHITECTURES))),
        ({"rope_parameters": {"rope_type": "llama3"}}, "f32", ScaledRotary("llama3")),
        (
            {"hidden_size": 96, "intermediate_size": 128},
            "q4_k_m",
            UnevenRows("q4_k_m", 256, (96, 128), True),
        ),
        ({"hidden_size": 48}, "q8_0", UnevenRows("q8_0", 32, (48, 256), False)),
        ({}, "q4_k_m", None),
    ],
)
def test_what_cannot_be_written_is_said(bundle, tmp_path, changes, form, why) -> None:
    facts = json.loads((bundle / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**facts, **changes}))
    assert cannot_export(tmp_path, form) == why


def test_a_missing_export_is_said(bundle) -> None:
    done = subprocess.run(
        [sys.executable, "-m", LlamaCpp.module, "serve", str(bundle), "--format", "f16"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"{bundle} has no f16 export for llama.cpp.\n"


def test_an_answer_matches_the_schema_that_a_request_names(server) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "maximum": 9}},
        "required": ["kind", "legs"],
        "additionalProperties": False,
    }
    named = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    answer = ask(server, CHATS[0], response_format=named, max_tokens=100)
    found = json.loads(text_of(answer))
    assert found["kind"] in ("cat", "dog") and isinstance(found["legs"], int)
    assert ask(server, CHATS[0], response_format={"type": "text"})["choices"]
    for more, said in (
        ({"response_format": {"type": "json_schema"}}, "response_format: expected"),
        ({"response_format": {"type": "grammar"}}, "response_format: expected"),
        ({"tools": [{"name": "a"}]}, "tools: the chat template of this model takes none."),
        ({"tools": [{"name": "a"}], "stream": True}, "tools: calls are given whole."),
        ({"tool_choice": "required"}, "tool_choice: this server has auto alone."),
    ):
        status, text = post(server, {"messages": CHATS[0], **more})
        assert status == 400
        assert said in json.loads(text)["error"]["message"]


def test_calls_are_given_as_the_api_has_them() -> None:
    from stratos.deploy.engines.llama_server import _calls

    [call] = _calls('[{"name": "a", "arguments": {"é": 1}}]')
    assert call["function"] == {"name": "a", "arguments": '{"é": 1}'}
    assert call["type"] == "function"
    for text in ("[]", "none", '[{"x": 1}]', '{"name": "a"}', "[" * 9000):
        assert _calls(text) == []
