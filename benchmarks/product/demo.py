"""Run what README tells to type first, and keep what it prints.

    python benchmarks/product/demo.py                        make demo: docs/mahjong.md shows it
    python benchmarks/product/demo.py --rows ../shared/real  a CSV of 300 real rows: README shows it

`make demo` takes a quarter of an hour on two idle cores. `benchmarks/results/demo.txt` has its text
without the name of the run folder, `demo.json` date, machine and load. The rows are those of
`benchmarks/kinds/own_rows.py`: questions of bank customers with ten labels. Their result is in
`benchmarks/results/quick.json`.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from kinds.own_rows import sets
from tutorials import COLUMNS, PROGRESS

FOLDER = "outputs/demo"
ROWS = "banking77, ten labels on cards"
QUICK = ("+task=classify", "task.path=questions.csv")
"""What README tells to type."""


def main() -> None:
    """Run it from the beginning, and keep the text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="environment that make creates")
    parser.add_argument("--rows", type=Path, help="folder of banking77/train.jsonl and test.jsonl")
    options = parser.parse_args()
    if options.rows is not None:
        return keep_quick(options.rows)
    command = ["make", "--silent", "demo", f"VENV={options.venv}", f"ARGS=hydra.run.dir={FOLDER}"]
    printed, result = timed(command, Path.cwd())
    (record.RESULTS / "demo.txt").write_text(printed)
    record.keep("demo", result, seed=0)


def keep_quick(real: Path) -> None:
    """Run on a CSV of real rows, and keep what was printed, and what a student of it is worth."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _, rows, _ = sets(real)[ROWS]
        with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("text", "label"), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.environ["STRATOS_CACHE"] = str(folder / "cache")
        command = [sys.executable, "-m", "stratos", *QUICK, f"hydra.run.dir={FOLDER}"]
        printed, result = timed(command, folder)
    typed = f"python -m stratos {' '.join(QUICK)}"
    record.keep("quick", {**result, "typed": typed, "printed": printed.splitlines()}, seed=0)


def timed(command: list[str], folder: Path) -> tuple[str, dict[str, float]]:
    """Run a command; return what it printed, and how long it took on how busy a machine."""
    started, before = time.monotonic(), os.getloadavg()[0]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took = {"minutes": (time.monotonic() - started) / 60, "load_before": before}
    return without_folder(done.stdout), took


def without_folder(printed: str) -> str:
    """Return the text without what names the run folder, and what is printed while it runs."""
    text = re.sub(rf"\S*{FOLDER}", "outputs/<run>", printed)
    lines = [line.rstrip() for line in text.splitlines() if not PROGRESS.fullmatch(line)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
