"""Reading and cleaning of catalogs, against reading alone as SkyPilot does (`pandas.read_csv`).

    python benchmarks/catalog/speed.py [--catalog 'FOLDER/*/vms.csv'] [--rows N] [--runs N]

SkyPilot 0.14.1 reads a catalog with `pandas.read_csv(file)` (`LazyDataFrame` in its
sky/catalog/common.py) and cleans nothing. Each measurement is a process of its own: CPU seconds
(user and system), the interpreter and its imports included, and the peak of its memory. The
commands are run in turn; printed are medians, and the median of the ratio run by run, which holds
on a busy machine. The synthetic catalog has `--rows` offers of five clouds, all different, half of
them with GPUs.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

ROOT = Path(__file__).parents[2]

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
GPUS = (("T4", 16), ("L4", 24), ("A10G", 24), ("A100", 40), ("A100-80GB", 80), ("H100", 80))


def synthetic(folder: Path, n_rows: int) -> list[str]:
    """Write <cloud>/vms.csv of five clouds with `n_rows` different offers; return the files."""
    rng = random.Random(0)
    clouds = ("aws", "azure", "lambda", "nebius", "runpod")
    files = []
    for cloud in clouds:
        path = folder / cloud / "vms.csv"
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            file.write(
                "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,"
                "SpotPrice,Region,AvailabilityZone\n"
            )
            for row in range(n_rows // len(clouds)):
                region, vcpus = f"region-{row % 100}", 2 ** rng.randrange(1, 8)
                gpu, info, count = "", "", ""
                if row // 100 % 2:
                    (gpu, gib), n = rng.choice(GPUS), 2 ** rng.randrange(4)
                    count = str(float(n))
                    info = (
                        f"\"{{'Gpus': [{{'Name': '{gpu}', 'Manufacturer': 'NVIDIA', 'Count': {n}, "
                        f"'MemoryInfo': {{'SizeInMiB': {gib * 1024}}}}}], "
                        f"'TotalGpuMemoryInMiB': {gib * 1024 * n}}}\""
                    )
                price = rng.uniform(0.05, 90)
                spot = f"{price * rng.uniform(0.1, 0.9):.5f}" if row % 3 else ""
                file.write(
                    f"type-{row // 100},{gpu},{count},{vcpus}.0,{vcpus * rng.choice((2, 4, 8))}.0,"
                    f"{info},{price:.5f},{spot},{region},{region}a\n"
                )
        files.append(str(path))
    return files


def measure(code: str, *arguments: str) -> tuple[float, float, int]:
    """Return CPU seconds, peak MiB and the printed number of a process that must succeed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a measured process failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, int(output)


def compare(title: str, files: list[str], runs: int, folder: Path) -> dict[str, Any]:
    """Print what reading these files takes, theirs and ours; return it."""
    rows = measure(THEIRS, *files)[2]
    megabytes = sum(Path(file).stat().st_size for file in files) / 1e6
    print(f"{title}: {rows:,} rows in {len(files)} files, {megabytes:.1f} MB")
    cache = str(folder)
    measured: dict[str, list[tuple[float, float, int]]] = {}
    for _ in range(runs):
        for entry in glob(f"{cache}/catalogs/*"):
            os.unlink(entry)
        for name, code, arguments in (
            ("pandas.read_csv", THEIRS, files),
            ("read + clean", OURS, ["", *files]),
            ("read + clean + keep", OURS, [cache, *files]),
            ("from the cache", OURS, [cache, *files]),
        ):
            measured.setdefault(name, []).append(measure(code, *arguments))
    theirs = [cpu for cpu, _, _ in measured["pandas.read_csv"]]
    found: dict[str, Any] = {"rows": rows, "megabytes": megabytes, "runs": measured}
    for name, samples in measured.items():
        cpu = statistics.median(cpu for cpu, _, _ in samples)
        ratio = statistics.median(s[0] / t for s, t in zip(samples, theirs, strict=True))
        peak = max(peak for _, peak, _ in samples)
        found[name] = {"cpu_s": cpu, "ratio": ratio, "peak_mib": peak}
        print(
            f"  {name:20} {cpu:6.2f} CPU s   {ratio:5.2f} x   peak {peak:5.0f} MiB   "
            f"{samples[0][2]:,} {'rows' if name.startswith('pandas') else 'offers'}"
        )
    return found


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", default="../shared/catalog/*/vms.csv")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    real = sorted(glob(str(ROOT / arguments.catalog)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {}
        if real:
            found["real"] = compare("real", real, arguments.runs, folder / "cache")
        else:
            print(f"real: there is nothing at {arguments.catalog}")
        files = synthetic(folder / "synthetic", arguments.rows)
        found["synthetic"] = compare("synthetic", files, arguments.runs, folder / "cache")
    if arguments.keep:
        keep("catalog", found, seed=0)


if __name__ == "__main__":
    main()
