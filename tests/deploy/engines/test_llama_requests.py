"""Requests that are wrong, too large or left are refused or ended by llama.cpp's server."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from served_bundle import CHATS

from stratos.deploy.bundle_server import environment_of, serve_arguments
from stratos.deploy.engines.chat_ids import ChatError, ChatIds
from stratos.deploy.engines.chat_request import AnswerForms, Requests, why_too_large
from stratos.deploy.engines.http_api import Waiting, too_many
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.words import SchemaTooLarge
from stratos.deploy.server import HOST, Server, free_port, serving
from stratos.records import ServingSetting

pytestmark = pytest.mark.skipif(
    LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable())
)
SECRET = "Rumpelstilzchen"
"""In every request here, and never in the log."""
CHAT = [{"role": "user", "content": f"{SECRET} orders?"}]


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    with serving(
        serve_arguments(
            str(bundle), HOST, port, ServingSetting("llamacpp", slots=2, format="f32"), context=256
        ),
        port=port,
        log_path=tmp_path_factory.mktemp("log") / "server.log",
        module=LlamaCpp.module,
        environment=environment_of(bundle),
    ) as found:
        yield found


def call(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def post(server: Server, **more: Any) -> tuple[int, Any]:
    body = json.dumps({"messages": CHAT, **more}).encode()
    return call(server, "POST", "/v1/chat/completions", body)


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, **more}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


LARGE = {
    "items": (
        {"type": "array", "items": {}, "minItems": 10**6, "maxItems": 10**7},
        SchemaTooLarge("maxItems", 1000, 1000),
    ),
    "in all": (
        {"anyOf": [{"type": "array", "minItems": k} for k in range(900, 930)]},
        SchemaTooLarge("items and repetitions in all", 10_000),
    ),
    "length": ({"type": "string", "maxLength": 10**6}, SchemaTooLarge("maxLength", 10_000, 1000)),
    "infinite": (
        {"type": "string", "maxLength": 10**400},
        SchemaTooLarge("maxLength", 10_000, 1000),
    ),
    "depth": (nested(200), SchemaTooLarge("objects and lists inside each other", 64)),
    "enum": ({"enum": ["x" * 10] * 20_000}, SchemaTooLarge("values", 10_000)),
    "text": ({"const": "x" * 70_000}, SchemaTooLarge("KiB", 64)),
    "pattern": (
        {"type": "string", "pattern": "^a{999999}$"},
        SchemaTooLarge("pattern", 1000, 1000),
    ),
    "nested pattern": ({"pattern": "^((a{90}){90}){90}$"}, SchemaTooLarge("pattern", 1000, 1000)),
    "long pattern": ({"pattern": "(" * 1001}, SchemaTooLarge("characters in a pattern", 1000)),
    "by pattern": (
        {"patternProperties": {"a{1,5000}": {}}},
        SchemaTooLarge("patternProperties", 1000, 1000),
    ),
}
SLOW = {
    "allOf": [{"type": "string", "pattern": f".*{one}.{{100}}"} for one in "abcdefghijklmnopqrst"]
}
"""Small, and minutes of work: all patterns have to match at once."""


@pytest.mark.parametrize("name", LARGE)
def test_a_schema_that_would_explode_is_refused_at_once(bundle, name) -> None:
    schema, why = LARGE[name]
    started = time.process_time()
    assert why_too_large(schema) == why
    with pytest.raises(ValueError, match=r"^response_format: the schema is refused: "):
        AnswerForms(bundle).asked(form(schema))
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": 5}, "type must be a string or array of strings"),
        ({"type": ["a", "b"]}, "a"),
        ({"type": "string", "pattern": "^[$"}, "unclosed character class"),
        ({"type": "string", "pattern": "^((((a$"}, "unclosed group"),
        ({"$ref": "#/$defs/x"}, "'/$defs/x' does not exist"),
        ({"$ref": "http://127.0.0.1:1/x"}, "not present in a registry"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "object", "required": "a"}, "Expected array for 'required'"),
        ({"type": "integer", "minimum": 5, "maximum": -5}, "minimum (5) is greater"),
        ({"allOf": [{"$ref": "#"}]}, "no finite answer matches it."),
        ({"type": "integer", "multipleOf": 999983}, "a grammar of it takes too long"),
        (SLOW, "a grammar of it takes too long, or too much memory."),
        (LARGE["items"][0], "maxItems may be 1,000 at most"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(server, schema, told) -> None:
    for stream in (False, True):
        status, answer = post(server, response_format=form(schema), stream=stream)
        assert status == 400
        assert answer["error"]["message"].startswith("response_format: the schema is refused: ")
        assert told in answer["error"]["message"]


def test_what_a_grammar_cannot_say_makes_it_wider_unless_it_is_strict(server) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 3}
    status, answer = post(server, response_format=form(schema))
    assert status == 200 and set(json.loads(answer["choices"][0]["message"]["content"])) <= {1, 2}
    status, answer = post(server, response_format=form(schema, strict=True))
    assert status == 400 and "uniqueItems" in answer["error"]["message"]


def test_a_vocabulary_that_cannot_write_json_is_said(bundle, tmp_path) -> None:
    spec = json.loads((bundle / "tokenizer.json").read_text())
    spec["model"] = {"type": "WordLevel", "vocab": {"1p": 0, "2p": 1}, "unk_token": "1p"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert AnswerForms(tmp_path).asked({"type": "text"}) == {}
    with pytest.raises(ValueError, match="the vocabulary of this model cannot write JSON"):
        AnswerForms(tmp_path).asked(form({"type": "object"}))


def raw(rest: str) -> bytes:
    return f'{{"messages": {json.dumps(CHAT)}, {rest}}}'.encode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (raw('"temperature": NaN'), "the request has NaN, which is no number in JSON."),
        (raw('"temperature": Infinity'), "the request has Infinity, which is no number"),
        (raw('"temperature": 1e400'), "the request has a number that is too large."),
        (raw('"temperature": "x"'), 'temperature="x": expected a number from 0 to 100.'),
        (raw('"temperature": true'), "temperature=true: expected a number from 0 to 100."),
        (raw('"temperature": -5'), "temperature=-5: expected a number from 0 to 100."),
        (raw('"top_p": 5'), "top_p=5: expected a number from 0 to 1."),
        (raw('"top_k": 100000000000000000000'), "expected a whole number from 0 to 2147483647."),
        (raw('"seed": [1]'), "seed=[1]: expected a whole number from -1 to 4294967295."),
        (raw('"seed": 1' + "0" * 400), "seed=(large): expected a whole number"),
        (raw('"max_tokens": 1' + "0" * 5000), "a number that is too large."),
        (raw('"max_tokens": 0'), "max_tokens=0: expected a whole number of at least 1"),
        (raw('"max_completion_tokens": 0'), "max_completion_tokens=0: expected a whole"),
        (raw('"max_tokens": true'), "max_tokens=true: expected a whole number"),
        (raw('"max_tokens": 9223372036854775808'), "max_tokens=9223372036854775808: expected"),
        (raw('"n": true'), "n: this server gives one answer to a request."),
        (raw('"stream": "no"'), "stream: expected true or false."),
        (raw('"top_logprobs": 5'), "top_logprobs: this server does not have it."),
        (raw('"stop": 0'), "stop: expected a text, or a list of texts."),
        (raw('"stop": ' + json.dumps(["x"] * 65)), "stop: expected 64 texts at most."),
        (raw('"tools": "a"'), "tools: expected a list of tools."),
        (raw('"x": "\\ud800"'), "half of a surrogate pair"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "half of a surrogate pair"),
        (b'{"messages": []}', "messages: expected one message at least."),
        (b"[" * 100_000, "too many lists and objects inside each other."),
        (raw('"x": ' + "[" * 5000 + "]" * 5000), "too many lists and objects"),
        (b'{"messages":"\xff"}', "the request is not JSON: "),
    ],
)
def test_a_wrong_value_is_refused_with_one_sentence(server, body, told) -> None:
    status, answer = call(server, "POST", "/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert told in answer["error"]["message"] and "\n" not in answer["error"]["message"]


def test_paths_that_it_does_not_have_are_told_as_the_api_does(server) -> None:
    for method, path, status in (
        ("POST", "/v1/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
    ):
        found, answer = call(server, method, path)
        assert found == status
        assert answer["error"]["message"].startswith(f"{method} {path}: this server does not have")


def test_the_model_is_named_by_its_folder_alone(server, bundle) -> None:
    _, models = call(server, "GET", "/v1/models")
    assert models["data"][0]["id"] == bundle.name
    for name in (bundle.name, str(bundle)):
        status, answer = post(server, model=name, max_tokens=1)
        assert status == 200 and answer["model"] == bundle.name


def leave(server: Server, after_s: float = 0.01, **more: Any) -> None:
    body = json.dumps({"messages": CHAT, **more}).encode()
    with socket.create_connection((HOST, server.port)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"\r\n" + body)
        time.sleep(after_s)


def test_requests_whose_clients_left_are_not_worked_on(server) -> None:
    n, asked = 40, {"max_tokens": 200, "temperature": 1.0, "top_k": 300}
    started = time.monotonic()
    with ThreadPoolExecutor(n) as pool:
        assert {status for status, _ in pool.map(lambda _: post(server, **asked), range(n))} == {
            200
        }
    all_s = time.monotonic() - started
    for stream in (False, True):
        took = []
        for _ in range(3):  # other work on the machine may slow one of them
            for _ in range(n):
                leave(server, **asked, stream=stream)
            started = time.monotonic()
            assert post(server, max_tokens=1)[0] == 200
            took.append(time.monotonic() - started)
        assert min(took) < all_s / 2


def test_beyond_those_that_may_wait_a_request_is_told_to_come_again() -> None:
    sent: list[Any] = []

    async def ask_twice() -> None:
        free = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await free.wait()

        async def send(message: Any) -> None:
            sent.append(message)

        door: Any = Waiting(app, most=1, refusal=too_many)
        first = asyncio.ensure_future(door({"type": "http"}, None, send))
        await asyncio.sleep(0)
        await door({"type": "http"}, None, send)
        free.set()
        await first
        await door({"type": "http"}, None, send)

    asyncio.run(ask_twice())
    assert [one["status"] for one in sent if "status" in one] == [429]
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == 429


def test_nothing_that_was_asked_is_in_the_log(server) -> None:
    post(server, response_format=form({"const": SECRET, "type": 5}))
    post(server, temperature="x")
    text = server.log_path.read_text(errors="replace")
    for one in (SECRET, "Traceback", "llg error", "socket.send"):
        assert one not in text


def test_of_two_limits_the_newer_option_counts(bundle) -> None:
    requests = Requests(ChatIds(bundle), AnswerForms(bundle), 24)
    data = json.dumps({"messages": CHATS[0], "max_tokens": 4, "max_completion_tokens": 2}).encode()
    assert requests.read(data).llama["n_predict"] == 2


def test_clients_that_leave_leave_no_open_file(server) -> None:
    def n_open() -> int:
        """Of the server, which is the child of what was started."""
        one = psutil.Process(server.process.pid)
        return max(child.num_fds() for child in (one, *one.children(recursive=True)))

    assert post(server, max_tokens=1)[0] == 200
    before = n_open()
    for stream in (False, True):
        for i in range(15):
            leave(server, i % 3 / 500, stream=stream, max_tokens=200)
    until = time.monotonic() + 30
    while n_open() > before + 2:
        assert time.monotonic() < until, (before, n_open())
        time.sleep(0.1)
    body = b'POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"'
    with socket.create_connection((HOST, server.port)) as connection:
        connection.sendall(body)
    assert post(server, max_tokens=1)[0] == 200
    assert "Traceback" not in server.log_path.read_text(errors="replace")


def test_very_long_requests_keep_no_other_waiting(server) -> None:
    long = {"messages": [{"role": "user", "content": "1m" * 1_000_000}]}
    with ThreadPoolExecutor(6) as pool:
        started = time.monotonic()
        many = [pool.submit(post, server, **long) for _ in range(6)]
        assert post(server, max_tokens=1)[0] == 200
        took_s = time.monotonic() - started
        for status, answer in (one.result() for one in many):
            assert status == 400
            assert answer["error"]["message"].endswith("exceeds the context of 256 tokens.")
    assert took_s < 10, "minutes where all of them are cut whole"


def test_a_chat_that_is_too_long_is_not_cut_whole(bundle) -> None:
    chats = ChatIds(bundle)
    assert chats._longest < 100
    text = "1m" * 1_000_000
    chats._longest = math.inf  # as where it is not known
    started = time.process_time()
    with pytest.raises(ChatError, match="exceeds the context of 1,024 tokens"):
        chats.ids([{"role": "user", "content": text}], most=1024)
    assert time.process_time() - started < 0.5
    for most in (len(chats.ids(CHATS[1])), 10_000):
        assert chats.ids(CHATS[1], most=most) == chats.ids(CHATS[1])
    with pytest.raises(ChatError, match="exceeds"):
        chats.ids(CHATS[1], most=len(chats.ids(CHATS[1])) - 1)
