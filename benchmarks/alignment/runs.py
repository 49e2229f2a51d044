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

from stratos import records

STAGES = "stages=[probe,plan,synthesize,distill,evaluate]"
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
