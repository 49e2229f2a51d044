"""A real server behind the faults: transformers serve with SmolLM2 on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_ask import cached_ask
from fault_server import EVERY_FAULT, Fault, FaultServer
from real_teacher import needs_smollm2, smollm2

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.server import HOST, free_port, serving
from stratos.teachers import scheduler
from stratos.teachers.openai import OpenAITeacher

QUESTIONS = ["The capital of France is", "2 + 2 =", "Say hello.", "A cat is an", "The sky is"]


def chats() -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in QUESTIONS]


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
    upstream: str, model: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.02)

    def rule(text: str, n_tries: int) -> Fault:
        faults = EVERY_FAULT[QUESTIONS.index(text) :: len(QUESTIONS) * 8]
        return faults[n_tries - 1] if n_tries <= len(faults) else Fault()

    fields = {"model": str(model), "api_key_env": None, "timeout_s": 120.0}
    direct = OpenAITeacher("smollm2", base_url=upstream, **fields)
    assert direct.unreachable() is None
    plain = direct.ask(chats(), 6)
    local = smollm2().ask(chats(), 6)
    assert [one.text.strip() for one in plain] == [one.text.strip() for one in local]
    with FaultServer(rule, upstream) as server:
        teacher = OpenAITeacher("smollm2", base_url=server.base_url, concurrency=2, **fields)
        answers = cached_ask(teacher, chats(), 6, context)
    assert [one.text for one in answers] == [one.text for one in plain]
    assert [one.input_tokens for one in answers] == [one.input_tokens for one in local]
    assert all(0 < one.output_tokens <= 6 for one in answers)
    assert set(server.answered.values()) == {1}
    assert min(server.tries.values()) >= 4


@needs_smollm2
def test_a_model_that_the_server_does_not_have(upstream: str, model: Path) -> None:
    other = OpenAITeacher("other", f"{model}-x", base_url=upstream, api_key_env=None, max_retries=0)
    with pytest.raises(
        TeacherError, match=r"has no model .*-x\..* Choose one with teacher\.model="
    ):
        other.ask(chats()[:1], 4)
