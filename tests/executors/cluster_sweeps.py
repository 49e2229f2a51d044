"""Sweeps whose jobs are jobs of a real cluster: what the tests of all clusters share.

A module of tests imports the tests from here. Its fixture `engine` is the choice of
`hydra/launcher` and the cluster.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from one_run import heed_ctrl_c
from sweep_app import alive, write_app
from whole import WHOLE


class Running(Protocol):
    """A cluster of this machine."""

    env: Mapping[str, str]


Engine = tuple[str, Running]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path)


def left(app: Path) -> list[int]:
    """Return the processes that jobs have written down, and that are there."""
    pids = [int(pid) for path in app.glob("out/*/pids") for pid in path.read_text().split()]
    return [pid for pid in pids if alive(pid)]


def start(app: Path, engine: Engine, *overrides: str) -> subprocess.Popen[str]:
    kind, cluster = engine
    command = [
        sys.executable, "app.py", "-m", f"hydra/launcher={kind}", "hydra/sweeper=telling",
        "hydra.sweep.dir=out", *overrides,
    ]  # fmt: skip
    env = {k: v for k, v in cluster.env.items() if not k.endswith("_NUM_THREADS")}
    env |= {"XDG_STATE_HOME": str(app / "state"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=app,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
    )


def until(moment: Callable[[], bool], sweep: subprocess.Popen[str], seconds: float = 90) -> None:
    """Wait for something, for as long as a sweep runs."""
    deadline = time.monotonic() + seconds
    while not moment():
        assert time.monotonic() < deadline and sweep.poll() is None
        time.sleep(0.1)


def test_jobs_run_on_nodes_and_a_killed_one_starts_again(app: Path, engine: Engine) -> None:
    sweep = start(
        app, engine, "x=1,2,3", "kill=2", "once=true", "fail=3", "hydra.launcher.n_jobs=2"
    )
    said, errors = sweep.communicate(timeout=180)
    assert sweep.returncode == 1
    assert (app / "returned").read_text().splitlines() == [
        "x=1 COMPLETED 10.0",
        "x=2 COMPLETED 20.0",
        "x=3 FAILED Job 2 failed (see out/2/console.log): LookupError: no such thing",
    ], said + errors
    assert (app / "out/1/starts").read_text() == "xx"
    assert (app / "out/2/starts").read_text() == "x", "an error of its own is not tried again"
    assert "was killed by signal 9" in said and "it is submitted again" in said
    assert "Traceback" not in errors
    assert not list((app / "state/stratos/jobs").glob("*")), "nothing is said to run any more"


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=WHOLE)])
def test_jobs_end_with_their_sweep(app: Path, engine: Engine, how: signal.Signals) -> None:
    sweep = start(app, engine, "x=1,2", "hang=0")
    deadline = time.monotonic() + 90
    while len(list(app.glob("out/*/pids"))) < 2:
        assert time.monotonic() < deadline and sweep.poll() is None
        time.sleep(0.2)
    sweep.send_signal(how)
    sweep.communicate(timeout=60)
    assert not left(app), "no job is left"
    told = [path.read_text() for path in app.glob("out/*/console.log")]
    assert all("ended by Terminated" in one for one in told), "what was under way is settled"


def test_the_jobs_of_a_killed_sweep_are_listed_and_followed(app: Path, engine: Engine) -> None:
    first = start(app, engine, "x=1", "hang=1", "hydra.launcher.usd_per_hour=2")
    deadline = time.monotonic() + 90
    while not (app / "out/0/pids").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.2)
    first.kill()
    first.communicate()
    env = {**engine[1].env, "XDG_STATE_HOME": str(app / "state")}
    servers = [sys.executable, "-m", "stratos", "servers"]
    listed = subprocess.run(servers, env=env, capture_output=True, text=True, check=True).stdout
    assert "1 job, $2.00 an hour" in listed
    assert (app / "out/0/starts").read_text() == "x"
    done = subprocess.run(
        [*servers, "down", "--all"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not left(app)
