"""What it costs to run a stage as a job: seconds from the command to a training's second step.

    python benchmarks/contrib/executors.py --keep                  SLURM and Ray
    python benchmarks/contrib/executors.py --executors ray

Each engine is a real one on this machine (tests/contrib). Measured are an empty job of the engine,
and a training of the command in its own process and as a job. That jobs and commands which are
killed leave the same bytes is what tests/contrib and tests/executors show.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(TESTS / folder) for folder in (".", "executors", "contrib/slurm", "contrib/ray")]

import one_ray  # noqa: E402
from one_cluster import Cluster, whats_lacking  # noqa: E402
from one_run import Command  # noqa: E402
from probed_run import probe_by_hand  # noqa: E402

LONGEST_S = 600


@dataclass
class Engine:
    """A running engine."""

    name: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    empty: Callable[[], None]
    """Runs a job that does nothing, to its end."""


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Engine]:
    """Yield a SLURM of two nodes."""
    if why := whats_lacking():
        sys.exit(why)
    cluster = Cluster(folder)
    try:
        if why := cluster.up(2):
            sys.exit(why)

        def empty() -> None:
            cluster.run("sbatch", "-W", "-p", "main", "-o", "/dev/null", "--wrap=true")

        arguments = ("executor=slurm", "executor.partition=main")
        yield Engine("slurm", arguments, cluster.env, empty)
    finally:
        cluster.down()


@contextlib.contextmanager
def ray(folder: Path) -> Iterator[Engine]:
    """Yield a Ray cluster of a head and two nodes."""
    if why := one_ray.whats_lacking():
        sys.exit(why)
    cluster = one_ray.RayCluster()
    try:
        if why := cluster.up(2):
            sys.exit(why)

        def empty() -> None:
            url, data = f"{cluster.address}/api/jobs/", json.dumps({"entrypoint": "true"}).encode()
            with urllib.request.urlopen(url, data, timeout=60) as answer:
                id = json.load(answer)["submission_id"]
            cluster.until(lambda: bool(cluster.get(f"/api/jobs/{id}")["status"] == "SUCCEEDED"))

        yield Engine("ray", ("executor=ray",), cluster.env, empty)
    finally:
        cluster.down()


ENGINES = {"slurm": slurm, "ray": ray}


def prepared_run(folder: Path) -> Path:
    """Return a run folder whose next stage is the training."""
    run = folder / "plain" / "run"
    probe_by_hand(run)
    command = Command(run)
    assert command.start("stages=[plan,synthesize]").wait(LONGEST_S) == 0, command.said
    return run


def first_step_s(run: Path, folder: Path, words: tuple[str, ...], env: Any) -> float:
    """Return the seconds from a command to the first checkpoint, which is its second step."""
    shutil.copytree(run, folder / "run")
    command = Command(folder / "run")
    command.env = env
    start = time.perf_counter()
    process = command.start(*words)
    command.until(command.has_checkpoint, LONGEST_S)
    seconds = time.perf_counter() - start
    assert process.wait(LONGEST_S) == 0, command.said
    shutil.rmtree(folder)
    return round(seconds, 2)


def empty_job_s(engine: Engine) -> float:
    """Return the seconds of a job that does nothing."""
    start = time.perf_counter()
    engine.empty()
    return round(time.perf_counter() - start, 2)


def main() -> None:
    """Measure each executor."""
    parser = record.arguments(__doc__)
    parser.add_argument("--executors", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rounds = range(options.repeats)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, copy = prepared_run(folder), folder / "copy"
        result: dict[str, Any] = {
            "own_process": [first_step_s(run, copy, (), os.environ) for _ in rounds]
        }
        for executor in options.executors:
            (folder / executor).mkdir()
            with ENGINES[executor](folder / executor) as engine:
                words = (*engine.arguments, "executor.stages=[distill]")
                result[executor] = {
                    "empty_job_s": [empty_job_s(engine) for _ in rounds],
                    "first_step_s": [first_step_s(run, copy, words, engine.env) for _ in rounds],
                }
    record.finish("executors", result, options)


if __name__ == "__main__":
    main()
