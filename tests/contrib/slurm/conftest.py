"""A real SLURM for the whole session, and commands whose stages are its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the tests of all executors share.
sys.path.insert(0, str(Path(__file__).parents[2] / "executors"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from one_cluster import Cluster, whats_lacking
from one_run import Command
from prepared import command, mark, prepared, trained
from required import lacking

__all__ = ["command", "prepared", "trained"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items, "prepared", pytest.mark.slow)
    mark(items, "slurm", pytest.mark.cluster)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a SLURM of two nodes on this machine."""
    if why := whats_lacking():
        lacking("slurm", why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        if why := cluster.up(2):
            lacking("slurm", f"SLURM does not start here:\n{why}")
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def on_slurm(slurm: Cluster, command: Command) -> Command:
    """Return the command of a run that trains on the cluster."""
    command.env = slurm.env
    return command
