"""A real Ray for the whole session, and commands whose stages are its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What the tests of all executors share, and the teachers that tests ask.
sys.path.insert(0, str(Path(__file__).parents[2] / "executors"))
sys.path.insert(0, str(Path(__file__).parents[2] / "teachers"))
sys.path.insert(0, str(Path(__file__).parents[2] / "evaluate"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from one_ray import RayCluster, whats_lacking
from one_run import Command
from prepared import command, mark, prepared, trained
from required import lacking

__all__ = ["command", "prepared", "trained"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items, "prepared", pytest.mark.slow)
    mark(items, "ray_cluster", pytest.mark.cluster)
    mark(items, "nodes", pytest.mark.cluster)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Return a Ray cluster of two nodes on this machine."""
    if why := whats_lacking():
        lacking("ray", why)
    cluster = RayCluster()
    try:
        if why := cluster.up(2):
            lacking("ray", f"Ray does not start here:\n{why}")
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def on_ray(ray_cluster: RayCluster, command: Command) -> Command:
    """Return the command of a run that trains on the cluster."""
    command.env = ray_cluster.env
    return command
