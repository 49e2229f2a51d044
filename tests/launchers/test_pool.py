"""A sweep of a real Hydra app in processes, one of which is really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_app import alive, write_app


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path)


def sweep(app: Path, *overrides: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    command = [sys.executable, "app.py", "-m", "x=1,2,3", "hydra/launcher=pool"]
    command += ["hydra/sweeper=telling", "hydra.sweep.dir=out", *overrides]
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        command, cwd=app, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    returned = app / "returned"
    return done, returned.read_text().splitlines() if returned.exists() else []


def test_results_keep_the_order_of_the_jobs(app):
    done, returned = sweep(app, "hydra.launcher.n_jobs=3", "hydra.launcher.threads_per_job=5")
    assert done.returncode == 0, done.stderr
    assert returned == ["x=1 COMPLETED 10.0", "x=2 COMPLETED 20.0", "x=3 COMPLETED 30.0"]
    # What a job prints is in a file of its own.
    assert (app / "out/2/console.log").read_text() == "job 3 threads 5\n"
    assert "threads 5" not in done.stdout


def test_a_killed_job_takes_no_other_with_it(app):
    done, returned = sweep(app, "kill=2", "hydra.launcher.retries=0")
    assert done.returncode == 1
    assert returned == [
        "x=1 COMPLETED 10.0",
        "x=2 FAILED Job 1 was killed by signal 9; see out/1/console.log.",
        "x=3 COMPLETED 30.0",
    ]
    assert done.stderr.splitlines()[1] == ("Job 1 was killed by signal 9; see out/1/console.log.")
    assert "Traceback" not in done.stderr


def test_a_killed_job_starts_again_in_its_folder(app):
    done, returned = sweep(app, "kill=2", "once=true")
    assert done.returncode == 0, done.stderr
    assert returned[1] == "x=2 COMPLETED 20.0"
    assert (app / "out/1/starts").read_text() == "xx"
    assert (app / "out/0/starts").read_text() == "x"


def test_a_job_that_raises_is_not_started_again(app):
    done, returned = sweep(app, "fail=1")
    assert done.returncode == 1
    assert returned == [
        "x=1 FAILED Job 0 failed (see out/0/console.log): LookupError: no such thing",
        "x=2 COMPLETED 20.0",
        "x=3 COMPLETED 30.0",
    ]
    assert (app / "out/0/starts").read_text() == "x"
    assert "LookupError: no such thing" in (app / "out/0/console.log").read_text()


def test_secrets_do_not_stand_in_what_a_job_prints(app):
    done, _ = sweep(app, "fail=1", "results=https://me:S3cretLogin99@127.0.0.1:9/v1")
    assert done.returncode == 1
    for job in range(3):
        told = (app / f"out/{job}/console.log").read_text()
        assert "to https://***@127.0.0.1:9/v1" in told, told
        assert "S3cretLogin99" not in told


def pids(app: Path, n: int, timeout_s: float = 60) -> list[int]:
    """Wait until jobs have said their process and their child, and return all."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = [path.read_text().split() for path in app.glob("out/*/pids")]
        if len(found) == n and all(len(one) == 2 for one in found):
            return [int(pid) for one in found for pid in one]
        time.sleep(0.05)
    raise AssertionError("the jobs did not start")


def gone(one: list[int], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(map(alive, one)):
            return True
        time.sleep(0.1)
    return False


def start(app: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "app.py", "-m", "x=1,2", "hydra/launcher=pool", "hang=0"]
    return subprocess.Popen(
        [*command, "hydra.sweep.dir=out", *overrides], cwd=app, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_jobs_end_with_their_sweep_however_it_ends(app, how):
    if how == signal.SIGHUP and signal.getsignal(how) == signal.SIG_IGN:
        signal.signal(how, signal.SIG_DFL)  # below nohup, sweeps would go on, as they should
    sweep = start(app)
    ours = pids(app, 2)
    sweep.send_signal(how)
    assert gone(ours, 8)
    sweep.wait(20)
    told = [path.read_text() for path in app.glob("out/*/console.log")]
    assert all("ended by Terminated" in one for one in told), "what was under way is settled"


@pytest.mark.slow
def test_a_job_that_hears_nothing_ends_with_its_sweep_too(app):
    sweep = start(app, "deaf=true")
    ours = pids(app, 2)
    sweep.kill()
    sweep.wait()
    assert gone(ours, 20)


@pytest.mark.slow
def test_a_job_without_end_does_not_hold_the_sweep(app):
    done, returned = sweep(
        app, "hang=2", "hydra.launcher.timeout_minutes=0.15", "hydra.launcher.n_jobs=1"
    )
    assert done.returncode == 1
    assert returned == [
        "x=1 COMPLETED 10.0",
        "x=2 FAILED Job 1 passed hydra.launcher.timeout_minutes=0.15 and was ended; see "
        "out/1/console.log.",
        "x=3 COMPLETED 30.0",
    ]
    assert gone(pids(app, 1), 1)
    assert "ended by Terminated" in (app / "out/1/console.log").read_text()
    assert (app / "out/1/starts").read_text() == "x", "it is not started again"


def test_a_job_that_takes_too_much_memory_is_ended(app):
    done, returned = sweep(app, "eat=2", "hydra.launcher.memory_gib=0.5")
    assert done.returncode == 1
    assert returned == [
        "x=1 COMPLETED 10.0",
        "x=2 FAILED Job 1 passed hydra.launcher.memory_gib=0.5 and was ended; see "
        "out/1/console.log.",
        "x=3 COMPLETED 30.0",
    ]


@pytest.mark.parametrize("limit", ["timeout_minutes=0", "memory_gib=-1"])
def test_a_limit_of_nothing_is_refused(app, limit):
    done, _ = sweep(app, f"hydra.launcher.{limit}")
    assert done.returncode == 1
    assert "must be above 0, or null for no limit" in done.stderr
