"""Whole runs in processes of their own: one small enough to be killed many times, one that pays."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.teachers.provider import Provider
from tests.whole import IS_WHOLE

T = TypeVar("T")

SEED = int(os.environ.get("STRATOS_ATTACK_SEED", "0"))
"""Of whatever is drawn: which part, and when something is killed."""
N_FILES = int(os.environ.get("STRATOS_ATTACK_FILES", "10000"))
"""Files of a finished run that each kind of damage is done to, where everything runs."""
N_KILLS = int(os.environ.get("STRATOS_ATTACK_KILLS", "25"))
"""Times that one run is killed."""

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


def part_of(cases: Sequence[T], every: int) -> list[T]:
    """Return all cases, or a part of them that is drawn with the seed."""
    if IS_WHOLE:
        return list(cases)
    drawn = random.Random(SEED).sample(range(len(cases)), len(cases) // every)
    return [cases[i] for i in sorted(drawn)]


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


def typed(folder: Path, provider: Provider, *more: str) -> list[str]:
    """Return a command line that asks a provider for the answers to a file of questions.

    Options, such as -m, come in front of the overrides.
    """
    options = [word for word in more if word.startswith("-")]
    more = tuple(word for word in more if not word.startswith("-"))
    rows = folder / "rows.jsonl"
    lines = [{"question": f"word {i}", "answer": f"WORD {i}"} for i in range(300)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    return [
        sys.executable, "-m", "stratos", *options, "+task=jsonl", f"task.path={rows}",
        "teacher=endpoint",
        f"teacher.base_url={provider.base_url}", "teacher.model=parrot",
        f"teacher.usd_per_million_input_tokens={provider.bill.usd_per_million_input_tokens}",
        f"teacher.usd_per_million_output_tokens={provider.bill.usd_per_million_output_tokens}",
        f"paths.cache_dir={folder / 'cache'}", "logger=none", *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Return the environment of a command."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def command(
    folder: Path, provider: Provider, *more: str, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder `run` below one."""
    return subprocess.run(
        typed(folder, provider, f"hydra.run.dir={folder / 'run'}", *more),
        capture_output=True, text=True, timeout=900, check=False, env=environment(), **settings,
    )  # fmt: skip
