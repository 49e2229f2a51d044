"""vLLM serves students: the real one, where STRATOS_VLLM names an environment that has it.

`vllm_cpu.sh` beside this file makes one for machines without GPU. Each start takes it about a
minute of an idle machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from required import lacking
from served_bundle import CHATS, by_transformers, fitted_bundle, make_bundle

from stratos.cli.commands.serve import _setting
from stratos.core.errors import StratosError
from stratos.core.machine import group_memory
from stratos.deploy.bundle_server import ask, serving_bundle
from stratos.deploy.engines.base import ExportError
from stratos.deploy.engines.vllm import OWN_ENVIRONMENT, Vllm
from stratos.deploy.exports import make_exports, write_exports
from stratos.deploy.load_test import open_loop
from stratos.deploy.server import Server
from stratos.records import Exports, ServingSetting

ENGINE = Vllm(at_once=4, formats=("f32", "bf16"), format="bf16")
MOST = 24


@pytest.fixture(scope="module", params=["whole", "fitted"])
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with heads that vLLM has kernels for: of a whole model, and of a fitted one."""
    folder = tmp_path_factory.mktemp("bundle")
    return fitted_bundle(folder) if request.param == "fitted" else make_bundle(folder, (), heads=2)


@pytest.fixture(scope="module")
def server(narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not os.environ.get(OWN_ENVIRONMENT):
        lacking("vllm", f"{OWN_ENVIRONMENT} names no environment with vLLM: see vllm_cpu.sh")
    run = ServingSetting("vllm", slots=4, format="f32")
    with serving_bundle(narrow, run, tmp_path_factory.mktemp("log") / "server.log") as found:
        yield found
    assert group_memory(found.process.pid) == 0, "its workers end with it"


def test_it_answers_as_transformers_alone_and_many_at_once(server, narrow):
    expected = by_transformers(narrow)
    assert [ask(server.port, chat, MOST) for chat in CHATS] == expected
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda chat: ask(server.port, chat, MOST), CHATS * 6))
    assert found == expected * 6


def test_its_tokens_are_compared_with_those_of_transformers(server, narrow, monkeypatch):
    told = ENGINE.compare_tokens(server.url, narrow, CHATS)
    assert "all 4 questions" in told
    monkeypatch.setattr(Vllm, "_tokens", staticmethod(lambda url, bundle, chat: [1, 2]))
    with pytest.raises(ExportError, match="it makes other tokens of a question"):
        ENGINE.compare_tokens(server.url, narrow, CHATS)


def test_it_takes_requests_at_random_moments(server):
    found = open_loop(
        server, CHATS, requests_per_s=4.0, n_requests=12, max_tokens=MOST, seed=0,
        tick=lambda done, total: None, slots=4,
    )  # fmt: skip
    assert found.n_errors == 0 and found.tokens_per_s > 0


def test_a_run_that_vllm_served_is_hosted_by_transformers_where_there_is_none(
    tmp_path, monkeypatch, capsys
):
    write_exports(tmp_path, Exports("vllm", "vllm 0", "", (), served="bf16"))
    told = argparse.Namespace(format=None, engine=None, at_once=None)
    monkeypatch.setenv(OWN_ENVIRONMENT, str(tmp_path))
    assert _setting(told, tmp_path) is None
    said = capsys.readouterr().out
    why = f"{OWN_ENVIRONMENT}={tmp_path} is no virtual"
    assert said.startswith(f"transformers serves it for now. {why}")
    package = tmp_path / "lib" / "python3.12" / "site-packages" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert _setting(told, tmp_path) == ServingSetting("vllm", 16, format="bf16")


def test_heads_without_kernels_are_refused_before_it_starts(tmp_path):
    bundle = make_bundle(tmp_path, forms=(), heads=4)
    context: Any = type("Context", (), {"tick": None, "warn": None})
    with pytest.raises(StratosError) as refused:
        make_exports(
            bundle, ENGINE, [], None, context,  # type: ignore[arg-type]
            max_tokens=MOST, max_loss_points=1.0,
        )  # fmt: skip
    assert "16 wide, and vLLM has kernels for 32 to 256" in str(refused.value)
    assert ENGINE.n_bytes(bundle, "bf16") * 2 == ENGINE.n_bytes(bundle, "f32")
