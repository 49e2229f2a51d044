"""A student that is no language model, in a real server process, asked by the API's own client."""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from predictor_student import WORDS, rows, trained
from served_bundle import call, post
from starlette.testclient import TestClient

from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.http_api import chat_of, parsed
from stratos.deploy.engines.predictor import EncoderServer, PredictorServer, server_of, setting_of
from stratos.deploy.engines.predictor_server import application
from stratos.deploy.server import Server
from stratos.models.kinds import Prediction, Predictor, load_predictor
from stratos.records import ServingSetting

TEXTS = [row["text"] for row in rows(12, seed=1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "student"
    trained().save(folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[Prediction]:
    found = load_predictor(folder).predict(TEXTS)
    assert {prediction.text for prediction in found} == set(WORDS)
    return found


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving_bundle(folder, PredictorServer().setting(), log) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "student", "messages": [{"role": "user", "content": text}], **more}


def test_the_answer_and_its_probability_are_those_of_the_student(client, expected):
    for text, known in zip(TEXTS, expected, strict=True):
        found = client.chat.completions.create(**asked(text, logprobs=True, top_logprobs=3))
        [choice] = found.choices
        assert (choice.message.content, choice.finish_reason) == (known.text, "stop")
        assert choice.logprobs is not None and choice.logprobs.content is not None
        total = sum(token.logprob for token in choice.logprobs.content)
        assert math.exp(total) == pytest.approx(known.probability, rel=1e-5)
        [token] = choice.logprobs.content
        assert token.token == known.text
        told = {one.token: math.exp(one.logprob) for one in token.top_logprobs}
        assert set(told) == set(WORDS) and sum(told.values()) == pytest.approx(1, abs=1e-5)
        assert found.usage is not None
        n_words = len(text.split())
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (n_words, 1)
    plain = client.chat.completions.create(**asked(TEXTS[0], logprobs=True))
    assert plain.choices[0].logprobs.content[0].top_logprobs == []
    assert client.chat.completions.create(**asked(TEXTS[0])).choices[0].logprobs is None
    assert [one.id for one in client.models.list()] == ["student"]


def test_its_process_has_no_torch(client, server):
    client.chat.completions.create(**asked(TEXTS[0]))
    process = psutil.Process(server.process.pid)
    files = [Path(one.path).name for one in process.memory_maps()]
    assert any(name.startswith("_multiarray_umath") for name in files), "NumPy is seen"
    assert not [name for name in files if "torch" in name or "tensorflow" in name]


def test_many_at_once_are_answered_each_with_its_own(client, expected):
    with ThreadPoolExecutor(24) as pool:
        found = pool.map(
            lambda text: client.chat.completions.create(**asked(text)).choices[0].message.content,
            TEXTS * 8,
        )
        assert list(found) == [one.text for one in expected] * 8


def test_the_last_message_of_the_user_is_read_alone(client, expected):
    messages = [
        {"role": "system", "content": "Classify the text: transfer, wire, iban."},
        {"role": "user", "content": TEXTS[1]},
        {"role": "assistant", "content": "loan"},
        {"role": "user", "content": [{"type": "text", "text": TEXTS[0]}]},
    ]
    found = client.chat.completions.create(model="student", messages=messages, temperature=0.7)
    assert found.choices[0].message.content == expected[0].text


def test_a_lone_surrogate_is_answered(server, expected):
    for text in ("\ud800 {}", "{} \udfff", "\ud800\\{}"):
        status, answer = post(server, **asked(text.format(TEXTS[0])))
        assert (status, answer["choices"][0]["message"]["content"]) == (200, expected[0].text)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb"a\ud800 b", "a? b"), (rb"a\uDFFF", "a?"), (rb"\ud83d\ude00\ud83d", "😀?"),
        (rb"\\ud800\ud800", r"\ud800?"), (rb"\ude00\ud83d\ude00", "?😀"),
    ],
)  # fmt: skip
def test_each_lone_surrogate_is_a_question_mark_and_all_else_stays(sent, text):
    assert parsed(b'{"x": "' + sent + b'"}') == {"x": text}


def test_a_stop_text_ends_the_answer_also_of_a_stream(client, expected):
    text, stop = expected[0].text, expected[0].text[2:]
    found = client.chat.completions.create(**asked(TEXTS[0], stop=stop))
    assert found.choices[0].message.content == text[:2]
    for more, whole in (({}, text), ({"stop": stop}, text[:2])):
        parts = list(client.chat.completions.create(**asked(TEXTS[0], stream=True, **more)))
        assert "".join(part.choices[0].delta.content or "" for part in parts) == whole
        assert parts[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "system", "content": "x"}]}, {"n": 2}, {"top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 21}, {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}}, {"max_tokens": 0},
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_refused_as_the_api_does(server, more):
    status, answer = post(server, **asked("x", **more))
    assert (status, answer["error"]["code"]) == (400, 400)
    assert answer["error"]["type"] == "invalid_request_error" and answer["error"]["message"]


def test_other_paths_and_long_requests_are_refused(server, client, expected):
    assert call(server, "POST", "/v1/completions", b"{}")[0] == 404
    assert post(server, **asked("x" * 3_000_000))[0] == 413
    long = client.chat.completions.create(**asked(f"{TEXTS[0]} " * 2000))
    assert long.choices[0].message.content == expected[0].text


class Fragile(Predictor):
    """A student that fails at one text."""

    format = "fragile"
    n_params = 1

    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        if "fail" in texts:
            raise ZeroDivisionError
        return [Prediction(text.upper(), 0.0) for text in texts]

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Fragile:
        return cls()


def test_a_text_that_the_student_fails_at_is_an_error_and_the_next_is_answered():
    with TestClient(application(Fragile(), "fragile", 4)) as client:
        failed = client.post("/v1/chat/completions", json=asked("fail"))
        assert (
            failed.status_code == 500 and "ZeroDivisionError" in failed.json()["error"]["message"]
        )
        answered = client.post("/v1/chat/completions", json=asked("a", logprobs=True)).json()
        assert answered["choices"][0]["message"]["content"] == "A"
        assert answered["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0
        assert client.get("/health").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "encoder"])
def test_other_kinds_are_served_by_their_engine(kind, tmp_path):
    trained(kind, tmp_path / "pretrained").save(tmp_path / "student")
    engine = server_of(tmp_path / "student")
    assert type(engine) is (EncoderServer if kind == "encoder" else PredictorServer)
    known = load_predictor(tmp_path / "student").predict(TEXTS[:1])
    with serving_bundle(tmp_path / "student", engine.setting(), tmp_path / "log") as server:
        status, found = post(server, **asked(TEXTS[0], logprobs=True))
        assert status == 200 and found["choices"][0]["message"]["content"] == known[0].text
        told = found["choices"][0]["logprobs"]["content"][0]["logprob"]
        assert told == pytest.approx(math.log(known[0].probability), abs=1e-4)


def test_a_bundle_is_served_by_the_engine_of_its_student_whatever_is_named(folder, tmp_path):
    own = ServingSetting("predictor", slots=4)
    llama = ServingSetting("llamacpp", slots=8, format="q8_0")
    assert setting_of(folder, own) == own
    assert setting_of(folder, llama) == setting_of(folder, None) == PredictorServer().setting()
    assert setting_of(tmp_path, llama) == llama
    assert setting_of(tmp_path, None) is None


def test_a_damaged_student_is_said_and_nothing_is_served(folder, tmp_path):
    (tmp_path / "student.json").write_text('{"format": "other"}')
    done = subprocess.run(
        [sys.executable, "-m", PredictorServer.module, "serve", str(tmp_path), "--port", "0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert "describes no student" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),  # what a page of another site may send unasked
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json", "Host": "rebound.example"}, 421),
        ({"Content-Type": "application/json; charset=utf-8", "Host": "localhost:1"}, 200),
        ({"Content-Type": "application/json", "Host": "[::1]:8000"}, 200),
    ],
)
def test_pages_of_other_sites_are_not_answered(server, headers, status):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = json.dumps(asked(TEXTS[0]))
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    assert answer.status == status
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_developer_is_the_system_of_a_chat():
    """OpenAI's clients write developer; templates of chats know system alone."""
    messages = [{"role": "developer", "content": "Route it."}, {"role": "user", "content": "Hi"}]
    assert [turn["role"] for turn in chat_of(messages)] == ["system", "user"]
