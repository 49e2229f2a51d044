r"""Mahjong training through the command, now and at an earlier commit: tokens a second.

    python benchmarks/distillation/since.py --keep
    python benchmarks/distillation/since.py --commit d8e96ff --busy 0 10 --runs 3

Both trees run the same command up to the distill stage, and then train in turn, each in a process
of its own: the 1M student on verified items, validated at the end alone. Beside other work the
earlier one takes minutes for a hundred thousand tokens, so both get fewer there. The busy processes
do nothing but count; they are started and ended here. Tokens and seconds by the clock are those
that the command itself wrote down; ratios are medians over pairs of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
BEFORE = "d8e96ff"
"""The last commit whose trainings had threads that spin 20,000 times at a barrier."""
QUIET_TOKENS, BUSY_TOKENS = 600_000, 40_000


def main() -> None:
    """Run both trees beside every number of busy processes, in turn."""
    from busy import busy
    from record import keep

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commit", default=BEFORE)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 10])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trees = {"before": earlier(options.commit, folder / "earlier"), "now": ROOT}
        for tree, path in trees.items():
            command(path, folder / tree, "[probe,plan,synthesize]", QUIET_TOKENS)
        n_trained = 0
        for n_busy in options.busy:
            tokens = BUSY_TOKENS if n_busy else QUIET_TOKENS
            rows: dict[str, list[dict[str, Any]]] = {tree: [] for tree in trees}
            with busy(n_busy):
                for _ in range(options.runs):
                    n_trained += 1  # of another length: it is trained again
                    for tree, path in trees.items():
                        rows[tree].append(trained(path, folder / tree, tokens + n_trained))
                        print(n_busy, tree, rows[tree][-1], flush=True)
            pairs = zip(rows["now"], rows["before"], strict=True)
            times = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs]
            found.append({"busy": n_busy, "tokens": tokens, "runs": rows, "times": median(times)})
            print(f"beside {n_busy} busy processes: {median(times):.2f} times as fast", flush=True)
    if options.keep:
        keep("distillation/since", {"commit": options.commit, "cases": found}, seed=0)


def earlier(commit: str, folder: Path) -> Path:
    """Return a folder with the files of a commit."""
    folder.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    return folder


def command(tree: Path, folder: Path, stages: str, tokens: int) -> None:
    """Run stages of one tree's command in its run folder."""
    settings = [
        "+task=mahjong",
        "cloud=aws",
        "student=stratos_1m",
        "strategy=injection",
        "strategy.n_items=20000",
        "probe.n_items=4",
        "probe.n_trial_items=1",
        f"stages={stages}",
        f"trainer.max_tokens={tokens}",
        "callbacks.validate_every_steps=0",
        "callbacks.n_validation_items=16",
        f"hydra.run.dir={folder}",
    ]
    subprocess.run(
        [sys.executable, "-P", "-m", "stratos", *settings],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def trained(tree: Path, folder: Path, tokens: int) -> dict[str, Any]:
    """Train once in a run folder; return what that took."""
    command(tree, folder, "[distill]", tokens)
    student = json.loads((folder / "distill.json").read_text())["record"]
    return {
        "tokens_per_s": student["train_tokens"] / student["seconds"],
        "tokens": student["train_tokens"],
        "seconds": student["seconds"],
        "cpu_seconds": student["cpu_seconds"],
        "threads": student.get("threads"),
        "processes": student.get("processes", 1),
    }


if __name__ == "__main__":
    main()
