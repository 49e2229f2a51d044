"""Reading and cleaning of catalogs, against reading alone as SkyPilot does (`pandas.read_csv`).

    python benchmarks/catalog/speed.py [--catalog '../shared/catalog/*/vms.csv'] [--rows N] --keep

SkyPilot 0.14.1 reads a catalog with `pandas.read_csv(file)` (`LazyDataFrame` in its
sky/catalog/common.py) and cleans nothing. Each measurement is a process of its own: CPU seconds
(user and system), the interpreter and its imports included, and the peak of its memory. The
commands are run in turn; kept are medians, and the median of the ratio run by run, which holds on a
busy machine. The synthetic catalog has `--rows` offers of five clouds, all different, half of them
with GPUs.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import statistics
import sys
import tempfile
from glob import glob
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

THEIRS = """
import sys, pandas
print(sum(len(pandas.read_csv(file)) for file in sys.argv[1:]))
"""
OURS = """
import sys
from pathlib import Path
from stratos.catalog import load_catalog
from stratos.config import CloudConfig
cache = Path(sys.argv[1]) if sys.argv[1] else None
print(len(load_catalog(CloudConfig(catalog=tuple(sys.argv[2:])), cache_dir=cache).table))
"""
CLOUDS = ("aws", "azure", "lambda", "nebius", "runpod")
GPUS = (("T4", 16), ("L4", 24), ("A10G", 24), ("A100", 40), ("A100-80GB", 80), ("H100", 80))
COLUMNS = (
    "InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo", "Price",
    "SpotPrice", "Region", "AvailabilityZone",
)  # fmt: skip


def synthetic(folder: Path, n_rows: int) -> list[str]:
    """Write <cloud>/vms.csv of five clouds with `n_rows` different offers; return the files."""
    rng, files = random.Random(0), []
    for cloud in CLOUDS:
        path = folder / cloud / "vms.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(offer(rng, number) for number in range(n_rows // len(CLOUDS)))
        files.append(str(path))
    return files


def offer(rng: random.Random, number: int) -> tuple[Any, ...]:
    """Return a row: 100 regions of each instance type, every other type with GPUs."""
    region, vcpus = f"region-{number % 100}", 2.0 ** rng.randrange(1, 8)
    gpu, info, count = "", "", ""
    if number // 100 % 2:
        (gpu, gib), n = rng.choice(GPUS), 2 ** rng.randrange(4)
        count = str(float(n))
        memory = {"MemoryInfo": {"SizeInMiB": gib * 1024}}
        gpus = [{"Name": gpu, "Manufacturer": "NVIDIA", "Count": n, **memory}]
        info = str({"Gpus": gpus, "TotalGpuMemoryInMiB": gib * 1024 * n})
    price = rng.uniform(0.05, 90)
    spot = f"{price * rng.uniform(0.1, 0.9):.5f}" if number % 3 else ""
    memory_gib = vcpus * rng.choice((2, 4, 8))
    return (f"type-{number // 100}", gpu, count, vcpus, memory_gib, info, f"{price:.5f}", spot,
            region, f"{region}a")  # fmt: skip


def used(code: str, *words: str) -> dict[str, Any]:
    """Return CPU seconds, peak MiB and the printed number of rows of a process."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return record.measured_process([sys.executable, "-c", code, *words], cwd=record.ROOT, env=env)


def compare(files: list[str], runs: int, cache: Path) -> dict[str, Any]:
    """Return what reading these files takes, theirs and ours."""
    cases = {
        "pandas.read_csv": (THEIRS, files),
        "read + clean": (OURS, ["", *files]),
        "read + clean + keep": (OURS, [str(cache), *files]),
        "from the cache": (OURS, [str(cache), *files]),
    }
    rounds = []
    for _ in range(runs):
        shutil.rmtree(cache / "catalogs", ignore_errors=True)
        rounds.append({name: used(code, *words) for name, (code, words) in cases.items()})

    def figures(name: str) -> dict[str, float]:
        ratios = [row[name]["cpu_s"] / row["pandas.read_csv"]["cpu_s"] for row in rounds]
        return {
            "cpu_s": statistics.median(row[name]["cpu_s"] for row in rounds),
            "ratio": statistics.median(ratios),
            "peak_mib": max(row[name]["peak_mib"] for row in rounds),
        }

    n_rows = int(rounds[0]["pandas.read_csv"]["printed"])
    return {"rows": n_rows, **{name: figures(name) for name in cases}}


def main() -> None:
    """Measure the real catalogs, where there are some, and a synthetic one."""
    parser = record.arguments(__doc__)
    parser.add_argument("--catalog", default="../shared/catalog/*/vms.csv")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if real := sorted(glob(str(record.ROOT / options.catalog))):
            result["real"] = compare(real, options.runs, folder / "cache")
        files = synthetic(folder / "synthetic", options.rows)
        result["synthetic"] = compare(files, options.runs, folder / "cache")
    record.finish("catalog", result, options, seed=0)


if __name__ == "__main__":
    main()
