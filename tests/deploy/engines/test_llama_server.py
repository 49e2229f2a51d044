"""llama.cpp behind a bundle's tokenizer: it answers as transformers does, and refuses the rest."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from served_bundle import CHATS, by_llama_alone, by_transformers, call, make_bundle, served

from stratos.core.errors import StratosError
from stratos.deploy.engines import chat_request, llama_server
from stratos.deploy.engines.base import export_path
from stratos.deploy.engines.chat_ids import (
    ChatError,
    ChatIds,
    first_difference,
)
from stratos.deploy.engines.chat_request import AnswerForms, why_no_grammar
from stratos.deploy.engines.gguf_file import by_llama, cannot_export, export, write_gguf
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.server import HOST, Server
from stratos.distill.tokenizer import symbol_tokenizer
from stratos.models.decode.batched import complete
from stratos.models.pretrained import load_model, load_tokenizer, sample_chat
from stratos.records import ServingSetting
from stratos.tasks.mahjong import DiscardTask, MahjongTask

pytestmark = pytest.mark.skipif(
    LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable())
)
SECRET = "Rumpelstilzchen"
"""In requests here, and never in the log."""
CHAT = [{"role": "user", "content": f"{SECRET} orders?"}]


@pytest.fixture(scope="module")
def expected(bundle: Path) -> list[str]:
    """What transformers answers, greedily."""
    return by_transformers(bundle)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    run = ServingSetting("llamacpp", slots=2, format="f32")
    with served(bundle, run, LlamaCpp.module, tmp_path_factory.mktemp("log")) as started:
        yield started


def post(server: Server, body: Any = None, **more: Any) -> tuple[int, bytes]:
    data = (
        body if isinstance(body, bytes) else json.dumps(body or {"messages": CHAT, **more}).encode()
    )
    return call(server, "POST", "/v1/chat/completions", data)


def ask(server: Server, chat: Any, **more: Any) -> dict[str, Any]:
    status, text = post(server, {"model": "m", "messages": chat, **more})
    assert status == 200, text
    return json.loads(text)


def text_of(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def refusal(answer: tuple[int, bytes]) -> str:
    """Return why a request was refused."""
    status, text = answer
    assert status == 400
    error = json.loads(text)["error"]
    assert error["type"] == "invalid_request_error" and "\n" not in error["message"]
    return error["message"]


def test_it_answers_as_transformers_alone_and_many_at_once(server, expected):
    assert [text_of(ask(server, chat)) for chat in CHATS] == expected
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda chat: text_of(ask(server, chat)), CHATS * 6))
    assert answers == expected * 6


def test_it_says_how_likely_its_answers_are_as_the_evaluation_does(server, bundle):
    model, tokenizer = load_model(bundle, dtype="auto"), load_tokenizer(bundle)
    options = {"max_new_tokens": 24, "batch_size": 4, "with_logprobs": True}
    for chat, right in zip(CHATS, complete(model, tokenizer, CHATS, **options), strict=True):
        [choice] = ask(server, chat, max_tokens=24, logprobs=True)["choices"]
        tokens = choice["logprobs"]["content"]
        assert sum(token["logprob"] for token in tokens) == pytest.approx(right.logprob, abs=0.02)
        assert len(tokens) == right.output_tokens and all(token["token"] for token in tokens)
        assert "logprobs" not in ask(server, chat, max_tokens=2)["choices"][0]


def test_long_requests_are_refused_and_others_are_answered(server, expected):
    def long(n: int) -> bytes:
        return json.dumps({"messages": [{"role": "user", "content": "1m" * n}]}).encode()

    status, text = post(server, long(2_000_000))
    assert status == 413 and b"A request may have 2 MiB." in text
    with ThreadPoolExecutor(6) as pool:  # 1.9 MiB: longer than the context
        started = time.monotonic()
        many = [pool.submit(post, server, long(950_000)) for _ in range(6)]
        assert text_of(ask(server, CHATS[0])) == expected[0]
        assert time.monotonic() - started < 10
        for request in many:
            assert refusal(request.result()).endswith("exceeds the context of 256 tokens.")


def test_usage_and_the_reason_of_the_end_are_told(server, bundle):
    answer = ask(server, CHATS[0], max_tokens=9, max_completion_tokens=5)  # the newer counts
    assert answer["choices"][0]["finish_reason"] == "length"
    n_prompt = len(ChatIds(bundle).ids(CHATS[0]))
    assert answer["usage"] == {
        "prompt_tokens": n_prompt, "completion_tokens": 5, "total_tokens": n_prompt + 5,
    }  # fmt: skip


def test_a_stream_is_the_same_answer_in_parts(server, expected):
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


def test_a_stream_may_have_line_separators_that_json_does_not_escape(server):
    text = "a\u2028b\u2029c\x85d"
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": text}}}
    request = {"messages": CHATS[0], "response_format": schema, "max_tokens": 200}
    assert json.loads(text_of(ask(server, CHATS[0], **request))) == text
    _, answer = post(server, {**request, "stream": True})
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
    parts = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert json.loads("".join(parts)) == text and answer.endswith(b"data: [DONE]\n\n")


def test_a_stop_sequence_ends_the_answer_also_of_a_stream(server, expected):
    stop = expected[0][4:7]
    until = expected[0][: expected[0].index(stop)]
    answer = ask(server, CHATS[0], stop=[stop])
    assert text_of(answer) == until and answer["choices"][0]["finish_reason"] == "stop"
    _, text = post(server, {"messages": CHATS[0], "stop": stop, "stream": True})
    lines = [line[6:] for line in text.decode().splitlines() if line.startswith("data: {")]
    parts = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines]
    assert "".join(parts) == until


def raw(rest: str) -> bytes:
    return f'{{"messages": {json.dumps(CHAT)}, {rest}}}'.encode()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"no json", "JSON is malformed"),
        (b'{"messages":"\xff"}', "UTF-8"),
        (raw('"x": ' + "[" * 5000 + "]" * 5000), "too many lists and objects"),
        (raw('"temperature": NaN'), "JSON is malformed"),
        (raw('"temperature": 1e400'), "out of range"),
        (raw('"temperature": -5'), "$.temperature"),
        (raw('"top_k": 100000000000000000000'), "$.top_k"),
        (raw('"max_tokens": 0'), "$.max_tokens"),
        (raw('"max_completion_tokens": 9223372036854775808'), "$.max_completion_tokens"),
        (raw('"n": 2'), "$.n"),
        (raw('"logprobs": true, "stream": true'), "answers are given whole. Leave stream out."),
        (raw('"tools": [{"name": "a"}]'), "tools: the chat template of this model takes none."),
        (raw('"tool_choice": "required"'), "$.tool_choice"),
        (raw('"top_logprobs": 5'), "top_logprobs: this server does not have it."),
        (raw('"stop": ' + json.dumps(["x"] * 65)), "$.stop"),
        (raw('"x": "\\ud800\\u"'), "truncated"),
        (raw('"response_format": {"type": "json_schema"}'), "response_format: expected"),
        (raw('"response_format": {"type": "grammar"}'), "response_format: expected"),
        (b'{"messages": []}', "$.messages"),
        (b'{"messages": [{"role": "robot", "content": "a"}]}', "$.messages[0].role"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "one of role user at least."),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', ".type"),
        (raw('"stream": true').replace(SECRET.encode(), b"word " * 400), "exceeds the context"),
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_refused_and_said(server, body, where):
    assert where in refusal(post(server, body))
    assert server.process.poll() is None


def test_paths_that_it_does_not_have_are_told_as_the_api_does(server):
    for method, path, status in (
        ("POST", "/v1/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/v1/chat/completions", 405),
    ):
        code, text = call(server, method, path)
        assert code == status
        answer = json.loads(text)
        assert answer["error"]["message"].startswith(f"{method} {path}: this server does not have")


def test_the_model_is_named_by_its_folder_alone(server, bundle):
    _, models = call(server, "GET", "/v1/models")
    assert json.loads(models)["data"][0]["id"] == bundle.name
    assert ask(server, CHAT, model=str(bundle), max_tokens=1)["model"] == bundle.name


def leave(server: Server, after_s: float = 0.01, **more: Any) -> None:
    body = json.dumps({"messages": CHAT, **more}).encode()
    with socket.create_connection((HOST, server.port)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"\r\n" + body)
        time.sleep(after_s)


def test_a_grammar_that_llguidance_gives_up_is_refused_however_fast(monkeypatch):
    monkeypatch.setattr(chat_request, "MOST_S", 60.0)
    assert "too long" in why_no_grammar('{"type": "string", "pattern": "^((a{97}){97}){97}$"}')


def test_requests_whose_clients_left_are_not_worked_on(server):
    def cpu_s() -> float:
        starter = psutil.Process(server.process.pid)
        family = (starter, *starter.children(recursive=True))
        return sum(sum(process.cpu_times()[:2]) for process in family)

    def work_s(send: Any, **options: Any) -> float:
        before, options = cpu_s(), {"max_tokens": 200, "temperature": 1.0, "top_k": 300, **options}
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(lambda _: send(server, **options), range(40)))
        assert post(server, max_tokens=1)[0] == 200
        return cpu_s() - before

    answered_s, least_s = work_s(post), work_s(post, max_tokens=1)
    for stream in (False, True):
        # Beside other work a client may come to leave when all of them are answered.
        left_s = min(work_s(leave, stream=stream) for _ in range(3))
        assert left_s < least_s + (answered_s - least_s) / 2


def test_clients_that_leave_leave_no_open_file(server):
    def n_open() -> int:
        """Of the server, which is the child of what was started."""
        starter = psutil.Process(server.process.pid)
        return max(child.num_fds() for child in (starter, *starter.children(recursive=True)))

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


def test_nothing_that_was_asked_is_in_the_log(server):
    post(server, response_format=form({"const": SECRET, "type": 5}))
    post(server, temperature="x")
    text = server.log_path.read_text(errors="replace")
    for words in (SECRET, "Traceback", "llg error", "socket.send"):
        assert words not in text


def test_a_file_that_somebody_changed_is_refused_before_llama_cpp_reads_it(
    bundle, tmp_path, capsys
):
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    path = export_path(mine, "f32.gguf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60))
    with pytest.raises(SystemExit, match="1"):
        llama_server.main(["serve", str(mine), "--format", "f32"])
    told = capsys.readouterr().err
    assert told.startswith(f"llama.cpp cannot load {path} (f32.gguf: it states"), told


def test_a_bundle_whose_template_does_not_end_is_not_served(bundle, tmp_path, monkeypatch):
    mine = tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    monkeypatch.setattr(sample_chat, "SECONDS", 1.0)
    (mine / "chat_template.jinja").write_text("{{ 9**99999999 }}")
    with pytest.raises(StratosError, match="does not end on a short chat"):
        ChatIds(mine)


# The form of an answer.


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, **more}}


def test_an_answer_matches_the_schema_that_a_request_names(server):
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "maximum": 9}},
        "required": ["kind", "legs"],
        "additionalProperties": False,
    }
    animal = json.loads(
        text_of(ask(server, CHATS[0], response_format=form(schema), max_tokens=100))
    )
    assert animal["kind"] in ("cat", "dog") and isinstance(animal["legs"], int)
    assert ask(server, CHAT, response_format={"type": "text"})["choices"]


SLOW = {
    "allOf": [{"type": "string", "pattern": f".*{char}.{{100}}"} for char in "abcdefghijklmnopqrst"]
}
"""Small, and minutes of work: all patterns have to match at once."""


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": 5}, "type must be a string or array of strings"),
        ({"type": "string", "pattern": "^[$"}, "unclosed character class"),
        ({"$ref": "#/$defs/x"}, "'/$defs/x' does not exist"),
        ({"$ref": "http://127.0.0.1:1/x"}, "not present in a registry"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "integer", "minimum": 5, "maximum": -5}, "minimum (5) is greater"),
        ({"allOf": [{"$ref": "#"}]}, "no finite answer matches it."),
        ({"type": "integer", "multipleOf": 999983}, "a grammar of it takes too long"),
        (SLOW, "a grammar of it takes too long, or too much memory."),
        ({"pattern": "^((a{90}){90}){90}$", "type": "string"}, "takes too long"),
        ({"const": "x" * 70_000}, "it may have 64 KiB."),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(server, schema, why):
    for stream in (False, True):
        message = refusal(post(server, response_format=form(schema), stream=stream))
        assert message.startswith("response_format: the schema is refused: ") and why in message


def test_what_a_grammar_cannot_say_makes_it_wider_unless_it_is_strict(server):
    schema = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 3}
    assert set(json.loads(text_of(ask(server, CHAT, response_format=form(schema))))) <= {1, 2}
    assert "uniqueItems" in refusal(post(server, response_format=form(schema, strict=True)))


def test_a_vocabulary_that_cannot_write_json_is_said(bundle, tmp_path):
    spec = json.loads((bundle / "tokenizer.json").read_text())
    spec["model"] = {"type": "WordLevel", "vocab": {"1p": 0, "2p": 1}, "unk_token": "1p"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert AnswerForms(tmp_path).options({"type": "text"}) == {}
    with pytest.raises(ValueError, match="the vocabulary of this model cannot write JSON"):
        AnswerForms(tmp_path).options(form({"type": "object"}))


# Files for llama.cpp.


def test_llama_cpp_itself_cuts_byte_pairs_as_transformers(bundle):
    own = ChatIds(bundle)
    ids = by_llama(export_path(bundle, "q8_0.gguf"), CHATS)
    expected = [own.ids(chat) for chat in CHATS]
    assert ids == expected and first_difference(expected, ids, own) == ""
    ids[2][3] = 7
    where = first_difference(expected, ids, own)
    assert where.startswith("question 3, token 4: ") and " becomes 7 (" in where


@pytest.mark.parametrize("task", [MahjongTask(), DiscardTask()], ids=lambda task: task.name)
def test_a_file_of_symbols_alone_answers_chats_as_the_server_does(task, tmp_path):
    chats = [task.student_messages(item) for item in task.items("validation", 4)]
    chats += [[*chat, {"role": "assistant", "content": "=> 147m"}, *chat] for chat in chats[:2]]
    chats += [[{"role": "user", "content": text}] for text in ("Hand: 1123m?", "66666p\n", "é")]
    tokenizer = symbol_tokenizer(task.vocabulary())
    bundle = make_bundle(tmp_path / "symbols", ("f32",), tokenizer=tokenizer, chats=chats)
    own, file = ChatIds(bundle), export_path(bundle, "f32.gguf")
    assert by_llama(file, chats) == [own.ids(chat) for chat in chats]
    run = ServingSetting("llamacpp", slots=1, format="f32")
    with served(bundle, run, LlamaCpp.module, tmp_path) as server:
        texts = [text_of(ask(server, chat)) for chat in chats]
    assert by_llama_alone(file, chats, most=24) == texts
    assert len(set(texts)) > 3


def test_a_tokenizer_that_gguf_cannot_express_is_refused_by_llama_cpp_itself(bundle, tmp_path):
    path = tmp_path / "q8_0.gguf"
    assert write_gguf(bundle, path, "q8_0", ids_only=True) is False
    with pytest.raises(StratosError, match="This file takes token ids alone: GGUF cannot express"):
        by_llama(path, CHATS)


def test_own_tokens_that_differ_are_found_out_and_leave_the_tokenizer_out(
    bundle, tmp_path, monkeypatch, snapshot
):
    from stratos.deploy.engines import gguf_file

    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    monkeypatch.setattr(gguf_file, "_cut_of", lambda spec: "smollm")  # cuts numbers into digits
    note = export(copy, ("f32",), CHATS)
    assert note == snapshot
    with pytest.raises(StratosError, match="takes token ids alone"):
        by_llama(export_path(copy, "f32.gguf"), CHATS)


def test_formats_are_of_the_sizes_that_their_bits_say(bundle, tmp_path):
    sizes = {}
    for form in ("f32", "f16", "q8_0", "q4_k_m"):
        write_gguf(bundle, tmp_path / f"{form}.gguf", form)
        sizes[form] = (tmp_path / f"{form}.gguf").stat().st_size
    assert sizes["f32"] > 1.8 * sizes["f16"] > 1.8 * sizes["q8_0"]
    assert sizes["q8_0"] > sizes["q4_k_m"]


@pytest.mark.parametrize(
    ("changes", "form", "why"),
    [
        ({"model_type": "gemma2"}, "f32", "its architecture is gemma2"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "f32", "is scaled (llama3)"),
        ({"hidden_size": 96, "intermediate_size": 128}, "q4_k_m", "256 divides"),
        ({"hidden_size": 48}, "q8_0", "32 divides, and its widths are 48 and 256"),
        ({}, "q4_k_m", None),
    ],
)
def test_what_cannot_be_written_is_said(bundle, tmp_path, changes, form, why):
    facts = json.loads((bundle / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**facts, **changes}))
    reason = cannot_export(tmp_path, form)
    assert reason is None if why is None else why in str(reason)


def test_a_missing_export_is_said(bundle):
    done = subprocess.run(
        [sys.executable, "-m", LlamaCpp.module, "serve", str(bundle), "--format", "f16"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"{bundle} has no f16 export for llama.cpp.\n"


def test_calls_are_given_as_the_api_has_them():
    from stratos.deploy.engines.chat_request import calls_of

    [call] = calls_of('[{"name": "a", "arguments": {"é": 1}}]')
    assert call["function"] == {"name": "a", "arguments": '{"é": 1}'}
    assert call["type"] == "function"
    for text in ("[]", "none", '[{"x": 1}]', '{"name": "a"}', "[" * 9000):
        assert calls_of(text) == []


def test_an_answer_has_as_many_calls_as_the_request_takes():
    from stratos.deploy.engines.chat_request import message_of

    text = '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]'
    for most, names in ((None, ["a", "b"]), (1, ["a"])):
        message, finish = message_of(text, "stop", most)
        assert [call["function"]["name"] for call in message["tool_calls"]] == names
        assert finish == "tool_calls"
    assert message_of(text, "stop", 0) == ({"role": "assistant", "content": text}, "stop")


# Chats as ids, and ids as text.


def test_ids_and_text_are_those_of_transformers(bundle):
    tokenizer, own = load_tokenizer(bundle), ChatIds(bundle)
    for text in ("  two  spaces\nand a line", "naïve 日本 🀄 tiles", "<user>not a role<end>", ""):
        for chat in (
            [{"role": "user", "content": text}],
            [{"role": "system", "content": "Be short."}, {"role": "user", "content": text},
             {"role": "assistant", "content": text}, {"role": "user", "content": "And?"}],
        ):  # fmt: skip
            ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
            assert own.ids(chat) == own.ids(chat, most=len(ids)) == list(ids)
            assert own.text(ids) == tokenizer.decode(ids, skip_special_tokens=True)
            with pytest.raises(ChatError, match="exceeds"):
                own.ids(chat, most=len(ids) - 1)


def test_a_template_that_refuses_a_chat_is_an_error_of_the_user(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "refusing")
    template = tmp_path / "refusing" / "chat_template.jinja"
    template.write_text("{{ raise_exception('no system here') }}")
    with pytest.raises(ChatError, match="does not take this chat: no system here"):
        ChatIds(tmp_path / "refusing").ids([{"role": "user", "content": "x"}])


def test_its_process_has_no_torch(bundle):
    code = (
        "import sys; from pathlib import Path; "
        "from stratos.deploy.engines.chat_ids import ChatIds; "
        f"ChatIds(Path({str(bundle)!r})).ids([dict(role='user', content='1m')]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
