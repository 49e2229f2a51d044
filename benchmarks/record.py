"""The raw result of a measurement, kept with what made it: `benchmarks/results/<name>.json`.

What README and docs say of a measurement is written from these files by `benchmarks/figures.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
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
NO_CODE = (":!benchmarks/results", ":!docs", ":!README.md")
"""What a benchmark writes, and what is written from that."""


class _Keep(argparse.Action):
    """`--keep`, which asks for a commit before anything is measured."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        commit()
        namespace.keep = True


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that prints a script's docstring as its help, and knows `--keep`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action=_Keep, nargs=0, default=False, help="write the raw result")
    return parser


def finish(name: str, result: Any, options: argparse.Namespace, **more: Any) -> None:
    """Print a raw result, and write it where `--keep` was typed."""
    print(json.dumps(result, indent=1, default=str))
    if options.keep:
        keep(name, result, **more)


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
    content = {**circumstances(), "seed": seed, **(more or {}), "result": result}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"kept {path}")
    return path


def load(name: str, default: Any = None) -> dict[str, Any]:
    """Return what `keep` wrote; a default result where there is no file and one is given."""
    path = RESULTS / f"{name}.json"
    if default is not None and not path.exists():
        return {"result": default}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def circumstances() -> dict[str, Any]:
    """Return where and when a result came to be, with versions and command of this process."""
    return {
        **provenance(),
        "versions": {"python": platform.python_version()} | _versions(),
        "command": " ".join(["python", *map(_without_folder, sys.argv)]),
    }


def provenance() -> dict[str, Any]:
    """Return date, machine, load and commit of what is to be kept.

    Raises:
        SystemExit: the code is of no commit, so nobody could repeat it.
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": commit(),
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
    installed = {dist.name: dist.version for dist in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


@cache
def commit() -> str:
    """Return the commit of the code as this process began to measure.

    Raises:
        SystemExit: there is none: other files than results and documents differ from it.
    """
    changed = _git("status", "--porcelain", "--", ".", *NO_CODE)
    if changed or not (revision := _git("rev-parse", "HEAD")):
        raise SystemExit(
            "A result is kept with the commit that made it, and these files are of none:\n"
            f"{changed or 'all, as this is no clone'}\nCommit them, or leave out --keep."
        )
    return revision[:12]


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.rstrip()


def measured_process(command: Sequence[str], **options: Any) -> dict[str, Any]:
    """Run a command, which must succeed; return its seconds, its peak memory and what it printed.

    CPU seconds are those of the process and of the children that it waited for.
    """
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{printed}")
    return {
        "wall_s": time.monotonic() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "printed": printed,
    }


def scores_of(card: Any) -> dict[str, dict[str, Any]]:
    """Return the scores of an evaluation over all its items, by role."""
    return {
        score.role: {
            "name": score.name,
            "exact": score.slice().exact.mean,
            "low": score.slice().exact.low,
            "high": score.slice().exact.high,
            "n_items": score.slice().n_items,
        }
        for score in card.scores
    }
