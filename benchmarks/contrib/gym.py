"""Many tasks of reasoning-gym through the main command, each on a few CPU minutes.

    nice python benchmarks/contrib/gym.py --tasks 40 --cpu-minutes 10
    python benchmarks/contrib/gym.py --choose     prints which are chosen, and why the rest is not

Each task is one command, `python -m stratos +task=reasoning_gym task.name=… cloud=local`, from
probe to load test: a teacher that runs offline, a pilot, a student of random weights, injection.
So each run predicts accuracy, hours, latency and memory before it measures them; what `stratos
calibration` reads from its folder is kept with it.

**Which tasks.** The first `--tasks` generators by alphabet, at their easiest level, that give an
answer with the question, make 400 items in 4 CPU seconds, and have short questions and answers
(`MOST_CHARACTERS`); of these the shortest first, which cost least. This is decided before any is
trained, and nothing is left out afterwards: a run that fails is kept as a row with its error.

**How much.** `--cpu-minutes` is what a whole command is to take: imports, teacher and measurements
take about `FIXED_S`, and the rest goes into tokens at `TOKENS_PER_S`. The CPU seconds of all its
processes are counted. A command that takes twice as many is stopped, and is a failure.

One task runs after another. `benchmarks/results/gym.json` is written after each, so that the same
command goes on where it was stopped; more `--tasks` adds tasks, and other `--cpu-minutes` measures
those again that were measured with fewer.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("PYTHONHASHSEED", "0")  # some generators go through sets

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos import records
from stratos.contrib.gym import GymTask, source
from stratos.contrib.monitor.calibration import judged_in
from stratos.core.machine import group_seconds

NAME = "gym"
STUDENT, TEACHER = "stratos_300k", "smollm2"
N_ITEMS, MOST_SECONDS = 400, 4.0
"""Items that a generator has to make, and CPU seconds that it may take."""
N_SIZED = 40
"""Items whose length tells that of a task."""
MOST_CHARACTERS = {"question": 600, "answer": 100}
"""Of the longest of these."""
FIXED_S = 40.0
"""CPU seconds of a command without its training, about."""
TOKENS_PER_S = 6500
"""Tokens of the training per CPU second that it and its pilot take, about."""
ROWS = 4000
MORE = 2.0
"""Part of its CPU minutes after which a command is stopped."""
ROOT = Path(__file__).parents[2]


def level_of(name: str) -> int | None:
    """Return the easiest level; None where a generator has none."""
    return 0 if source.has_levels(name) else None


def choice(name: str) -> str:
    """Return why a generator is not taken; "" where it is."""
    if name in source.WITHOUT_GOLD:
        return "gives no answer"
    try:
        task = GymTask(name=name, level=level_of(name))
        start = time.process_time()
        items = []
        for item in task.reverse(N_ITEMS):
            items.append(item)
            if time.process_time() - start > MOST_SECONDS:
                return f"slow: {len(items)} items in {MOST_SECONDS:g} CPU seconds"
    except Exception as error:
        return f"fails: {error}"
    if len(items) < N_ITEMS:
        return f"has {len(items)} training items"
    longest = {
        "question": max(len(item.question) for item in items),
        "answer": max(len(item.answer) for item in items),
    }
    for part, most in MOST_CHARACTERS.items():
        if longest[part] > most:
            return f"{part} of {longest[part]} characters"
    return ""


def size_of(name: str) -> float:
    """Return the mean characters of question and answer."""
    items = GymTask(name=name, level=level_of(name)).items("train", N_SIZED)
    return fmean(len(item.question) + len(item.answer) for item in items)


def chosen(n: int) -> tuple[list[str], dict[str, str]]:
    """Return the first generators that are taken, and why others before the last are not.

    Those with the shortest questions and answers come first: they cost least.
    """
    names: list[str] = []
    left_out: dict[str, str] = {}
    for name in source.names():
        if len(names) == n:
            break
        if why := choice(name):
            left_out[name] = why
        else:
            names.append(name)
    return sorted(names, key=size_of), left_out


def command(name: str, minutes: float, folder: Path, seed: int) -> list[str]:
    """Return the command of a task."""
    tokens = round(max(10.0, 60 * minutes - FIXED_S) * TOKENS_PER_S)
    level = level_of(name)
    return [
        sys.executable, "-m", "stratos", "+task=reasoning_gym", f"task.name={name}",
        f"task.level={'null' if level is None else level}", "task.prompts=[default]",
        "cloud=local", f"teacher={TEACHER}", f"student={STUDENT}", "strategy=injection",
        f"strategy.n_items={ROWS}", f"seed={seed}", "logger=none", f"hydra.run.dir={folder}",
        # What the minutes allow: a short training, and few items to measure it on.
        f"trainer.max_tokens={tokens}", "trainer.batch_tokens=1024",
        "callbacks.validate_every_steps=0", "callbacks.n_validation_items=128",
        "plan.pilot=true", f"plan.pilot_tokens={tokens // 2}",
        "probe.n_items=8", "probe.max_items=8", "probe.n_samples=0", "probe.n_trial_items=2",
        "evaluate.n_items=256", "evaluate.n_teacher_items=32", "evaluate.n_untouched_items=8",
        "evaluate.max_new_tokens=64",
        "deploy=llamacpp", "deploy.engine.formats=[f32]", "deploy.engine.format=f32",
        "deploy.n_requests=8", "deploy.load_seconds=3", "deploy.n_export_items=8",
    ]  # fmt: skip


def run(name: str, minutes: float, folder: Path, seed: int) -> dict[str, Any]:
    """Run one task; return its row, also where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    level, load = level_of(name), os.getloadavg()[0]
    row: dict[str, Any] = {
        "task": name,
        "level": level,
        "cpu_minutes": minutes,
        "date": record.circumstances()["date"],
        "load_before": round(load, 1),
    }
    start = time.monotonic()
    with (folder / "printed.txt").open("w") as printed:
        child = subprocess.Popen(
            command(name, minutes, folder, seed),
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        cpu_s, stopped = _wait(child, MORE * 60 * minutes)
    row |= {"wall_s": round(time.monotonic() - start, 1), "cpu_s": round(cpu_s, 1)}
    if stopped or child.returncode:
        why = f"stopped after {cpu_s:.0f} CPU seconds" if stopped else _last_line(folder)
        return {**row, "failed": why}
    return {**row, **measured(folder)}


def _wait(child: subprocess.Popen[bytes], most_s: float) -> tuple[float, bool]:
    """Wait for a command; return the CPU seconds of its processes, and whether it was stopped."""
    stopped = False
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime, stopped
        if not stopped and group_seconds(child.pid) > most_s:
            stopped = True
            os.killpg(child.pid, signal.SIGTERM)
        time.sleep(1.0)


def _last_line(folder: Path) -> str:
    lines = (folder / "printed.txt").read_text(errors="replace").strip().splitlines()
    return lines[-1].replace(str(ROOT), "") if lines else "nothing was printed"


def measured(folder: Path) -> dict[str, Any]:
    """Return what a finished run came to, from its records."""

    def load(name: str, kind: Any) -> Any:
        return records.load(folder / f"{name}.json", None, kind)

    plan, student = load("plan", records.Plan), load("distill", records.Student)
    scores = load("evaluate", records.Scorecard)
    return {
        "scores": record.scores_of(scores),
        "comparison": scores.comparison and dataclasses.asdict(scores.comparison),
        "train_tokens": student.train_tokens,
        "train_cpu_seconds": student.cpu_seconds,
        "planned_accuracy": dataclasses.asdict(plan.accuracy),
        "predicted": [dataclasses.asdict(judged.row) for judged in judged_in([folder]).rows],
    }


def main() -> None:
    """Run what is not kept yet, one task after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--cpu-minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/gym"))
    parser.add_argument("--choose", action="store_true", help="choose, and run nothing")
    options = parser.parse_args()
    before = record.load(NAME, {"chosen": [], "left_out": {}, "rows": []})["result"]
    names, left_out = before["chosen"], before["left_out"]
    if options.tasks > len(names):
        names, left_out = chosen(options.tasks)
        result = {"chosen": names, "left_out": left_out, "rows": before["rows"]}
        record.keep(NAME, result, seed=options.seed)
    if options.choose:
        print("\n".join(names), *(f"{name}: {why}" for name, why in left_out.items()), sep="\n")
        return
    rows = {row["task"]: row for row in before["rows"]}
    for name in names[: options.tasks]:
        if name in rows and rows[name]["cpu_minutes"] >= options.cpu_minutes:
            continue
        folder = options.out.resolve() / f"{name}-{options.cpu_minutes:g}"
        rows[name] = run(name, options.cpu_minutes, folder, options.seed)
        ordered = [rows[task] for task in source.names() if task in rows]
        result = {"chosen": names, "left_out": left_out, "rows": ordered}
        record.keep(NAME, result, seed=options.seed)


if __name__ == "__main__":
    main()
