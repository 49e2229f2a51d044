"""Sweeps whose jobs are jobs of a real Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_sweeps import (
    Engine,
    app,
    test_jobs_end_with_their_sweep,
    test_jobs_run_on_nodes_and_a_killed_one_starts_again,
    test_the_jobs_of_a_killed_sweep_are_listed_and_followed,
)
from one_ray import RayCluster
from whole import IS_WHOLE

__all__ = [
    "app",
    "test_jobs_end_with_their_sweep",
    "test_jobs_run_on_nodes_and_a_killed_one_starts_again",
    "test_the_jobs_of_a_killed_sweep_are_listed_and_followed",
]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    if not IS_WHOLE:
        pytest.skip("only `make attack` runs it")
    cluster: RayCluster = request.getfixturevalue("ray_cluster")
    return "ray", cluster


def test_what_cannot_be_submitted_is_one_clear_error(app):
    command = [sys.executable, "app.py", "-m", "hydra/launcher=ray", "x=1"]
    env = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(
        [*command, "hydra.launcher.address=http://127.0.0.1:9"],
        cwd=app, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "hydra.launcher.address" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "executor" not in done.stderr
