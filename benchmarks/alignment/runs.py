"""Runs of the main command side by side: what compress.py and choice.py share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from stratos import records

STAGES = "stages=[probe,plan,synthesize,distill,evaluate]"
AS_BEFORE = (
    "trainer.optimizer=muon", "trainer.lr_muon=0.01", "trainer.lr_adamw=0.003",
    "callbacks.patience=null",
)  # fmt: skip
"""The students are of the embedded kind and have only begun: they go on as they began."""
ALONE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


@dataclass(frozen=True)
class Result:
    """What one finished run measured."""

    probe: records.TeacherProbe
    plan: records.Plan
    corpus: records.Corpus
    student: records.Student
    exact: records.Interval
    """On test items, all slices together."""
    untouched: records.Interval

    def plain(self) -> dict[str, Any]:
        """Return the figures that tables are made of."""
        return {
            "teacher": self.probe.teacher,
            "coverage": self.probe.exact.mean,
            "n_coverage": self.probe.n_items,
            "entropy_nats": self.probe.entropy_nats,
            "strategy": self.plan.strategy,
            "n_items": self.corpus.n_items,
            "train_tokens": self.student.train_tokens,
            "cpu_seconds": self.student.cpu_seconds,
            "validation": [[one.step, one.exact] for one in self.student.curve if one.exact],
            "exact": [self.exact.mean, self.exact.low, self.exact.high],
            "untouched": self.untouched.mean,
        }

    @classmethod
    def read(cls, folder: Path) -> Result | None:
        """Return the result in a run folder; None where the run is not complete."""
        probe = records.load(folder / "probe.json", None, records.Probe)
        plan = records.load(folder / "plan.json", None, records.Plan)
        corpus = records.load(folder / "synthesize.json", None, records.Corpus)
        student = records.load(folder / "distill.json", None, records.Student)
        scores = records.load(folder / "evaluate.json", None, records.Scorecard)
        if not (probe and plan and corpus and student and scores):
            return None
        of_student, untouched = scores.score("student"), scores.score("untouched")
        assert of_student is not None
        assert untouched is not None
        return cls(
            next(one for one in probe.teachers if one.teacher == plan.teacher),
            plan,
            corpus,
            student,
            of_student.slice().exact,
            untouched.slice().exact,
        )


def keep_all(name: str, folders: Mapping[str, Path], seeds: Sequence[int]) -> None:
    """Write what every complete run measured into `benchmarks/results`.

    Args:
        name: of the file.
        folders: name to run folder.
        seeds: that the runs had.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from record import keep

    found = {key: Result.read(folder) for key, folder in folders.items()}
    plain = {key: one.plain() for key, one in found.items() if one is not None}
    keep(name, plain, more={"seeds": list(seeds)})


def run_all(cases: Mapping[Path, Sequence[str]], jobs: int) -> None:
    """Run the main command for every folder that has no result yet, `jobs` at a time.

    Each run has one thread of its own. One that fails is said, and the others go on.

    Args:
        cases: run folder to overrides.
        jobs: runs at the same time.
    """
    missing = [folder for folder in cases if Result.read(folder) is None]

    def run(folder: Path) -> None:
        command = [sys.executable, "-m", "stratos", *cases[folder]]
        command += [STAGES, "trainer.n_threads=1", "logger=none", f"hydra.run.dir={folder}"]
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with (folder / "output.txt").open("w") as output:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **ALONE}
            ).returncode
        found = Result.read(folder)
        said = f"{found.exact.mean:.3f}" if found else f"failed ({code}): see output.txt"
        print(f"{folder.name}: {said}  ({time.monotonic() - start:.0f} s)", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, missing))


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds, in per cent."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    return f"{100 * fmean(values):.1f} ± {100 * stdev(values):.1f}"
