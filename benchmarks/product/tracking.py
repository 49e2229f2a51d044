"""Tracking: the CPU seconds that it adds to a training, W&B's own process included.

    python benchmarks/product/tracking.py [--minutes 2] [--rounds 3]

The calls of a training are made without the training: once as few as possible, once over minutes in
which a point is logged now and then, once with many points. So what a run costs at its start and
end, what a minute costs and what a point costs are measured apart, and not lost in the noise of a
training. Each is a process of its own, less the same process with `logger=none`; processes that
outlive it are waited for and counted. A share is that of the trainings in `results/students/`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.distill.monitor import LOG_EVERY

ROOT = Path(__file__).parents[2]
LOGGERS = {
    "none": {},
    "csv": {"csv": True},
    "tensorboard": {"tensorboard": True},
    "wandb": {"wandb": True},
    "wandb, csv, tensorboard": {"wandb": True, "csv": True, "tensorboard": True},
}
POINTS = 5000
STUDENTS = ("stratos_300k-0", "stratos_1m-0")
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: whoever outlives its parent becomes a child of this process."""

CHILD = """
import sys, time
sys.path[:0] = [{tests!r}, {report!r}]
import factory
from dataclasses import replace
from pathlib import Path
from stratos.config import LoggerConfig
from stratos.records import save
from stratos.tracking.tracker import tracked

folder = Path({folder!r})
records = factory.make_records(folder)
config = replace(factory.make_config(folder), logger=LoggerConfig(**{logger!r}))
warnings = []
with tracked(config, warnings.append) as tracker:
    tracker.begin("distill")
    until, step = time.monotonic() + {seconds!r}, 0
    for step in range({points!r}):
        tracker.log({{f"distill/metric_{{n}}": float(step) for n in range(7)}}, step=10 * step)
        for _ in range(10):  # once a gradient step
            tracker.progress("distill", step, 10**9, 0.0, None)
    while time.monotonic() < until:
        step += 1
        tracker.log({{f"distill/metric_{{n}}": float(step) for n in range(7)}}, step=10 * step)
        tracker.progress("distill", step, 10**9, 0.0, None)
        time.sleep(1.0)
    for stage, made in records.items():
        save(folder / f"{{stage}}.json", stage, "f", made)
        tracker.record(config, stage, records)
    tracker.summary({{"verdict": "Distil."}})
assert not warnings, warnings
"""


def cpu_s(logger: dict[str, bool], *, seconds: float = 0.0, points: int = 0) -> float:
    """Return the CPU seconds of a process that tracks, with all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        code = CHILD.format(
            tests=str(ROOT / "tests"), report=str(ROOT / "tests" / "report"), folder=folder,
            logger=logger, seconds=seconds, points=points,
        )  # fmt: skip
        env = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in LOGGERS}
    for _ in range(told.rounds):
        for name, logger in LOGGERS.items():
            began = time.monotonic()
            fixed = cpu_s(logger)
            long = cpu_s(logger, seconds=60 * told.minutes)
            many = cpu_s(logger, points=POINTS)
            found[name].append({"fixed": fixed, "long": long, "many": many})
            print(f"{name}: {found[name][-1]} in {time.monotonic() - began:.0f} s", flush=True)
    cost = {name: {part: median(one[part] for one in rows) for part in rows[0]}
            for name, rows in found.items()}  # fmt: skip
    none = cost.pop("none")
    rows = []
    for name, one in cost.items():
        fixed = one["fixed"] - none["fixed"]
        minute = (one["long"] - none["long"] - fixed) / told.minutes
        point_ms = 1000 * (one["many"] - none["many"] - fixed) / POINTS
        row = {"logger": name, "fixed_s": fixed, "minute_s": minute, "point_ms": point_ms}
        for student in STUDENTS:
            kept = json.loads((record.RESULTS / "students" / f"{student}.json").read_text())
            training = kept["result"]
            n_points, minutes = training["best_step"] / LOG_EVERY, training["train_seconds"] / 60
            added = fixed + minute * minutes + point_ms * n_points / 1000
            row[student] = added / training["train_cpu_seconds"]
        rows.append(row)
    record.keep("tracking", {"points": POINTS, "minutes": told.minutes, "rows": rows,
                             "measured": found})  # fmt: skip


if __name__ == "__main__":
    main()
