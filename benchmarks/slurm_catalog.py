"""How long a cluster of thousands of nodes takes to be read as a catalog, and to be planned with.

    python benchmarks/slurm_catalog.py                    3,700 nodes of six kinds
    python benchmarks/slurm_catalog.py --nodes 10000 --keep

The controller is a real slurmctld with that many nodes, none of which runs anything: they are
asleep (State=CLOUD), as cloud nodes are until a job wakes them. Needs what
tests/contrib/slurm/slurm.sh needs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import keep

ROOT = Path(__file__).parents[1]
KINDS = (
    ("cpu", "CPUs=64 RealMemory=256000 Feature=rome", 55),
    ("fat", "CPUs=128 RealMemory=2048000 Feature=milan", 10),
    ("a100", "CPUs=64 RealMemory=512000 Gres=gpu:a100:4 Feature=ib", 15),
    ("h100", "CPUs=96 RealMemory=1024000 Gres=gpu:h100:8 Feature=ib", 10),
    ("l40s", "CPUs=32 RealMemory=256000 Gres=gpu:l40s:2", 7),
    ("t4", "CPUs=16 RealMemory=64000 Gres=gpu:t4:1", 3),
)
"""Name, line of slurm.conf, and percent of the nodes."""
READ = """
import time
from stratos.catalog import load_catalog
from stratos.config import CloudConfig
started = time.perf_counter()
catalog = load_catalog(CloudConfig(name="slurm", providers=("slurm",)))
print(time.perf_counter() - started, len(catalog.offers), int(catalog.table.max_count.sum()))
"""


def main() -> None:
    """Start the controller, measure, end it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3700)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="write the result")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }
        pids = start(folder, args.nodes, env)
        try:
            result = measure(folder, args.repeats, env)
        finally:
            end(pids)
    result["nodes"] = args.nodes
    for key, value in result.items():
        print(f"{key}: {value}")
    if args.keep:
        keep("slurm_catalog", result)


def start(folder: Path, n_nodes: int, env: dict[str, str]) -> list[int]:
    """Start munged and slurmctld; return their process ids."""
    script = str(ROOT / "tests" / "contrib" / "slurm" / "slurm.sh")
    lines, first = [], 1
    for name, what, percent in KINDS:
        n = max(1, n_nodes * percent // 100)
        lines += [
            f"NodeName={name}[{first}-{first + n - 1}] State=CLOUD {what}",
            f"PartitionName={name} Nodes={name}[{first}-{first + n - 1}] MaxTime=2-00:00:00",
        ]
        first += n
    lines += ["SuspendProgram=/bin/true", "ResumeProgram=/bin/true", "SuspendTime=60"]
    (folder / "more.conf").write_text("\n".join(lines) + "\n")
    subprocess.run(["bash", script, "control", str(folder)], env=env, check=True)
    until = time.monotonic() + 60
    while subprocess.run(["sinfo", "-h"], env=env, capture_output=True, check=False).returncode:
        if time.monotonic() > until:
            sys.exit((folder / "log" / "slurmctld.log").read_text())
        time.sleep(0.2)
    return [int((folder / one).read_text()) for one in ("slurmctld.pid", "munge.pid")]


def end(pids: list[int]) -> None:
    """End processes that this one started, and wait until they are gone: they write once more."""
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)


def measure(folder: Path, repeats: int, env: dict[str, str]) -> dict[str, Any]:
    """Return seconds of reading, in a process each, and of a whole command that plans."""
    read = []
    for _ in range(repeats):
        told = subprocess.run(
            [sys.executable, "-c", READ], env=env, capture_output=True, text=True, check=True
        ).stdout.split()
        read.append(float(told[0]))
    sys.path.insert(0, str(ROOT / "tests"))
    from probed_run import probe_by_hand

    plan = []
    for i in range(repeats):
        run = folder / f"run{i}"
        probe_by_hand(run)
        started = time.perf_counter()
        subprocess.run(
            [
                sys.executable, "-m", "stratos", "+task=mahjong", "cloud=slurm", "stages=[plan]",
                "logger=none", f"paths.cache_dir={folder}/cache", f"hydra.run.dir={run}",
            ],
            env=env, capture_output=True, check=True,
        )  # fmt: skip
        plan.append(time.perf_counter() - started)
    return {
        "read_s": statistics.median(read),
        "plan_command_s": statistics.median(plan),
        "offers": int(told[1]),
        "shares": int(told[2]),
        "repeats": repeats,
    }


if __name__ == "__main__":
    main()
