from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator

import pytest

from stratos.core import redact as module
from stratos.core.redact import redact, redact_override, redact_shapes, redact_text

ENCRYPTED = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0011\n\n"
    "MIIEpAIBAAKCAQEAsecret\n-----END RSA PRIVATE KEY-----"
)
KEYS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-abcdefghijklmnop1234",
    "hf_abcdefghijklmnopqrstuvwx12",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "glpat-abcdefghijklmnop1234",
    "AIzaSyA-abcdefghijklmnopqrstuvwx",
    "xoxb-1234567890-abcdef",
    "ya29.abcdefghijklmnopqrstuvwx",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnopqrst",
    ENCRYPTED,
]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("sk-abcdefghijklmnop1234", "***"),
        ("key=hf_abcdefghijklmnopqrst!", "key=***!"),
        ("s3://me:secret@bucket/x.csv", "s3://***@bucket/x.csv"),
        ("https://h/x?sig=abc%2F&v=1", "https://h/x?sig=***&v=1"),
        ("https://h/x?X-Amz-Signature=abc", "https://h/x?X-Amz-Signature=***"),
        ("python -m stratos +task=mahjong", "python -m stratos +task=mahjong"),
        ("task-1 risk-averse-something-long", "task-1 risk-averse-something-long"),
    ],
)
def test_known_shapes_of_secrets_are_hidden(text, clean):
    assert redact_text(text) == clean


def test_values_under_secret_names_are_hidden_and_counts_are_not():
    config = {
        "teacher": {"api_key": "whatever", "api_key_env": "OPENAI_API_KEY", "max_tokens": 32},
        "list": [{"password": "x"}, "s3://a:b@c"],
        "hub_token": None,
        "tokens": "20M",
    }
    assert redact(config) == {
        "teacher": {"api_key": "***", "api_key_env": "OPENAI_API_KEY", "max_tokens": 32},
        "list": [{"password": "***"}, "s3://***@c"],
        "hub_token": None,
        "tokens": "20M",
    }


def test_values_of_secret_variables_are_hidden(monkeypatch):
    monkeypatch.setenv("MY_PROVIDER_API_KEY", "plain-looking-value")
    assert redact_text("Bearer plain-looking-value") == "Bearer ***"


def test_overrides_keep_their_key():
    assert redact_override("teacher.api_key=abc") == "teacher.api_key=***"
    assert redact_override("trainer.max_tokens=1000") == "trainer.max_tokens=1000"
    assert redact_override("~logger") == "~logger"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", "我的密钥是", "キーは", "Ключ", "MY_", "(", "key=", "%3D"])
def test_a_key_is_hidden_whatever_stands_before_it(key, before):
    assert redact_shapes(f"{before}{key} and more") == (f"{before}*** and more", 1)
    assert redact_text(f"{before}{key}") == f"{before}***"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["\n", "\t", "\r\n", "密", "ü ", '"'])
@pytest.mark.parametrize("times", [1, 2])
def test_no_escape_of_json_hides_a_key(key, before, times):
    value = f"{before}{key}"
    for _ in range(times):
        value = json.dumps({"a": value, "b": 1})
    text, n = redact_shapes(value)
    assert n == 1
    for _ in range(times):
        made = json.loads(text)
        text = made["a"]
    assert made == {"a": f"{before}***", "b": 1}


@pytest.mark.parametrize(
    "word", ["Bearer ", "Bearer  ", "Bearer\t", "bearer ", "BEARER ", r"Bearer\t"]
)
def test_a_bearer_token_is_hidden_however_its_word_is_written(word):
    token = "abcdefghijklmnopqrstuvwxyz012345"
    assert redact_shapes(f"Authorization: {word}{token}") == (f"Authorization: {word}***", 1)


def test_a_private_key_that_is_cut_off_leaves_json_whole():
    text, n = redact_shapes(json.dumps({"a": "-----BEGIN PRIVATE KEY-----\nMIIEvQ", "b": "x"}))
    assert n == 1 and json.loads(text) == {"a": "***", "b": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "load_hf_tokenizer_from_pretrained",
        "task-3f2a9c3f2a9c3f2a9c3f2a9c3f2a9c3f",
        "the bearer internationalisation-something",
        "påsk-ägg-och-annat-som-är-gott",
        "eyJust-some.words-that-are-long.and-dotted",
    ],
)
def test_words_are_no_keys(text):
    assert redact_shapes(text) == (text, 0)


@pytest.mark.parametrize(
    "part",
    ["eyJ-", "eyJaaaaaaaaaaa.", "sk-", "bearer a", "-----BEGIN A", "-----BEGIN PRIVATE KEY-----"],
)
def test_time_grows_with_the_length_of_a_text(part):
    start = time.process_time()
    redact_shapes(part * (200_000 // len(part)))
    assert time.process_time() - start < 2


def test_what_is_looked_at_first_misses_no_key(monkeypatch):
    rng = random.Random(0)
    begins = ("Bearer ", "bearer\\t", "BEARER%20", "sk-proj-", "sk-ant-api03-", "task-", "xoxb-")
    blocks = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----")
    parts = [*module._MARKS, *begins, *blocks, "\\n", "é", ".", "=", '"', " "]

    def text() -> str:
        lengths = (0, 3, 9, 10, 12, 15, 16, 20, 40)
        runs = ["".join(rng.choices("abXY09_-", k=rng.choice(lengths))) for _ in range(5)]
        return "".join(f"{rng.choice(parts)}{run}" for run in runs)

    texts = [text() for _ in range(2000)]
    found = [redact_shapes(one) for one in texts]
    monkeypatch.setattr(module, "_MARKS", {"": re.compile("")})
    assert found == [redact_shapes(one) for one in texts]
    assert 500 < sum(n > 0 for _, n in found) < 1900


@pytest.fixture
def nothing_known() -> Iterator[None]:
    module.forget()
    yield
    module.forget()


@pytest.mark.usefixtures("nothing_known")
def test_keys_of_a_vendor_are_known_by_their_names_or_by_their_looks():
    hidden = {
        "vendor_pass": "hunter-on-the-hill",
        "xAuth": "four-words-of-mine-4",
        "sessionCookie": "abcdefgh",
        "nested": {"tenant": "Zk3vQ9xLpT7wYb2RmN5d", "list": ["0f" * 16]},
    }
    shown = {
        "reasoning_effort": "minimal-and-short",
        "model": "gpt-4o-mini-2024-07-18",
        "route": "Meta-Llama-3.1-8B-Instruct",
        "stop_token": "<|im_end|>",
        "prompt_cache_key": "customer support",
        "key": "temperature",
        "provider": "MetaLlama31Instruct8B",
        "tokenizer": "cl100k_base",
    }
    module.learn({"teacher": {"extra_body": {**hidden, **shown}}})
    kept = module.hide_known(json.dumps({**hidden, **shown}))
    assert kept.count("***") == 5 and all(value in kept for value in shown.values())
    module.forget()
    module.learn({"teacher": {"anything": hidden}})
    assert module.hide_known("Zk3vQ9xLpT7wYb2RmN5d") == "Zk3vQ9xLpT7wYb2RmN5d"


@pytest.mark.usefixtures("nothing_known")
def test_short_logins_stay_in_answers(monkeypatch):
    module.learn({"base_url": "http://admin:long-password@host"})
    answer = "admin has long-password"
    assert module.hide_known(answer) == "admin has ***"
    assert redact_text(answer) == "*** has ***"
    monkeypatch.setenv("SOME_API_KEY", "plain-value-of-env")
    assert redact_text("it is plain-value-of-env.") == "it is ***."


@pytest.mark.usefixtures("nothing_known")
def test_words_of_an_answer_stay_whatever_the_environment_holds(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "postgres")
    monkeypatch.setenv("KEYCLOAK_REALM", "insurance")
    assert module.hide_known("postgres insurance") == "postgres insurance"
