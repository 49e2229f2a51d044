"""Run what README tells to type first, and keep what it prints.

    python benchmarks/product/demo.py                             make demo, for docs/mahjong.md
    python benchmarks/product/demo.py --quick <venv>/bin/stratos  stratos demo, for README

`make demo` takes a quarter of an hour on two idle cores. `benchmarks/results/demo.txt` has its text
without the name of the run folder, `demo.json` date, machine and load. `stratos demo` is that of a
core install (`pip install .` in an environment of its own); `quick.json` has what it printed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from tutorials import COLUMNS, PROGRESS

FOLDER = "outputs/demo"


def main() -> None:
    """Run it from the beginning, and keep the text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="environment that make creates")
    parser.add_argument("--quick", type=Path, help="the program stratos of a core install")
    options = parser.parse_args()
    record.commit()
    if options.quick is not None:
        return keep_quick(options.quick)
    command = ["make", "--silent", "demo", f"VENV={options.venv}", f"ARGS=hydra.run.dir={FOLDER}"]
    printed, result = timed(command, Path.cwd(), {})
    (record.RESULTS / "demo.txt").write_text(printed)
    record.keep("demo", result, seed=0)


def keep_quick(program: Path) -> None:
    """Run the demo of a core install in a fresh folder, and keep what it printed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        apart = {name: str(folder / name) for name in ("STRATOS_CACHE", "XDG_STATE_HOME")}
        printed, result = timed([str(program), "demo"], folder, {**apart, "PYTHONPATH": ""})
    record.keep("quick", {**result, "printed": printed.splitlines()}, seed=0)


def timed(command: list[str], folder: Path, env: dict[str, str]) -> tuple[str, dict[str, float]]:
    """Run a command; return what it printed, and how long it took on how busy a machine."""
    started, before = time.monotonic(), os.getloadavg()[0]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": str(COLUMNS), **env},
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
