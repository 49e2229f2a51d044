from __future__ import annotations

import pytest

from stratos.core.redact import redact, redact_override, redact_text


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
def test_known_shapes_of_secrets_are_hidden(text: str, clean: str) -> None:
    assert redact_text(text) == clean


def test_values_under_secret_names_are_hidden_and_counts_are_not() -> None:
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


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PROVIDER_API_KEY", "plain-looking-value")
    assert redact_text("Bearer plain-looking-value") == "Bearer ***"


def test_overrides_keep_their_key() -> None:
    assert redact_override("teacher.api_key=abc") == "teacher.api_key=***"
    assert redact_override("trainer.max_tokens=1000") == "trainer.max_tokens=1000"
    assert redact_override("~logger") == "~logger"
