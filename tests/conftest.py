"""What the tests of the whole command share."""

from __future__ import annotations

import os
import socketserver
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parent))  # what a test may lack, and what it starts from
sys.path.append(str(Path(__file__).parent / "teachers"))  # servers that speak as real ones do

from probed_run import probe_by_hand

CONTRIB = Path(__file__).parent / "contrib"

# Commands of tests are repeated by the same items; what draws others takes it out again.
os.environ.setdefault("STRATOS_SEED", "0")

# Clients that hang up are what many tests are about. A server says nothing of it: its thread may
# come to it in the middle of another test, which looks at what is printed.
socketserver.BaseServer.handle_error = lambda *_: None  # type: ignore[method-assign]

# The same examples on every machine, and none of them too slow for a busy one.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more worker than there are cores: tests wait for servers and clusters, too."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from long_first import LongFirst

    return LongFirst(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(CONTRIB):
            item.add_marker("contrib")
    if "PYTEST_XDIST_WORKER" in os.environ:
        from long_first import by_length

        items.sort(key=by_length)


@pytest.fixture
def worded(tmp_path: Path) -> Callable[[object], str]:
    """What turns a value into its words, without the folder of the test, for a snapshot."""
    return lambda value: str(value).replace(str(tmp_path), "FOLDER")


@pytest.fixture
def probed(tmp_path: Path) -> Path:
    """A run folder in which the probe is done: a blind teacher."""
    probe_by_hand(tmp_path / "run")
    return tmp_path / "run"
