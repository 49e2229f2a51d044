"""The wall: without a room of `stratos/contrib`, the core imports, composes and passes its tests.

    python tests/wall.py                    every room, one after another
    python tests/wall.py slurm ray          these
    python tests/wall.py --together         all of them at once
    python tests/wall.py --quick            all at once with the tests that can notice it, then each
                                            without tests
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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = (
    "tests", "--ignore=tests/contrib", "--ignore=tests/attack",
    "-m", "not slow and not browser and not kill",
)  # fmt: skip
"""The fast tests of the core; those of `make attack` name choices of all rooms."""
CHECK = "tests/cli/test_check.py::test_"
QUICK = (
    "tests/test_rooms.py", "tests/test_pages.py", "tests/cli/test_help.py",
    "tests/cli/test_docs.py",
    f"{CHECK}every_shipped_yaml_opens_with_its_command", f"{CHECK}every_group_has_two_choices",
    f"{CHECK}no_task_lists_the_tasks_and_the_users_own", f"{CHECK}all_mistakes_are_told_together",
    "tests/launchers/test_contrib_conf.py", "tests/catalog", "tests/plan/test_conf.py",
    "tests/plan/explain/test_show.py", "tests/deploy/test_service.py",
    "tests/executors/test_job.py",
    "tests/run/test_stage_job.py", "tests/tasks/test_jsonl.py", "tests/tasks/test_math.py",
    "-k", "not tells_to_type and not make_a_site", "-m", "not slow and not cluster and not kill",
)  # fmt: skip
"""What can notice a missing room, and takes seconds."""
PARALLEL = ("--numprocesses", "2", "--dist", "loadfile")
COMPOSE = """
from itertools import zip_longest
from hydra.types import RunMode
from stratos.cli.compose import CONFIG_NAME, hydra_for
from stratos.core.extensions import conf_dirs, shipped_choices

WHOLE = ("experiment", "hparams_search", "debug")  # which choose of other groups: one at a time
groups = sorted({path.name for conf in conf_dirs() for path in conf.iterdir() if path.is_dir()})
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
    entry for entry in sys.path
    if entry.startswith({copy!r})
    or not (Path(entry) / "hydra_plugins" / "stratos_launchers").is_dir()
]
"""


def rooms() -> list[str]:
    """Return the rooms of contrib."""
    return sorted(file.parent.name for file in ROOT.glob("stratos/contrib/*/__init__.py"))


def imports(file: Path) -> Iterator[str]:
    """Yield the modules of Stratos that a file imports, and the names that it imports of them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("stratos"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stratos"):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(module: str) -> str:
    """Return the room of contrib that a module is of; "" for one of the core."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["stratos", "contrib"] and len(parts) > 2 else ""


def with_dependents(deleted: Iterable[str]) -> set[str]:
    """Return rooms and all that import them: they go together."""
    imported = {
        room: {
            room_of(name)
            for file in (ROOT / "stratos" / "contrib" / room).rglob("*.py")
            for name in imports(file)
        }
        for room in rooms()
    }
    gone = set(deleted)
    while more := {room for room, others in imported.items() if others & gone} - gone:
        gone |= more
    return gone


def copy_without(gone: set[str], folder: Path) -> None:
    """Copy this checkout without rooms."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = "|".join(map(re.escape, sorted(gone)))
    of_rooms = re.compile(
        rf"(stratos/contrib|tests/contrib)/({names})/|docs/contrib/({names})(_\w+)?\.md$|"
        rf"launchers/hydra_plugins/stratos_({names})/"
    )
    for name in filter(None, listing.stdout.split("\0")):
        file = ROOT / name
        if file.is_file() and not of_rooms.match(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / name)


def failure_without(gone: set[str], folder: Path, pytest: Sequence[str]) -> str:
    """Try the core without rooms in a copy and print each step; return what fails, "" if nothing.

    Args:
        gone: rooms that are deleted.
        folder: empty; the copy goes there.
        pytest: which tests run; none if empty.
    """
    copy, site = folder / "checkout", folder / "site"
    copy_without(gone, copy)
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(copy=str(copy)))
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, copy, copy / "launchers"))),
        "STRATOS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    files = sorted((copy / "stratos").rglob("*.py"))
    dangling = [
        f"{file.relative_to(copy)} imports {name}"
        for file in files
        for name in sorted(set(imports(file)))
        if room_of(name) in gone
    ]
    if dangling:
        return "\n".join(dangling)
    modules = [
        ".".join(file.relative_to(copy).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if file.stem not in NOT_IMPORTED
    ]
    steps: list[tuple[str, Sequence[str]]] = [
        ("import", ("-c", IMPORT, *modules)),
        ("compose", ("-c", COMPOSE)),
        ("help", ("-m", "stratos", "--help")),
    ]
    if pytest:
        steps.append(("tests", ("-m", "pytest", "-p", "no:cacheprovider", *PARALLEL, *pytest)))
    for step, command in steps:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command], cwd=copy, env=env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            return f"{step}:\n{done.stdout[-20_000:]}{done.stderr[-5_000:]}"
        lines = [] if step == "help" else done.stdout.strip().splitlines()[-1:]
        step = f"without {', '.join(sorted(gone))}: {step}"
        print(f"{': '.join([step, *lines])} ({time.monotonic() - began:.0f} s)", flush=True)
    return ""


def main() -> None:
    """Try each room; exit with 1 if the core does not stand without it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="default: all")
    parser.add_argument("--quick", action="store_true", help="few tests, and those once")
    parser.add_argument("--together", action="store_true", help="delete them all in one copy")
    words = sys.argv[1:]
    pytest = words[words.index("--") + 1 :] if "--" in words else []
    args = parser.parse_args(words[: len(words) - len(pytest) - bool(pytest)])
    chosen = args.rooms or rooms()
    if unknown := set(chosen) - set(rooms()):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(rooms())}")

    def fails(deleted: list[str], tests: Sequence[str]) -> bool:
        gone = with_dependents(deleted)
        with tempfile.TemporaryDirectory(prefix="wall-") as scratch:
            failure = failure_without(gone, Path(scratch), tests)
        if failure:
            print(f"without {', '.join(sorted(gone))}: FAILS\n{failure}", flush=True)
        return bool(failure)

    each = [] if args.together else [[room] for room in chosen]
    fallen = []
    if args.together or args.quick:
        fallen += chosen * fails(chosen, pytest or (QUICK if args.quick else CORE))
    # Without tests, a room takes one core.
    with ThreadPoolExecutor((os.cpu_count() or 1) if args.quick else 1) as pool:
        tests = () if args.quick else pytest or CORE
        failed = pool.map(lambda deleted: fails(deleted, tests), each)
        fallen += [room for [room], bad in zip(each, failed, strict=True) if bad]
    print(f"The core fails without {', '.join(fallen)}." if fallen else "The wall stands.")
    sys.exit(bool(fallen))


if __name__ == "__main__":
    main()
