"""One finished run, small enough to be damaged, killed and gone on with many times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.teachers.provider import Provider

SMALL = (
    "+task=mahjong", "cloud=aws", "logger=none", "student=stratos_300k", "strategy=injection",
    "strategy.n_items=300", "trainer.precision=fp32", "trainer.max_tokens=8000",
    "trainer.batch_tokens=2048", "trainer.warmup_steps=2", "trainer.n_threads=1",
    "callbacks.validate_every_steps=0", "callbacks.n_validation_items=4",
    "deploy.load_seconds=0", "callbacks.checkpoint_every_steps=2",
    "evaluate.max_new_tokens=16", "evaluate.n_items=8",
    "evaluate.n_teacher_items=4", "evaluate.n_untouched_items=4", "deploy.n_requests=2",
    "probe.n_items=4", "probe.n_trial_items=2", "probe.max_tokens=8", "probe.max_items=4",
    "plan.history=false", "teacher=endpoint", "teacher.model=parrot",
)  # fmt: skip
"""Every stage, each as short as it goes: the student has learnt nothing, and says so everywhere."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Run:
    """A run folder, and the command that makes it."""

    folder: Path
    argv: tuple[str, ...]

    def go_on(self, *more: str, **how: Any) -> Ended:
        """Give the same command again."""
        with self.start(*more, **how) as process:
            printed = process.communicate(timeout=900)[0]
        return Ended(process.returncode, printed.decode(errors="replace"))

    def start(self, *more: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start the command."""
        env = {
            **os.environ, "STRATOS_CACHE": str(self.folder.parent / "cache"),
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **how.pop("env", {}),
        }  # fmt: skip
        before = how.pop("before", [])  # what starts it in another way
        return subprocess.Popen(
            [*before, sys.executable, "-m", "stratos", *self.argv, *more],
            cwd=self.folder.parent, env=env,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **how},
        )  # fmt: skip

    def record(self, stage: str) -> dict[str, Any]:
        """Return the record of a stage."""
        record: dict[str, Any] = json.loads((self.folder / f"{stage}.json").read_text())["record"]
        return record

    def result(self) -> dict[str, Any]:
        """Return what must be the same however a run came about."""
        student, scorecard = self.record("distill"), self.record("evaluate")
        return {
            "corpus": self.record("synthesize")["sha256"],
            "weights": student["weights_sha256"],
            "steps": student["steps"],
            "scores": [
                (score["role"], [row["exact"] for row in score["slices"]])
                for score in scorecard["scores"]
            ],
        }

    def save(self, to: Path) -> None:
        """Copy the run, times of files and all."""
        shutil.copytree(self.folder, to, symlinks=True)

    def restore(self, saved: Path) -> None:
        """Put a copy in the place of the run."""
        shutil.rmtree(self.folder)
        shutil.copytree(saved, self.folder, symlinks=True)


def new_run(folder: Path, teacher: Provider, *more: str) -> Run:
    """Return a run in a folder of its own that has not begun."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {word.partition("=")[0] for word in more}
    small = [word for word in SMALL if word.partition("=")[0] not in keys]
    argv = (
        *small,
        f"teacher.base_url={teacher.base_url}",
        f"hydra.run.dir={folder / 'run'}",
        *more,
    )
    return Run(folder / "run", argv)
