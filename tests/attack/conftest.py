"""What the attacks share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.provider import Bill, Provider
from tests.teachers.questions import parrot


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Let Ctrl-C reach this process and its children: a shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def warnings() -> list[str]:
    """What is warned of."""
    return []


@pytest.fixture
def run(tmp_path: Path, warnings: list[str]) -> Callable[..., Context]:
    """Return what opens the run folder, as a run with a budget does; answers are its own."""

    def opened(budget_usd: float | None = None, name: str = "run") -> Context:
        folder = tmp_path / name
        ledger = Ledger(folder / "ledger.jsonl", budget_usd, is_alone=True)
        return Context(folder, folder / "cache", ledger, warn=warnings.append)

    return opened


@pytest.fixture
def teacher() -> Iterator[Callable[..., OpenAITeacher]]:
    """Return what makes a teacher of a provider, at the provider's own prices."""
    made: list[OpenAITeacher] = []

    def of(provider: Provider, **changes) -> OpenAITeacher:
        fields = {
            "model": "parrot", "api_key_env": None, "concurrency": 16,
            "usd_per_million_input_tokens": provider.bill.usd_per_million_input_tokens,
            "usd_per_million_output_tokens": provider.bill.usd_per_million_output_tokens,
        }  # fmt: skip
        made.append(parrot(provider, **fields | changes))
        return made[-1]

    yield of
    for teacher in made:
        teacher.close()


@pytest.fixture
def dear() -> Iterator[Provider]:
    """A provider so dear that each answer shows in the budget."""
    with Provider(bill=Bill(1_000.0, 10_000.0)) as provider:
        yield provider


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of retries."""
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.01)
