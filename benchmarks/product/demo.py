"""Run `make demo` and keep what it prints: the text that README shows.

    python benchmarks/product/demo.py

It takes a quarter of an hour on two idle cores. `benchmarks/results/demo.txt` has the text without
the name of its run folder, `demo.json` date, machine and load.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from tutorials import COLUMNS, PROGRESS

FOLDER = "outputs/demo"


def main() -> None:
    """Run it in the current clone, from the beginning, and keep the text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="environment that make creates")
    options = parser.parse_args()
    started, before = time.monotonic(), os.getloadavg()[0]
    arguments = f"hydra.run.dir={FOLDER}"
    done = subprocess.run(
        ["make", "--silent", "demo", f"VENV={options.venv}", f"ARGS={arguments}"],
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (record.RESULTS / "demo.txt").write_text(without_folder(done.stdout))
    result = {"minutes": (time.monotonic() - started) / 60, "load_before": before}
    record.keep("demo", result, seed=0)


def without_folder(printed: str) -> str:
    """Return the text without what names the run folder, and what is printed while it runs."""
    text = re.sub(rf"\S*{FOLDER}", "outputs/<run>", printed)
    lines = [line.rstrip() for line in text.splitlines() if not PROGRESS.fullmatch(line)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
