"""Start-up against a bare Hydra app with the same config groups, and a plan from a cached probe.

    python benchmarks/product/startup.py --records <run folder with a probe.json> [--runs 7]

The two commands are run in turn; printed is the median CPU time (user and system, children too) of
each, and of the ratio pair by pair, which holds on a noisy machine where seconds do not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

ROOT = Path(__file__).parents[2]
BARE = """
import hydra
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store("rooms", {})

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass

main()
"""


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Return CPU and wall seconds of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="run folder with a probe.json")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "conf", folder / "conf")
        (folder / "bare.py").write_text(BARE)
        bare, ours = [sys.executable, "bare.py"], [sys.executable, "-m", "stratos"]
        task = "+task=mahjong"
        pairs = {
            "--help": ([*bare, "--help"], [*ours, "--help"]),
            "--cfg job": ([*bare, task, "--cfg", "job"], [*ours, task, "--cfg", "job"]),
        }
        for what, (theirs, mine) in pairs.items():
            rows = []
            for _ in range(arguments.runs + 1):
                rows.append((measure(theirs, folder)[0], measure(mine, folder)[0]))
            rows = rows[1:]  # the first warms the disk
            ratio = statistics.median(b / a for a, b in rows)
            a, b = (statistics.median(column) for column in zip(*rows, strict=True))
            found[what] = {"bare_cpu_s": a, "cpu_s": b, "ratio": ratio, "pairs": rows}
            print(f"{what}: bare Hydra {a:.2f} CPU s, stratos {b:.2f} CPU s, ratio {ratio:.2f}")
        if arguments.records:
            plan = [*ours, task, "cloud=aws", "stages=[plan]", "logger=none"]
            plan += [f"paths.records_from={arguments.records.resolve()}"]
            rows = [measure(plan, folder) for _ in range(arguments.runs + 1)][1:]
            cpu, wall = (statistics.median(column) for column in zip(*rows, strict=True))
            found["plan"] = {"cpu_s": cpu, "wall_s": wall, "runs": rows}
            print(f"stages=[plan] from a cached probe: {cpu:.2f} CPU s, {wall:.2f} s")
    if arguments.keep:
        keep("startup", found)


if __name__ == "__main__":
    main()
