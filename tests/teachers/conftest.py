"""What the tests of teachers share."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from tests.teachers.chat_server import KEY, ChatServer


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that servers want is in PARROT_KEY."""
    monkeypatch.setenv("PARROT_KEY", KEY)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.02)


@pytest.fixture
def warnings() -> list[str]:
    """What is warned of."""
    return []


@pytest.fixture
def context(tmp_path: Path, warnings: list[str]) -> Context:
    ledger = Ledger(tmp_path / "run" / "ledger.jsonl")
    return Context(tmp_path / "run", tmp_path / "cache", ledger, warn=warnings.append)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running
