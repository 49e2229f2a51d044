"""Run folders that tests of executors begin with: `from prepared import …` in a conftest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from one_run import Command
from probed_run import probe_by_hand


def mark(items: list[pytest.Item], fixture: str, marker: pytest.MarkDecorator) -> None:
    """Mark the tests that use a fixture, in its name or through others."""
    for item in items:
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(marker)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder whose stages before `distill` are done."""
    folder = tmp_path_factory.mktemp("prepared")
    probe_by_hand(folder / "run")
    command = Command(folder / "run")
    assert command.start("stages=[plan,synthesize]").wait(300) == 0, command.said
    return folder / "run"


@pytest.fixture
def command(prepared: Path, tmp_path: Path) -> Command:
    """Return the command of a run in which `distill` is what comes next."""
    shutil.copytree(prepared, tmp_path / "run")
    return Command(tmp_path / "run")


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return a run whose student was trained in the process of the command itself."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(prepared, folder)
    command = Command(folder)
    assert command.start().wait(300) == 0, command.said
    return command
