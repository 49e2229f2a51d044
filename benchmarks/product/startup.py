"""Start-up against a bare Hydra app with the same config groups, and a plan from a cached probe.

    python benchmarks/product/startup.py --records <run folder with a probe.json> [--runs 7]

The two commands are run in turn; printed is the median CPU time (user and system, children too) of
each, and of the ratio pair by pair, which holds on a noisy machine where seconds do not.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

TASK = "+task=mahjong"
BARE = """
import hydra
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store("rooms", {})

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass

main()
"""


def seconds_of(command: list[str], folder: Path) -> tuple[float, float]:
    """Return CPU and wall seconds of a command that must succeed."""
    used = record.measured_process(command, cwd=folder)
    return used["cpu_s"], used["wall_s"]


def main() -> None:
    """Measure in turn; the first run of each pair warms the disk."""
    parser = record.arguments(__doc__)
    parser.add_argument("--records", type=Path, help="run folder with a probe.json")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    ours = [sys.executable, "-m", "stratos"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(record.ROOT / "conf", folder / "conf")
        (folder / "bare.py").write_text(BARE)
        for what, words in {"--help": ["--help"], "--cfg job": [TASK, "--cfg", "job"]}.items():
            bare = [sys.executable, "bare.py", *words]
            rows = [
                (seconds_of(bare, folder)[0], seconds_of([*ours, *words], folder)[0])
                for _ in range(options.runs + 1)
            ][1:]
            theirs, mine = (statistics.median(column) for column in zip(*rows, strict=True))
            ratio = statistics.median(b / a for a, b in rows)
            result[what] = {"bare_cpu_s": theirs, "cpu_s": mine, "ratio": ratio, "pairs": rows}
        if options.records:
            plan = [*ours, TASK, "cloud=aws", "stages=[plan]", "logger=none"]
            plan += [f"paths.records_from={options.records.resolve()}"]
            rows = [seconds_of(plan, folder) for _ in range(options.runs + 1)][1:]
            cpu, wall = (statistics.median(column) for column in zip(*rows, strict=True))
            result["plan"] = {"cpu_s": cpu, "wall_s": wall, "runs": rows}
    record.finish("startup", result, options)


if __name__ == "__main__":
    main()
