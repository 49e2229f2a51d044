"""Attack the product with everything there is, and keep how much of it was survived.

    python benchmarks/product/attack.py                  about an hour on 2 cores; or: make attack
    python benchmarks/product/attack.py --keep           writes results/attack/whole.json
    python benchmarks/product/attack.py --files 10       damages 10 files of a run, not all of them

The cases are the tests in `tests/attack`: bad inputs by table, damaged files of a finished run,
kills, disks, streams, secrets, and an endpoint that fails and lies while it keeps the true bill;
the main command killed in each of its stages, and trainings of two processes; and jobs of a real
SLURM, a real Ray and a real SkyPilot, where they are installed, with nodes and servers lost on the
way. SkyPilot is installed here where there is root, a Python 3.10 (of pyenv, or in
$STRATOS_PYTHON310) and a package index; what is left out is said with the reason.
What is drawn (files, moments of kills) comes from the seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

ROOT = record.ROOT
TESTS = (
    "tests/attack",
    "tests/test_pipeline.py",
    "tests/distill/test_collectives.py",
    "tests/executors/test_servers.py",
    "tests/contrib/slurm/test_slurm.py",
    "tests/contrib/slurm/test_earlier.py",
    "tests/contrib/slurm/test_sweeps.py",
    "tests/contrib/ray/test_ray.py",
    "tests/contrib/ray/test_sweeps.py",
)
ALONE = ("tests/contrib/skypilot/test_on_aws.py",)
"""Tests that no other process may run at the same time: their network has one name."""
SKYPILOT = ROOT / "tests" / "contrib" / "skypilot" / "skypilot.sh"


def main() -> None:
    """Run the attack; exit as pytest does."""
    parser = record.arguments(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--files", type=int, help="files of a run that are damaged; all")
    parser.add_argument("--kills", type=int, help="times that a run is killed; 25")
    parser.add_argument("--workers", type=int, default=2, help="processes; 2")
    options = parser.parse_args()
    env = {**os.environ, "STRATOS_ATTACK": "whole", "STRATOS_ATTACK_SEED": str(options.seed)}
    for name, value in (("FILES", options.files), ("KILLS", options.kills)):
        if value is not None:
            env[f"STRATOS_ATTACK_{name}"] = str(value)
    env |= skypilot()
    parallel = ("--numprocesses", str(options.workers), "--dist", "worksteal")
    with tempfile.TemporaryDirectory() as folder:
        reports, codes = [], []
        started = time.monotonic()
        for tests, workers in ((TESTS, parallel), (ALONE, ("--numprocesses", "0"))):
            reports.append(Path(folder) / f"{len(reports)}.xml")
            words = (*tests, f"--junitxml={reports[-1]}", *workers, "--durations=0", "-q")
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=env, check=False
            )
            codes.append(done.returncode)
        result = summed(reports)
    result["seconds"] = round(time.monotonic() - started)
    record.finish("attack/whole", result, options, seed=options.seed)
    sys.exit(max(codes))


def skypilot() -> dict[str, str]:
    """Return the variables that name an environment with SkyPilot: made now where it can be."""
    if os.environ.get("STRATOS_SKY") or os.geteuid():
        return {}
    python = Path(os.environ.get("STRATOS_PYTHON310") or _newest_python310())
    opt = Path(os.environ.get("STRATOS_SKY_OPT") or "/opt/stratos-sky")
    if not (opt / "made").exists():
        print("An environment with SkyPilot is made: a few minutes.", flush=True)
        if subprocess.run(["bash", str(SKYPILOT), "make", str(python)], check=False).returncode:
            return {}
        (opt / "made").touch()
    # The tests' own environment has moto.
    return {"STRATOS_SKY": str(opt / "sky"), "STRATOS_MOTO": sys.prefix}


def _newest_python310() -> str:
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    return str(max(root.glob("3.10.*"), default=root / "3.10"))


def summed(reports: Sequence[Path]) -> dict[str, Any]:
    """Return how many cases of each kind were tried and survived, what failed, what was skipped.

    A test that stands in several reports counts once, as it ended in the last of them.
    """
    last = {
        (case.get("classname"), case.get("name")): case
        for case in chain.from_iterable(
            ElementTree.parse(report).getroot().iter("testcase") for report in reports
        )
    }
    cases: defaultdict[str, Counter[str]] = defaultdict(Counter)
    failed: list[str] = []
    skipped: dict[str, str] = {}
    n_skipped = 0
    for case in last.values():
        if (skip := case.find("skipped")) is not None:
            n_skipped += 1
            skipped[_kind(case)] = skip.get("message", "")
            continue
        is_good = case.find("failure") is None and case.find("error") is None
        counts = {row.get("name"): int(row.get("value", "0")) for row in case.iter("property")}
        name = _kind(case)
        cases[name]["tried"] += counts.get("tried", 1)
        cases[name]["survived"] += counts.get("survived", int(is_good))
        if not is_good:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
    by_name = {name: dict(counts) for name, counts in sorted(cases.items())}
    return {"cases": by_name, "failed": failed, "n_skipped": n_skipped, "skipped": skipped}


def _kind(case: ElementTree.Element) -> str:
    """Return what a test tries: its module, and the table or the damage where it names one."""
    module = case.get("classname", "").rpartition("test_")[2]
    test, _, parameter = case.get("name", "").removesuffix("]").partition("[")
    if test == "test_a_bad_input_is_refused":
        return f"{module}: {parameter.partition(': ')[0]}"
    if test == "test_a_damaged_file_is_mended_or_named":
        return f"{module}: {parameter}"
    return module


if __name__ == "__main__":
    main()
