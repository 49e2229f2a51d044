"""Stages in processes of their own on this machine: the contract of an executor, without engine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

from one_run import Command, files

ON = ("executor.stages=[distill]",)


def test_processes_of_their_own_make_the_same_corpus_and_student(
    command: Command, trained: Command
) -> None:
    (command.run / "synthesize.json").unlink()
    shutil.rmtree(command.run / "corpus")
    both = ("stages=[synthesize,distill]", "executor.stages=[synthesize,distill]")
    assert command.start(*both, "executor.usd_per_hour=36").wait(300) == 0, command.said
    assert files(command.run / "corpus") == files(trained.run / "corpus")
    assert command.student() == trained.student()
    assert files(command.weights) == files(trained.weights)
    assert "distill: submitted as process " in command.said
    assert not (command.run / "jobs" / "distill.json").exists()
    settled = [one for one in command.ledger() if one.get("kind") == "settled"]
    assert [one["role"] for one in settled] == ["teacher", "train"]
    assert all(0 < one["usd"] < 3 for one in settled)


def test_killed_and_given_again_it_is_found(command: Command, trained: Command) -> None:
    process = command.start(*ON)
    command.until(command.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [pid] = re.findall(r"submitted as process (\d+)", command.said)
    os.kill(int(pid), signal.SIGSTOP)
    refused = command.start()
    assert refused.wait(60) == 1
    assert command.said.splitlines()[-1].startswith(f"distill was handed to process {pid} ")
    process = command.start(*ON)
    command.until(lambda: f"distill: follows process {pid} " in command.said)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # It comes to its end while nobody looks: what it held is settled when somebody does.
    os.kill(int(pid), signal.SIGCONT)
    last = time.monotonic() + 120
    while not (command.run / "distill.json").exists() and time.monotonic() < last:
        time.sleep(0.1)
    assert command.start(*ON).wait(60) == 0, command.said
    assert "(made before)" in command.said and "submitted" not in command.said
    assert not (command.run / "jobs" / "distill.json").exists()
    assert [one["kind"] for one in command.ledger() if "kind" in one][-1] == "settled"
    assert command.student() == trained.student()


def test_a_stage_of_a_run_folder_by_hand(command: Command, trained: Command) -> None:
    """The config is what Hydra kept of the command; the cache is named by the environment."""
    assert command.start("stages=[plan]").wait(120) == 0, command.said
    env = {"STRATOS_CACHE": str(command.run.parent / "cache"), "OMP_NUM_THREADS": "1"}
    by_hand = [sys.executable, "-m", "stratos", "stage", str(command.run), "distill"]
    done = subprocess.run(
        by_hand, cwd="/", env={**command.env, **env}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command.student() == trained.student()
    again = subprocess.run(
        by_hand, cwd="/", env={**command.env, **env}, capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    assert re.search(r"^training [^\n]*(\n +[^\n]*)*\(made before\)", again.stdout, re.M)
    # To the main command, it is its own record.
    assert command.start().wait(120) == 0
    assert "(made before)" in command.said
