"""Attack the product with everything there is, and keep how much of it was survived.

    python benchmarks/product/attack.py                  about an hour on 2 cores; or: make attack
    python benchmarks/product/attack.py --keep           writes results/attack/whole.json
    python benchmarks/product/attack.py --files 10       damages 10 files of a run, not all of them
    python benchmarks/product/attack.py --reports *.xml  sums up what pytest wrote (--junitxml)

The cases are the tests in `tests/attack`: bad inputs by table, damaged files of a finished run,
kills, disks, streams, secrets, and an endpoint that fails and lies while it keeps the true bill;
the main command killed in each of its stages, and trainings of two processes; and jobs of a real
SLURM, a real Ray and a real SkyPilot, where they are installed, with nodes and servers lost on the
way. SkyPilot is installed here where there is root, a Python 3.10 (of pyenv, or in
$STRATOS_PYTHON310) and a package index; what is left out is said with the reason.
What is drawn (files, moments of kills) comes from the seed.
"""

from __future__ import annotations

import argparse
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

from record import keep

ROOT = Path(__file__).parents[2]
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="write the result")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--files", type=int, help="files of a run that are damaged; all")
    parser.add_argument("--kills", type=int, help="times that a run is killed; 25")
    parser.add_argument("--workers", type=int, default=2, help="processes; 2")
    parser.add_argument("--reports", nargs="*", type=Path, help="JUnit reports to sum up")
    args = parser.parse_args()
    if args.reports:
        show(summed(args.reports), args.keep, args.seed)
        return
    env = {**os.environ, "STRATOS_ATTACK": "whole", "STRATOS_ATTACK_SEED": str(args.seed)}
    for name, value in (("FILES", args.files), ("KILLS", args.kills)):
        if value is not None:
            env[f"STRATOS_ATTACK_{name}"] = str(value)
    env |= skypilot()
    parallel = ("--numprocesses", str(args.workers), "--dist", "worksteal")
    with tempfile.TemporaryDirectory() as folder:
        reports, codes = [], []
        started = time.monotonic()
        for tests, how in ((TESTS, parallel), (ALONE, ("--numprocesses", "0"))):
            reports.append(Path(folder) / f"{len(reports)}.xml")
            words = (*tests, f"--junitxml={reports[-1]}", *how, "--durations=0", "-q")
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=env, check=False
            )
            codes.append(done.returncode)
        result = summed(reports)
    result["seconds"] = round(time.monotonic() - started)
    show(result, args.keep, args.seed)
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


def show(result: dict[str, Any], is_kept: bool, seed: int) -> None:
    """Print what was tried and survived; keep it if it is to be."""
    for name, found in result["cases"].items():
        print(f"{name}: {found['tried']} tried, {found['survived']} survived")
    for name, why in result["skipped"].items():
        print(f"skipped {name}: {why}")
    for name in result["failed"]:
        print(f"FAILED {name}")
    if is_kept:
        keep("attack/whole", result, seed=seed)


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
        told = {one.get("name"): int(one.get("value", "0")) for one in case.iter("property")}
        name = _kind(case)
        cases[name]["tried"] += told.get("tried", 1)
        cases[name]["survived"] += told.get("survived", int(is_good))
        if not is_good:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
    by_name = {name: dict(found) for name, found in sorted(cases.items())}
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
