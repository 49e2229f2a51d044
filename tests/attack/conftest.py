import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Test modules are imported by their files; what several of them need lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from server import Provider

from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from stratos.teachers.openai import OpenAITeacher


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Let Ctrl-C reach this process and its children: a shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def said() -> list[str]:
    """Return what is warned of."""
    return []


@pytest.fixture
def run(tmp_path: Path, said: list[str]) -> Callable[..., Context]:
    """Return what opens the run folder, as a run with a budget does; kept answers are its own."""

    def opened(budget_usd: float | None = None, name: str = "run") -> Context:
        folder = tmp_path / name
        ledger = Ledger(folder / "ledger.jsonl", budget_usd, is_alone=True)
        return Context(folder, folder / "cache", ledger, warn=said.append)

    return opened


@pytest.fixture
def teacher() -> Iterator[Callable[..., OpenAITeacher]]:
    """Return what makes a teacher of a provider, at the provider's own prices."""
    made: list[OpenAITeacher] = []

    def of(provider: Provider, **changes) -> OpenAITeacher:
        fields = {
            "model": "parrot", "api_key_env": None, "timeout_s": 10.0, "concurrency": 16,
            "usd_per_million_input_tokens": provider.bill.usd_per_million_input_tokens,
            "usd_per_million_output_tokens": provider.bill.usd_per_million_output_tokens,
        }  # fmt: skip
        made.append(OpenAITeacher(name="parrot", base_url=provider.base_url, **fields | changes))
        return made[-1]

    yield of
    for one in made:
        one.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of retries."""
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.01)
