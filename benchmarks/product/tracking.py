"""Tracking: the CPU seconds that it adds to a training, W&B's own process included.

    python benchmarks/product/tracking.py [--minutes 2] [--rounds 3]

The calls of a training are made without the training: once as few as possible, once over minutes in
which a point is logged now and then, once with many points. So what a run costs at its start and
end, what a minute costs and what a point costs are measured apart, and not lost in the noise of a
training. Each is a process of its own, less the same process with `logger=none`; processes that
outlive it are waited for and counted. A share is that of the trainings in `results/students/`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.distill.monitor import LOG_EVERY

TESTS = record.ROOT / "tests"
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
            tests=str(TESTS), report=str(TESTS / "report"), folder=folder,
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


def measured(minutes: float) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of each logger: at the least, over minutes, and with many points."""
    return {
        name: {
            "fixed": cpu_s(logger),
            "long": cpu_s(logger, seconds=60 * minutes),
            "many": cpu_s(logger, points=POINTS),
        }
        for name, logger in LOGGERS.items()
    }


def main() -> None:
    """Measure, and work out the share of two trainings."""
    parser = record.arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    rounds = [measured(options.minutes) for _ in range(options.rounds)]

    def cost(name: str, part: str) -> float:
        return median(costs[name][part] - costs["none"][part] for costs in rounds)

    rows = []
    for name in LOGGERS:
        fixed = cost(name, "fixed")
        minute = (cost(name, "long") - fixed) / options.minutes
        point_s = (cost(name, "many") - fixed) / POINTS
        shares = {}
        for student in STUDENTS:
            training = record.load(f"students/{student}")["result"]
            added = fixed + minute * training["train_seconds"] / 60
            added += point_s * training["best_step"] / LOG_EVERY
            shares[student] = added / training["train_cpu_seconds"]
        if name != "none":
            rows.append({"logger": name, "fixed_s": fixed, "minute_s": minute,
                         "point_ms": 1000 * point_s, **shares})  # fmt: skip
    result = {"points": POINTS, "minutes": options.minutes, "rows": rows, "rounds": rounds}
    record.finish("tracking", result, options)


if __name__ == "__main__":
    main()
