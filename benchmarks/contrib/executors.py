"""What it costs to run stages as jobs, and whether kills change what they make.

    python benchmarks/contrib/executors.py                        all executors whose engine is installed
    python benchmarks/contrib/executors.py --keep                 and keeps times and kills
    python benchmarks/contrib/executors.py --executors ray --kills-only --minutes 8 --keep

Each engine is a real one on this machine (tests/contrib). Measured: seconds from the command to
the first step of a training, beside the same in the command's own process and beside an empty job
of the engine; and a corpus and a training of jobs that are killed with `kill -9` at random moments,
the job or the command in turn, and started again until they are done: every byte of what they
leave is compared with what the command's own process leaves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
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
from record import keep

TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(TESTS / folder) for folder in (".", "executors", "contrib/slurm", "contrib/ray")]

import one_ray  # noqa: E402
from one_cluster import Cluster, whats_lacking  # noqa: E402
from one_run import Command, files  # noqa: E402
from probed_run import probe_by_hand  # noqa: E402

STAGES = {"synthesize": "corpus", "distill": "distill/student"}
"""Stage to what is compared of it."""
KILLS = "executors_kills"
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
def here(folder: Path) -> Iterator[Engine]:
    """Yield this machine: a process for each stage."""

    def empty() -> None:
        subprocess.run(["true"], check=True)

    yield Engine("here", ("executor=here",), dict(os.environ), empty)


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


ENGINES = {"here": here, "slurm": slurm, "ray": ray}


def main() -> None:
    """Measure each executor and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--executors", default=",".join(ENGINES))
    parser.add_argument("--kills", type=int, default=10, help="of each executor and stage")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills-only", action="store_true", help="measure no times")
    parser.add_argument("--minutes", type=float, help="for the kills of one executor, at most")
    parser.add_argument("--keep", action="store_true", help="write the result")
    args = parser.parse_args()
    result: dict[str, Any] = {"seed": args.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared, trained = _prepared(folder)
        if not args.kills_only:
            result["own_process"] = _first_steps(prepared, folder, (), os.environ, args.repeats)
        for executor in args.executors.split(","):
            (folder / executor).mkdir()
            with ENGINES[executor](folder / executor) as engine:
                if not args.kills_only:
                    result[executor] = _times(engine, prepared, folder, args.repeats)
                    print(executor, json.dumps(result[executor], indent=1), flush=True)
                killed = _killed(engine, prepared, trained, folder, args)
                print(executor, json.dumps(killed, indent=1), flush=True)
            if args.keep:  # executors may be measured one at a time
                keep_kills(executor, killed, args.seed)
    if args.keep and not args.kills_only:
        keep("executors", result)


def keep_kills(executor: str, killed: dict[str, Any], seed: int) -> None:
    """Write what kills of one executor left, beside what is kept of the others."""
    load = round(os.getloadavg()[0], 2)
    with contextlib.suppress(FileNotFoundError):
        others = record.load(KILLS)["result"]
        keep(KILLS, {**others, executor: {**killed, "load_average": load}}, seed=seed)
        return
    keep(KILLS, {executor: {**killed, "load_average": load}}, seed=seed)


def _prepared(folder: Path) -> tuple[dict[str, Path], dict[str, dict[str, bytes]]]:
    """Return the run folder before each stage, and what each leaves in the command's process."""
    run = folder / "plain" / "run"
    probe_by_hand(run)
    command = Command(run)
    before, after = {}, {}
    for stages, next_one in (("plan", "synthesize"), ("synthesize", "distill"), ("distill", "")):
        assert command.start(f"stages=[{stages}]").wait(LONGEST_S) == 0, command.said
        if next_one:
            before[next_one] = folder / f"before_{next_one}"
            shutil.copytree(run, before[next_one])
        if stages in STAGES:
            after[stages] = files(run / STAGES[stages])
    return before, after


def _times(
    engine: Engine, prepared: dict[str, Path], folder: Path, repeats: int
) -> dict[str, list[float]]:
    empty = []
    for _ in range(repeats):
        started = time.perf_counter()
        engine.empty()
        empty.append(round(time.perf_counter() - started, 2))
    on = (*engine.arguments, "executor.stages=[distill]")
    return {
        "empty_job_s": empty,
        "first_step_s": _first_steps(prepared, folder, on, engine.env, repeats),
    }


def _killed(
    engine: Engine,
    prepared: dict[str, Path],
    trained: dict[str, dict[str, bytes]],
    folder: Path,
    args: argparse.Namespace,
) -> dict[str, Any]:
    draw = random.Random(args.seed)
    found = {}
    began = time.monotonic()
    for n_left, stage in zip(range(len(STAGES), 0, -1), STAGES, strict=True):
        until = math.inf
        if args.minutes is not None:  # what is left of them is shared by the stages that are
            now = time.monotonic()
            until = now + (began + 60 * args.minutes - now) / n_left
        found[stage] = _kills(
            engine, stage, prepared[stage], trained[stage], folder, draw, args.kills, until
        )
    return found


def _first_steps(
    prepared: dict[str, Path], folder: Path, on: tuple[str, ...], env: Any, repeats: int
) -> list[float]:
    """Return the seconds from a command to the first checkpoint, which is its second step."""
    found = []
    for i in range(repeats):
        command = _copied(prepared["distill"], folder / f"first_{len(on)}_{i}", env)
        started = time.perf_counter()
        process = command.start(*on)
        command.until(command.has_checkpoint, LONGEST_S)
        found.append(round(time.perf_counter() - started, 2))
        assert process.wait(LONGEST_S) == 0, command.said
        shutil.rmtree(command.run.parent)
    return found


def _kills(
    engine: Engine,
    stage: str,
    prepared: Path,
    wanted: dict[str, bytes],
    folder: Path,
    draw: random.Random,
    n_kills: int,
    until: float,
) -> dict[str, Any]:
    """Kill the stage or its command at random moments; return how often all was equal.

    A moment at which there is nothing to kill is kept, and not counted.
    """
    on = (*engine.arguments, f"executor.stages=[{stage}]", f"stages=[{stage}]")
    whole = _copied(prepared, folder / "whole", engine.env)
    started = time.perf_counter()
    assert whole.start(*on).wait(LONGEST_S) == 0, whole.said
    longest = time.perf_counter() - started
    shutil.rmtree(whole.run.parent)
    told = []
    for i in range(n_kills):
        if time.monotonic() > until:
            break
        command = _copied(prepared, folder / f"killed_{i}", engine.env)
        process = command.start(*on)
        at, victim = draw.uniform(0, longest), ("job", "command")[i % 2]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(at)
        n_killed = _kill(_jobs(command.run)) if victim == "job" else _kill_command(process)
        n_starts = 1
        while process.wait(LONGEST_S) != 0 and n_starts < 5:
            process, n_starts = command.start(*on), n_starts + 1
        is_equal = files(command.run / STAGES[stage]) == wanted
        told.append({
            "at_s": round(at, 2), "victim": victim, "n_killed": n_killed, "starts": n_starts,
            "is_equal": is_equal, "is_left": bool(_jobs(command.run)),
        })  # fmt: skip
        if not is_equal:
            print(command.said[-3000:], file=sys.stderr)
        shutil.rmtree(command.run.parent)
    killed = [one for one in told if one["n_killed"]]  # else it was over, or had yet to begin
    return {
        "equal": sum(one["is_equal"] for one in killed), "of": len(killed),
        "undisturbed_s": round(longest, 2), "kills": told,
    }  # fmt: skip


def _kill(pids: list[int]) -> int:
    """Kill processes; return how many there were."""
    n_killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            n_killed += 1
    return n_killed


def _kill_command(process: subprocess.Popen[bytes]) -> int:
    """Kill a command; return 0 where it had ended by itself."""
    process.kill()
    return int(process.wait() == -signal.SIGKILL)


def _copied(prepared: Path, folder: Path, env: Any) -> Command:
    shutil.copytree(prepared, folder / "run")
    command = Command(folder / "run")
    command.env = env
    return command


def _jobs(run: Path) -> list[int]:
    """Return the processes of jobs of a run folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (one / "cmdline").read_bytes().split(b"\0")
            if b"--job" in words and str(run).encode() in words:
                found.append(int(one.name))
    return found


if __name__ == "__main__":
    main()
