"""Sweeps whose jobs are jobs of a real SLURM."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster_sweeps import (
    Engine,
    app,
    left,
    start,
    test_jobs_end_with_their_sweep,
    test_jobs_run_on_nodes_and_a_killed_one_starts_again,
    test_the_jobs_of_a_killed_sweep_are_listed_and_followed,
    until,
)
from one_cluster import Cluster
from whole import WHOLE

__all__ = [
    "app",
    "test_jobs_end_with_their_sweep",
    "test_jobs_run_on_nodes_and_a_killed_one_starts_again",
    "test_the_jobs_of_a_killed_sweep_are_listed_and_followed",
]


@pytest.fixture
def engine(slurm: Cluster) -> Engine:
    return "slurm", slurm


def test_a_job_that_has_to_wait_again_says_so(app, slurm):
    sweep = start(app, ("slurm", slurm), "x=1", "hang=1")
    until(lambda: bool(list(app.glob("out/*/pids"))), sweep)
    assert slurm.run("squeue", "-h", "-o", "%l") == "30:00", "as the partition has it"
    time.sleep(3)  # the sweep has seen it at work
    slurm.run("scontrol", "requeue", slurm.run("squeue", "-h", "-o", "%i"))
    until(lambda: slurm.run("squeue", "-h", "-o", "%T") == "PENDING", sweep)
    time.sleep(3)
    sweep.send_signal(signal.SIGINT)
    said, errors = sweep.communicate(timeout=60)
    [line] = [one for one in said.splitlines() if "goes on from its last checkpoint" in one]
    assert "#0 : SLURM job" in line and "waits in the queue of main" in line, said + errors
    assert not left(app)


def test_what_cannot_be_submitted_is_one_clear_error(app):
    for kind, setting, said in (
        ("slurm", "cpus=2", "hydra/launcher=slurm: there is no sbatch"),
        ("slurm", "n_jobs=0", "at least one job must run"),
        ("slurm", "cpus=0", "hydra/launcher=slurm: "),
    ):
        command = [sys.executable, "app.py", "-m", f"hydra/launcher={kind}", "x=1"]
        env = {**os.environ, "PATH": str(Path(sys.executable).parent)}
        done = subprocess.run(
            [*command, f"hydra.launcher.{setting}"],
            cwd=app, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "executor" not in done.stderr


def test_nothing_of_another_sweep_is_taken_for_a_jobs_own(app, slurm):
    engine = ("slurm", slurm)
    first = start(app, engine, "x=1", "hang=1")
    until(lambda: (app / "out/0/pids").exists(), first)
    first.kill()
    first.communicate()
    shutil.rmtree(app / "out")
    again = start(app, engine, "x=2")
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0, said + errors
    assert (app / "returned").read_text().splitlines() == ["x=2 COMPLETED 20.0"]
    env = {**slurm.env, "XDG_STATE_HOME": str(app / "state")}
    servers = [sys.executable, "-m", "stratos", "servers"]
    listed = subprocess.run(servers, env=env, capture_output=True, text=True, check=True).stdout
    assert "1 job" in listed, "the job of the deleted folder is not forgotten"
    subprocess.run([*servers, "down", "--all"], env=env, check=True, capture_output=True)
    assert not slurm.jobs()


def test_a_sweep_that_is_given_again_follows_the_same_job_and_no_other(app, slurm, monkeypatch):
    settings = ("x=1", "hang=1", "results=${oc.env:MY_X}")

    def begin(value: str) -> tuple[subprocess.Popen[str], str]:
        """Start a sweep, and return it with the id of its job."""
        monkeypatch.setitem(slurm.env, "MY_X", value)
        sweep = start(app, ("slurm", slurm), *settings)
        assert sweep.stdout is not None
        for line in sweep.stdout:
            if found := re.search(r"SLURM job (\d+),", line):
                return sweep, found[1]
        raise AssertionError("nothing was submitted")

    first, job = begin("1")
    until(lambda: (app / "out/0/pids").exists(), first)
    first.kill()
    first.wait()
    same, followed = begin("1")
    assert followed == job
    same.kill()
    same.wait()
    other, another = begin("2")
    assert another != job
    assert slurm.run("squeue", "-h", "-o", "%i").split() == [another], "the first one was ended"
    other.send_signal(signal.SIGINT)
    other.communicate(timeout=60)
    assert not slurm.jobs()


def test_what_a_job_is_told_is_private_and_nothing_planted_is_loaded(app, slurm):
    with slurm.drained():
        sweep = start(app, ("slurm", slurm), "x=1", "hydra.launcher.retries=0")
        until(lambda: bool(slurm.jobs()), sweep)
        [folder] = [one for one in (app / "out/.jobs").iterdir() if one.is_dir()]
        assert (app / "out/.jobs").stat().st_mode & 0o077 == 0
        assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())
        planted = b"cos\nsystem\n(S'touch PLANTED'\ntR."
        (folder / "job.pickle").write_bytes(planted)
        (folder / "outcome.json").write_text('{"token": "guessed", "is_done": true, "value": 1}')
    _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 1 and "ended without a word" in errors
    assert not list(app.rglob("PLANTED"))
    logs = [one.read_text() for one in app.glob("out/0/jobs/slurm/*.out")]
    assert any("is not what the sweep wrote: it is not loaded" in one for one in logs)


def test_two_sweeps_in_one_folder_and_executors_within_jobs_are_refused(app, slurm):
    first = start(app, ("slurm", slurm), "x=1", "hang=1")
    until(lambda: (app / "out/0/pids").exists(), first)
    second = start(app, ("slurm", slurm), "x=2")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1 and "Another sweep works in" in errors
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    third = start(
        app, ("slurm", slurm), "x=1", "+executor._target_=stratos.contrib.slurm.executor.Slurm"
    )
    _, errors = third.communicate(timeout=60)
    assert third.returncode == 1 and "would hold a node while its stages wait" in errors


@WHOLE
def test_all_jobs_are_told_to_end_at_once(app, slurm):
    sweep = start(app, ("slurm", slurm), "x=1,2", "hang=0", "slow_end=10")
    until(lambda: len(list(app.glob("out/*/pids"))) >= 2, sweep)
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=120)
    logs = [path.read_text() for path in app.glob("out/*/console.log")]
    told = [float(re.findall(r"ended by Terminated at ([\d.]+)", one)[0]) for one in logs]
    assert max(told) - min(told) < 8, "one after another the second is told 10 s later"
    assert not left(app)


def killed(app: Path, slurm: Cluster, *settings: str, n_jobs: int) -> None:
    """Start a sweep whose jobs say their processes, and kill it when they have."""
    sweep = start(app, ("slurm", slurm), *settings)
    until(lambda: len(list(app.glob("out/*/pids"))) == n_jobs, sweep)
    sweep.kill()
    sweep.communicate()


SMALL = ("hydra.launcher.cpus=1", "hydra.launcher.memory_gib=1")


def test_a_smaller_sweep_ends_the_jobs_that_it_does_not_have(app, slurm):
    killed(app, slurm, "x=1,2,3", "hang=0", *SMALL, n_jobs=3)
    names = dict(one.split() for one in slurm.run("squeue", "-h", "-o", "%j %i").splitlines())
    [kept] = [id for name, id in names.items() if name.startswith("stratos-0-")]
    sweep = start(app, ("slurm", slurm), "x=1", "hang=0", *SMALL)
    until(lambda: slurm.run("squeue", "-h", "-o", "%i").split() == [kept], sweep)
    assert len(left(app)) == 2, "that of the one that goes on, and its child"
    sweep.send_signal(signal.SIGINT)
    said, errors = sweep.communicate(timeout=60)
    [line] = [one for one in said.splitlines() if "which this one does not have" in one]
    assert "2 jobs of an earlier sweep" in line, said + errors
    for name in names:
        assert (name in line) != name.startswith("stratos-0-")
    assert not slurm.jobs() and not left(app)
    assert not [one for one in (app / "out/.jobs").iterdir() if one.is_dir()]
    assert not list((app / "state/stratos/jobs").glob("*"))


def test_how_a_job_ended_unseen_is_not_taken_for_how_the_next_one_does(app, slurm):
    engine, settings = ("slurm", slurm), ("x=2", "fail=2", *SMALL)
    first = start(app, engine, *settings)
    until(lambda: (app / "out/0/starts").exists(), first)
    first.kill()
    first.communicate()
    deadline = time.monotonic() + 60
    while slurm.jobs():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert list(app.glob("out/.jobs/*/outcome.json"))
    # What it failed of is gone, and the next one is killed once.
    text = (app / "app.py").read_text()
    once = "if n_starts == 1: os.kill(os.getpid(), 9)"
    (app / "app.py").write_text(text.replace('raise LookupError("no such thing")', once))
    again = start(app, engine, *settings)
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0, said + errors
    assert "#0 : has failed since the sweep was killed; it runs again" in said
    assert "it is submitted again" in said
    assert (app / "returned").read_text().splitlines() == ["x=2 COMPLETED 20.0"]
    assert (app / "out/0/starts").read_text() == "xxx"


def test_a_job_whose_answer_is_lost_is_followed(app, slurm, tmp_path, monkeypatch):
    """`sbatch` fails and `squeue` is silent, at first."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(
        f"""#!/bin/bash
        sbatch=$(PATH=${{PATH#*:}} type -P sbatch)
        case " $* " in *--test-only*) exec "$sbatch" "$@" ;; esac
        "$sbatch" "$@" >/dev/null
        touch {programs}/silent
        echo 'sbatch: error: Batch job submission failed: Unspecified error' >&2
        exit 1
        """
    )
    (programs / "squeue").write_text(
        f"""#!/bin/bash
        if [ -e {programs}/silent ]; then
            echo x >>{programs}/asked
            [ "$(wc -l <{programs}/asked)" -lt 3 ] && exit 1
            touch {programs}/heard
        fi
        PATH=${{PATH#*:}} exec squeue "$@"
        """
    )
    for one in programs.iterdir():
        one.chmod(0o755)
    with slurm.drained():
        with monkeypatch.context() as patched:
            patched.setitem(slurm.env, "PATH", f"{programs}:{slurm.env['PATH']}")
            sweep = start(app, ("slurm", slurm), "x=1", *SMALL)
        until(lambda: (programs / "heard").exists(), sweep)
    said, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, said + errors
    assert (app / "returned").read_text().splitlines() == ["x=1 COMPLETED 10.0"]
    assert (app / "out/0/starts").read_text() == "x"


def test_secrets_do_not_stand_in_what_a_job_prints(app, slurm):
    typed = "results=https://me:S3cretLogin99@127.0.0.1:9/v1"
    sweep = start(app, ("slurm", slurm), "x=1", "fail=1", typed, *SMALL)
    said, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 1, said + errors
    told = (app / "out/0/console.log").read_text()
    assert "to https://***@127.0.0.1:9/v1" in told and "LookupError" in told
    assert "S3cretLogin99" not in told + "".join(
        one.read_text() for one in app.glob("out/0/jobs/slurm/*.out")
    )
