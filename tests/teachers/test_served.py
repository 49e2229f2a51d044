"""A real server behind the faults: transformers serve with SmolLM2 on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.server import HOST, free_port, serving
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.provider import EVERY_FAULT, Provider, Reply
from tests.teachers.questions import cached_ask, chat
from tests.teachers.real_teacher import needs_smollm2, smollm2

QUESTIONS = ["The capital of France is", "2 + 2 =", "Say hello.", "A cat is an", "The sky is"]


CHATS = [chat(text) for text in QUESTIONS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    loaded, tokenizer = smollm2().load()
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def upstream(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    arguments = serve_arguments(str(model), HOST, port)
    with serving(arguments, port=port, log_path=log, start_seconds=300) as running:
        yield f"{running.url}/v1"


@needs_smollm2
@pytest.mark.slow
def test_a_real_model_is_asked_through_every_kind_of_fault(
    upstream: str, model: Path, context: Context
) -> None:
    def rule(text: str, n_tries: int) -> Reply:
        faults = EVERY_FAULT[QUESTIONS.index(text) :: len(QUESTIONS) * 8]
        return faults[n_tries - 1] if n_tries <= len(faults) else Reply()

    fields = {"model": str(model), "api_key_env": None, "timeout_s": 120.0}
    direct = OpenAITeacher("smollm2", base_url=upstream, **fields)
    assert direct.unreachable() is None
    plain = direct.ask(CHATS, 6)
    local = smollm2().ask(CHATS, 6)
    assert [answer.text.strip() for answer in plain] == [answer.text.strip() for answer in local]
    with Provider(rule, upstream=upstream) as server:
        teacher = OpenAITeacher("smollm2", base_url=server.base_url, concurrency=2, **fields)
        answers = cached_ask(teacher, CHATS, 6, context)
    assert [answer.text for answer in answers] == [answer.text for answer in plain]
    assert [answer.input_tokens for answer in answers] == [answer.input_tokens for answer in local]
    assert all(0 < answer.output_tokens <= 6 for answer in answers)
    assert set(server.answered.values()) == {1}
    assert min(server.tries.values()) >= 4


@pytest.mark.slow
@needs_smollm2
def test_a_model_that_the_server_does_not_have(upstream: str, model: Path) -> None:
    absent = OpenAITeacher(
        "other", f"{model}-x", base_url=upstream, api_key_env=None, max_retries=0
    )
    with pytest.raises(
        TeacherError, match=r"has no model .*-x\..* Choose one with teacher\.model="
    ):
        absent.ask(CHATS[:1], 4)
