import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Test modules are imported by their files; what several of them need lies beside them.
sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from chat_server import ChatServer

from stratos.core.context import Context
from stratos.ledger import Ledger


class Said(list[str]):
    """What a stage warned about."""


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def context(tmp_path: Path, said: Said) -> Context:
    ledger = Ledger(tmp_path / "run" / "ledger.jsonl")
    return Context(tmp_path / "run", tmp_path / "cache", ledger, warn=said.append)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running
