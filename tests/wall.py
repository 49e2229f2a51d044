"""The wall: without a room of `stratos/contrib`, the core imports, composes and passes its tests.

    python tests/wall.py                    every room, one after another
    python tests/wall.py slurm ray          these
    python tests/wall.py --quick            only tests that can notice a missing room
    python tests/wall.py slurm -- tests/cli -k check     other arguments for pytest

Of each room a copy of this checkout is made and the room deleted there: its code with its conf, its
tests, its pages, its launcher, and the rooms that import it. In the copy, every module is imported,
every choice of every config group is composed, `stratos --help` is typed, and the tests of the core
run.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ("tests", "--ignore=tests/contrib", "--ignore=tests/attack")
"""Tests of the core; those of `make attack` name choices of all rooms."""
QUICK = (
    "tests/test_rooms.py", "tests/test_pages.py", "tests/cli", "tests/catalog", "tests/launchers",
    "tests/plan/test_conf.py", "tests/plan/explain/test_show.py", "tests/deploy/test_service.py",
    "tests/executors/test_job.py", "tests/run/test_placing.py", "tests/run/test_summary.py",
    "tests/tasks", "-k", "not tells_to_type and not make_a_site and not shipped_choice_passes",
)  # fmt: skip
"""What can notice a missing room, and takes seconds."""
PARALLEL = ("--numprocesses", "2", "--dist", "loadfile")
COMPOSE = """
from itertools import zip_longest
from hydra.types import RunMode
from stratos.cli.compose import CONFIG_NAME, hydra_for
from stratos.core.conf import conf_dirs, shipped_choices

WHOLE = ("experiment", "hparams_search", "debug")  # which choose of other groups: one at a time
groups = sorted({path.name for one in conf_dirs() for path in one.iterdir() if path.is_dir()})
typed = {
    group: [f"{'+' * (group == 'task')}{group}={name}" for name in shipped_choices(group)]
    for group in groups
}
alone = [[override] for group in WHOLE for override in typed.pop(group)]
together = [[*filter(None, overrides)] for overrides in zip_longest(*typed.values())]
with hydra_for(None) as hydra:
    for overrides in alone + together:
        hydra.compose_config(CONFIG_NAME, overrides, RunMode.RUN, with_log_configuration=False)
print(sum(map(len, alone + together)), "choices composed")
"""
IMPORT = """
import importlib, sys
from dataclasses import fields
from stratos.core.extensions import extensions, load

modules = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
for extension in extensions():
    for value in (getattr(extension, field.name) for field in fields(extension)):
        for target in value.values() if isinstance(value, dict) else [value]:
            if isinstance(target, str) and ":" in target:
                load(target)
print(len(modules), "modules imported")
"""
NOT_IMPORTED = ("__main__", "query_child", "guard", "_on_node")
"""Names of modules that are run and not imported."""
SITE = """
import sys
from pathlib import Path

# An editable installation puts its own checkout on the path, whose launchers Hydra would find, too.
sys.path[:] = [
    one for one in sys.path
    if one.startswith({copy!r}) or not (Path(one) / "hydra_plugins" / "stratos_launchers").is_dir()
]
"""


def rooms() -> list[str]:
    """Return the rooms of contrib."""
    return sorted(one.parent.name for one in ROOT.glob("stratos/contrib/*/__init__.py"))


def imports(file: Path) -> Iterator[str]:
    """Yield the modules of Stratos that a file imports, and the names that it imports of them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("stratos"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stratos"):
            yield from (f"{node.module}.{one.name}" for one in node.names)


def standing_on(room: str) -> set[str]:
    """Return a room and all that import it: they go together."""
    on = {
        one: {name.split(".")[2] for file in (ROOT / "stratos/contrib" / one).rglob("*.py")
              for name in imports(file) if name.startswith("stratos.contrib.")}
        for one in rooms()
    }  # fmt: skip
    gone = {room}
    while more := {one for one, under in on.items() if under & gone} - gone:
        gone |= more
    return gone


def copy_without(gone: set[str], folder: Path) -> None:
    """Copy this checkout without rooms."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = "|".join(map(re.escape, sorted(gone)))
    theirs = re.compile(
        rf"(stratos/contrib|tests/contrib)/({names})/|docs/contrib/({names})(_\w+)?\.md$|"
        rf"launchers/hydra_plugins/stratos_({names})/"
    )
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.is_file() and not theirs.match(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / name)


def without(room: str, folder: Path, pytest: Sequence[str]) -> str:
    """Try the core without a room in a copy; return what fails, "" if nothing does.

    Args:
        room: that is deleted.
        folder: empty; the copy goes there.
        pytest: which tests run.
    """
    gone = standing_on(room)
    copy = folder / "checkout"
    copy_without(gone, copy)
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(copy=str(copy)))
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, copy, copy / "launchers"))),
        "STRATOS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    modules = [
        ".".join(path.relative_to(copy).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((copy / "stratos").rglob("*.py"))
        if path.stem not in NOT_IMPORTED
    ]
    lost = sorted({
        f"{path.relative_to(copy)} imports {name}"
        for path in (copy / "stratos").rglob("*.py")
        for name in imports(path)
        if len(name.split(".")) > 2 and name.split(".")[2] in gone
        and name.startswith("stratos.contrib.")
    })  # fmt: skip
    if lost:
        return "\n".join(lost)
    for what, command in (
        ("import", ("-c", IMPORT, *modules)),
        ("compose", ("-c", COMPOSE)),
        ("help", ("-m", "stratos", "--help")),
        ("tests", ("-m", "pytest", "-p", "no:cacheprovider", "--durations=0", *PARALLEL, *pytest)),
    ):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command], cwd=copy, env=env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = done.stdout.strip().splitlines()
        if done.returncode:
            return f"{what}:\n{done.stdout[-20_000:]}{done.stderr[-5_000:]}"
        last = f": {said[-1]}" if what != "help" and said else ""
        print(f"  {what}{last} ({time.monotonic() - began:.0f} s)", flush=True)
    return ""


def main() -> None:
    """Try each room; exit with 1 if the core does not stand without one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="default: all")
    parser.add_argument("--quick", action="store_true", help="tests that can notice it alone")
    own = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    asked = parser.parse_args(sys.argv[1 : len(sys.argv) - len(own) - bool(own)])
    if unknown := set(asked.rooms) - set(rooms()):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(rooms())}")
    fallen = []
    for room in asked.rooms or rooms():
        gone = sorted(standing_on(room) - {room})
        print(", and with it ".join(filter(None, (room, ", ".join(gone)))), flush=True)
        with tempfile.TemporaryDirectory(prefix=f"without-{room}-") as scratch:
            if said := without(room, Path(scratch), own or (QUICK if asked.quick else CORE)):
                fallen.append(room)
                print(f"  FAILS\n{said}", flush=True)
    print(f"The core fails without {', '.join(fallen)}." if fallen else "The wall stands.")
    sys.exit(bool(fallen))


if __name__ == "__main__":
    main()
