"""Real engines for the whole session, and a run folder in which the corpus is made."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the tests share lies beside them

import one_ray
from one_cluster import Cluster, whats_lacking
from one_ray import RayCluster
from one_run import Command
from one_sky import Sky
from one_sky import whats_lacking as whats_lacking_of_sky
from probed_run import probe_by_hand
from required import lacking


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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Return a Ray cluster of two nodes on this machine."""
    if why := one_ray.whats_lacking():
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


@pytest.fixture(scope="session")
def sky() -> Iterator[Sky]:
    """Return a SkyPilot with an AWS that boots."""
    if why := whats_lacking_of_sky():
        lacking("skypilot", why)
    engine = Sky()
    try:
        if why := engine.up():
            lacking("skypilot", f"SkyPilot does not start here:\n{why}")
        yield engine
    finally:
        engine.down()


@pytest.fixture
def on_sky(sky: Sky, command: Command) -> Command:
    """Return the command of a run that trains on a server of SkyPilot."""
    command.prefix = sky.prefix
    return command
