r"""Train, evaluate and serve the embedded students: the runs that their cards are written from.

    python benchmarks/students.py --student stratos_1m --seeds 0 1 2 --out sweeps/students

Each run is the main command with `deploy=local`, one after the other, so that times are not shared.
The same student without a reasoning path, at the same training tokens:

    python benchmarks/students.py --out sweeps/answer_only strategy=injection \
        strategy.rationale=none deploy=none

A run whose folder is complete is not run again. `--cards` prints the `runs:` of each card from what
is in `--out`, and the table that the README shows.

Minutes depend on what else the machine does; CPU seconds less so, but they too grow beside other
work. So a fixed matrix product is timed just before and after each run, and the training's CPU
seconds are also given in units of it (`train / GEMM`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from stratos import records


def machine() -> str:
    """Return what a reader needs to place the times."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, no GPU"


YARDSTICK = """
import time, torch
a, b = torch.randn(2, 2048, 2048).unbind()
a @ b
start = time.process_time()
for _ in range(10):
    a @ b
print(time.process_time() - start)
"""


def yardstick_cpu_seconds() -> float:
    """Return CPU seconds of ten float32 products of 2048 x 2048 matrices, in a fresh process."""
    command = [sys.executable, "-c", YARDSTICK]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run(student: str, seed: int, out: Path, extra: list[str]) -> None:
    """Run the main command once in its own folder."""
    folder = out / f"{student}-{seed}"
    if (folder / "report.json").exists():
        return
    command = [sys.executable, "-m", "stratos", "+task=mahjong", "cloud=aws"]
    command += [f"student={student}", f"seed={seed}", "logger=none", f"hydra.run.dir={folder}"]
    before = yardstick_cpu_seconds()
    start = time.monotonic()
    subprocess.run([*command, *extra], check=True)
    minutes = (time.monotonic() - start) / 60
    gemm = (before + yardstick_cpu_seconds()) / 2
    (folder / "times.json").write_text(json.dumps({"minutes": minutes, "gemm_cpu_seconds": gemm}))


def card(folder: Path) -> str:
    """Return one run as YAML of a card."""
    student = records.load(folder / "distill.json", None, records.Student)
    scores = records.load(folder / "evaluate.json", None, records.Scorecard)
    served = records.load(folder / "deploy.json", None, records.Deployment)
    plan = records.load(folder / "plan.json", None, records.Plan)
    assert student and scores and served and plan
    score = scores.score("student")
    assert score is not None
    whole = score.slice()
    made = date.fromtimestamp((folder / "evaluate.json").stat().st_mtime)
    slices = ", ".join(f"{s.slice}: {s.exact.mean:.4f}" for s in score.slices if s.slice != "all")
    return "\n".join(
        [
            f"  - task: {scores.task}",
            f"    strategy: {plan.strategy}",
            f"    accuracy: {whole.exact.mean:.4f}",
            f"    n_items: {whole.n_items}",
            f"    train_tokens: {student.train_tokens}",
            f"    tokens_per_answer: {score.output_tokens / whole.n_items:.1f}",
            f"    ms_per_answer: {served.latency_p50_ms:.0f}",
            f"    train_cpu_seconds: {student.cpu_seconds:.0f}",
            f"    seed: {folder.name.rpartition('-')[2]}",
            f'    date: "{made}"',
            f'    machine: "{machine()}"',
            f"    accuracy_by_slice: {{{slices}}}",
        ]
    )


def row(folder: Path) -> str:
    """Return one run as a row of the README's table."""
    student = records.load(folder / "distill.json", None, records.Student)
    scores = records.load(folder / "evaluate.json", None, records.Scorecard)
    assert student and scores and scores.comparison
    score = scores.score("student")
    assert score is not None
    cells = [folder.name]
    for name in ("full_flush", "general", "all"):
        exact = score.slice(name).exact
        cells.append(f"{exact.mean:.3f} ({exact.low:.3f}–{exact.high:.3f})")
    file = folder / "times.json"
    times = json.loads(file.read_text()) if file.exists() else {}
    gemm = times.get("gemm_cpu_seconds")
    cells += [
        f"{scores.comparison.ratio_at_least:.1f}",
        f"{student.seconds / 60:.1f}",
        f"{student.cpu_seconds:.0f}",
        f"{student.cpu_seconds / gemm:.0f}" if gemm else "–",
        f"{times['minutes']:.1f}" if times else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is missing, then print cards and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="stratos_1m")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", type=Path, default=Path("sweeps/students"))
    parser.add_argument("--cards", action="store_true")
    arguments, extra = parser.parse_known_args()
    for seed in [] if arguments.cards else arguments.seeds:
        run(arguments.student, seed, arguments.out, extra)
    done = sorted(path.parent for path in arguments.out.glob("*/evaluate.json"))
    print(
        "| run | full flush | general | both | ratio ≥ | train min | train CPU s | train / GEMM "
        "| run min |\n|---|---|---|---|---|---|---|---|---|"
    )
    for folder in done:
        print(row(folder))
    for folder in done:
        if (folder / "deploy.json").exists():
            print(f"\n# {folder.name}\n{card(folder)}")


if __name__ == "__main__":
    main()
