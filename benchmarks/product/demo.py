"""Run what README tells to type first, and keep what it prints.

    python benchmarks/product/demo.py <venv>/bin/stratos

The program is that of a core install (`pip install .` in an environment of its own).
`benchmarks/results/quick.json` has what `stratos demo` printed, date, machine, load and minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from tutorials import COLUMNS, PROGRESS


def main() -> None:
    """Run the demo of a core install in a fresh folder, and keep what it printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="the program stratos of a core install")
    program = parser.parse_args().program
    record.commit()
    started, before = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        apart = {name: str(folder / name) for name in ("STRATOS_CACHE", "XDG_STATE_HOME")}
        env = {**os.environ, **apart, "COLUMNS": str(COLUMNS), "PYTHONPATH": ""}
        done = subprocess.run(
            [program, "demo"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True
        )
    printed = [line.rstrip() for line in PROGRESS.sub("", done.stdout).splitlines()]
    took = {"minutes": (time.monotonic() - started) / 60, "load_before": before}
    record.keep("quick", {**took, "printed": printed}, seed=0)


if __name__ == "__main__":
    main()
