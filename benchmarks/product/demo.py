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

FOLDER = "outputs/demo"
COLUMNS = 120
_PROGRESS = re.compile(r"[a-z]+ +(…|\d+% .*)")
"""What a stage prints when it begins, and while it runs."""


def main() -> None:
    """Run it in the current clone, from the beginning, and keep the text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="environment that make creates")
    told = parser.parse_args()
    started, before = time.monotonic(), os.getloadavg()[0]
    arguments = f"hydra.run.dir={FOLDER}"
    done = subprocess.run(
        ["make", "--silent", "demo", f"VENV={told.venv}", f"ARGS={arguments}"],
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (record.RESULTS / "demo.txt").write_text(kept(done.stdout))
    took = {"minutes": (time.monotonic() - started) / 60, "load_before": before}
    record.keep("demo", took, seed=0)


def kept(printed: str) -> str:
    """Return the text without what names the run folder, and what is printed while it runs."""
    text = re.sub(rf"\S*{FOLDER}", "outputs/<run>", printed)
    lines = [line.rstrip() for line in text.splitlines() if not _PROGRESS.fullmatch(line)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
