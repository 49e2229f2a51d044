"""The raw result of a measurement, kept with what made it: `benchmarks/results/<name>.json`.

What README and docs say of a measurement is written from these files by `benchmarks/figures.py`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "transformers",
    "lightning",
    "trl",
    "liger-kernel",
    "pulp",
    "highspy",
    "scikit-learn",
    "bespokelabs-curator",
)
"""Versions of these are kept, as far as they are installed."""


def keep(
    name: str, result: Any, *, seed: int | None = None, more: Mapping[str, Any] | None = None
) -> Path:
    """Write a raw result with its date, machine, versions, command and seed; return the file.

    Args:
        name: of the file below `benchmarks/results/`, such as "distillation/step".
        result: what was measured, as JSON can hold it.
        seed: of what was drawn, where something was.
        more: further facts, such as versions of peers in another environment.
    """
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {**circumstances(), "seed": seed, **(more or {}), "result": result}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"kept {path}")
    return path


def load(name: str) -> dict[str, Any]:
    """Return what `keep` wrote."""
    kept: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return kept


def circumstances() -> dict[str, Any]:
    """Return date, machine, load, versions and command of this process."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(),
        "command": " ".join(["python", *map(_without_folder, sys.argv)]),
    }


def _without_folder(argument: str) -> str:
    """Return an argument, or NAME=argument, without the folders that nobody else has."""
    name, equals, value = argument.rpartition("=")
    path = Path(value)
    return f"{name}{equals}{path.name}" if path.is_absolute() else argument


def machine() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    root = Path(__file__).parents[1]
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
