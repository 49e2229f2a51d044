"""A SkyPilot with an AWS on this machine, and commands whose stages run on its servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the tests of all executors share; the tiny task and its planned servers.
sys.path.insert(0, str(Path(__file__).parents[2] / "evaluate"))
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy"))
sys.path.insert(0, str(Path(__file__).parents[2] / "executors"))
sys.path.insert(0, str(Path(__file__).parent))

from one_run import Command
from one_sky import Sky, whats_lacking
from prepared import command, mark, prepared, trained
from required import lacking

__all__ = ["command", "prepared", "trained"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items, "prepared", pytest.mark.slow)
    mark(items, "on_sky", pytest.mark.cluster)


@pytest.fixture(scope="session")
def sky() -> Iterator[Sky]:
    """Return a SkyPilot with an AWS that boots."""
    if why := whats_lacking():
        lacking("skypilot", why)
    engine = Sky()
    try:
        if why := engine.up():
            lacking("skypilot", f"SkyPilot does not start here:\n{why}")
        yield engine
    finally:
        engine.down()


@pytest.fixture
def on_sky(sky: Sky, command: Command) -> Iterator[Command]:
    """Return the command of a run that trains on a server of SkyPilot."""
    command.prefix = sky.prefix
    yield command
    if command.process is not None and command.process.poll() is None:
        command.process.kill()
    if sky.instances():  # of a test that failed: the next one begins without
        command.servers("down", "--all", seconds=300)
