"""All stages as one command: killed in them, it goes on and comes to the same student."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, ChatServer
from whole import IS_WHOLE

from stratos.config import STAGES

SMALL = (
    "+task=mahjong", "cloud=aws", "logger=none", "student=stratos_300k", "strategy=injection",
    "strategy.n_items=300", "trainer.precision=fp32", "trainer.max_tokens=30000",
    "trainer.batch_tokens=4096", "trainer.warmup_steps=2", "trainer.n_threads=1",
    "callbacks.checkpoint_every_steps=2", "callbacks.validate_every_steps=0",
    "callbacks.n_validation_items=4", "evaluate.max_new_tokens=16", "probe.n_items=4",
    "probe.n_trial_items=2", "probe.max_tokens=8", "probe.max_items=4", "evaluate.n_items=8",
    "evaluate.n_teacher_items=4", "deploy.n_requests=2", "deploy.load_seconds=0",
    "teacher=endpoint", "teacher.model=parrot-small", "teacher.api_key_env=PARROT_KEY",
)  # fmt: skip
"""Every stage, each as short as it goes: the student has learnt nothing, and says so everywhere."""
KILLED = STAGES if IS_WHOLE else ("plan", "synthesize", "distill", "deploy")
"""Stages in which the command is killed; another test of `make attack` kills it at any moment."""


@pytest.fixture
def teacher() -> Iterator[str]:
    """Return what names a teacher that answers."""
    with ChatServer() as server:
        yield f"teacher.base_url={server.base_url}"


def start(run: Path, *argv: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stratos", *SMALL, f"hydra.run.dir={run}", *argv]
    env = {**os.environ, "STRATOS_CACHE": str(run.parent / "cache"), "OMP_NUM_THREADS": "1",
           "PARROT_KEY": KEY}  # fmt: skip
    log = (run.parent / "log").open("wb")
    return subprocess.Popen(command, cwd=run.parent, env=env, stdout=log, stderr=log)


def said_so_far(run: Path) -> str:
    """Return what a process has said; it may be in the middle of a letter."""
    return (run.parent / "log").read_text(errors="replace")


def finish(run: Path, *argv: str) -> str:
    process = start(run, *argv)
    process.wait(600)
    said = said_so_far(run)
    assert process.returncode == 0, said
    return said


def kill_when(run: Path, moment: Callable[[], bool], *argv: str) -> None:
    process = start(run, *argv)
    while not moment():
        assert process.poll() is None, said_so_far(run)
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def is_under_way(run: Path, stage: str) -> bool:
    """Return whether a stage has begun; a training only with its first checkpoint."""
    if stage == "distill":
        return any((run / "distill" / "checkpoints").glob("*.ckpt"))
    log = run / "stratos.log"
    return log.exists() and f"{stage} begins" in log.read_text(errors="replace")


def record(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"{stage}.json").read_text())["record"]
    return found


@pytest.mark.kill
def test_killed_in_its_stages_the_main_command_ends_as_if_it_never_was(tmp_path, teacher):
    run, whole = tmp_path / "killed" / "run", tmp_path / "whole" / "run"
    for folder in (run, whole):
        folder.parent.mkdir()
    said = ""
    for stage in KILLED:
        kill_when(run, lambda: is_under_way(run, stage), teacher)  # noqa: B023
        before = STAGES[: STAGES.index(stage)]
        assert all((run / f"{one}.json").exists() for one in before)
        assert not (run / f"{stage}.json").exists(), f"{stage} was over before it was killed"
        said += said_so_far(run)
    assert said.count(", gone on 1×: ") == 1, said
    log = finish(run, teacher)
    assert log.count("(made before)") == STAGES.index(KILLED[-1]), log
    # With a cache of its own, so that nothing of the killed run helps.
    finish(whole, teacher)

    for name in ("weights_sha256", "steps", "train_tokens", "validation_exact"):
        assert record(run, "distill")[name] == record(whole, "distill")[name]
    assert record(run, "synthesize")["sha256"] == record(whole, "synthesize")["sha256"]
    for was, should in zip(
        record(run, "evaluate")["scores"], record(whole, "evaluate")["scores"], strict=True
    ):
        assert was["slices"] == should["slices"] and was["output_tokens"] == should["output_tokens"]
    served = record(run, "deploy")
    assert served["n_equal"] == served["n_requests"] == 2
    assert (run / "report.html").stat().st_size > 10_000

    # A limit that changes no choice plans again, and makes and trains nothing again.
    kept = ("stages=[probe,plan,synthesize,distill]", "limits.budget_usd=1000")
    log = finish(whole, teacher, *kept)
    assert "plan: limits.budget_usd has changed; it runs again." in log
    assert re.search(r"^data [^\n]*(\n +[^\n]*)*\(made before\)$", log, re.M), log
    assert re.search(r"^training [^\n]*(\n +[^\n]*)*\(made before\)$", log, re.M), log

    # Elsewhere, from the records of that run: the card lacks nothing.
    other = tmp_path / "other" / "run"
    other.parent.mkdir()
    finish(other, teacher, "stages=[deploy]", f"paths.records_from={run}")
    assert record(other, "deploy")["n_equal"] == 2
    assert not (other / "evaluate").exists()
    bundles = [folder / "bundle" / "README.md" for folder in (run, other)]
    was, found = (
        [line.split(" in ")[0] for line in path.read_text().splitlines()] for path in bundles
    )
    assert [line for line in found if line.startswith(("- Data", "| probe", "| evaluate"))] == [
        line for line in was if line.startswith(("- Data", "| probe", "| evaluate"))
    ]
    assert any(line.startswith("| probe") for line in found)
