"""The rooms of the code: which may import which, no circles, and one place for each thing.

Imports are read from the source: also those inside functions, and those for type checkers alone.
That a package runs its `__init__` before any of its modules is not counted.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (("stratos", ROOT), ("hydra_plugins", ROOT / "launchers"))

ARROWS = {
    # What all others stand on. A context carries the run's ledger; numbers are those of records;
    # `core.extensions` looks which rooms of contrib are there.
    "core": "contrib ledger records",
    "records": "core",
    # A config names the contracts of what it configures.
    "config": "core engines executors models records synthesize tasks teachers",
    "ledger": "core records",
    "executors": "core ledger records",
    "tasks": "core records",
    "engines": "core models records",
    # What is bought and what it takes.
    "catalog": "config core records",
    "estimate": "catalog config core engines records tasks",
    # What teaches and what learns.
    "teachers": "config core ledger models records tasks",
    "models": "config core records tasks teachers",
    "distill": "config core ledger models records tasks teachers",
    "synthesize": "config core distill models records tasks teachers",
    "evaluate": "config core estimate models records synthesize tasks teachers",
    "probe": "config core evaluate models records synthesize tasks teachers",
    "pilot": (
        "catalog config core distill estimate ledger plan records run synthesize tasks teachers"
    ),
    "plan": (
        "catalog config core distill engines estimate executors ledger models records synthesize "
        "tasks teachers"
    ),
    "deploy": (
        "catalog config core distill engines estimate evaluate models plan records run "
        "synthesize tasks teachers"
    ),
    "report": "catalog config core deploy evaluate executors ledger plan records tasks teachers",
    "tracking": "config core records report",
    # What runs the stages.
    "run": (
        "catalog cli config core engines evaluate executors ledger models plan records report "
        "teachers tracking"
    ),
    "cli": (
        "catalog config core distill estimate executors models plan synthesize tasks teachers "
        "tracking"
    ),
    "commands": (
        "cli config core deploy engines executors ledger pipeline probe records report "
        "run tracking"
    ),
    "pipeline": "cli config core deploy distill models pilot records run teachers",
    # What a Python program calls, in place of the command line.
    "api": "cli commands core deploy evaluate probe records report run teachers",
    "__main__": "cli core",
}  # fmt: skip
"""Room, or module of the root, to those that it may import; `stages` are loaded by name."""

CONTRIB = {
    "drift": "logs",
    "tools": "logs",
}
"""Room of contrib to others that it may import, with which it is deleted. All may import the core,
and `contrib/nginx_config.py`, which lies beside the rooms."""

INNER = {"deploy.engines": "engines", "probe.pilot": "pilot", "cli.commands": "commands"}
"""Packages that count as rooms of their own."""

TOGETHER = {
    ("stratos.synthesize.strategy", "stratos.config"): (
        "a run's config holds its strategies, and a strategy is handed the config of its run: both "
        "for type checkers alone"
    ),
    ("stratos.models.kinds.student_kinds", "stratos.config"): (
        "the config of a student names its kind, and a kind reads that config: for type checkers "
        "alone"
    ),
}
"""Imports that close a circle and are not counted, with the reason."""

TWINS = {
    "__init__.py": "the package",
    "stage.py": "the stage of a room",
    "base.py": "the contract of a room",
    "cache.py": "what a room keeps of what was made or asked before",
    "answers.py": "answers of a model: had from it, read out of its text",
    "frontier.py": "the non-dominated plans: found, drawn",
    "metrics.py": "how answers are scored: one model, two models",
    "table.py": "many rows held as columns",
    "reasons.py": "reasons as values, why a plan was chosen",
    "words.py": "the reasons of a room, each made into a sentence once",
}
"""File names that more than one room of the core has, with what they mean in all of them."""

MOVES = {
    "core/atomic_files.py": "the one writer",
    "synthesize/stage.py": "the corpus is written row by row, for as long as the corpus grows",
    "distill/signal/cache.py": "the place may be behind a URL",
    "models/students.py": "of several that unpack the same, the first counts",
    "ledger/file.py": "a damaged ledger is put aside",
    "teachers/cache.py": "a corrupt cache is put aside",
    "distill/stage.py": "checkpoints of another training are put aside",
}
"""Where a file or folder is renamed, and why not by `core.atomic_files`."""


def modules() -> dict[str, Path]:
    """Return every module by its dotted name."""
    found = {}
    for package, folder in PACKAGES:
        for path in sorted((folder / package).rglob("*.py")):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of ours that a module imports, wherever in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parts = package.split(".")
                start = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [start])])
            for one in node.names:
                inner = f"{start}.{one.name}"
                yield from (name for name in (inner if inner in known else start,) if name in known)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: set(imports(module, path, known)) - {module} for module, path in known.items()}


def room(module: str) -> str:
    """Return the room of a module; of contrib, and of `INNER`, that is the package in it."""
    first, *more = module.split(".")[1:] or [module]
    inner = ".".join([first, *more[:1]])
    return INNER.get(inner, inner if first == "contrib" and more else first)


def is_contrib(module: str) -> bool:
    return module.startswith("stratos.contrib.")


def a_circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return None


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path):
    texts = {
        "stratos.a": "from stratos import b",
        "stratos.b": "def late():\n    import stratos.c.d\n",
        "stratos.c": "",
        "stratos.c.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..a import x",
    }
    known = {}
    for name, text in texts.items():
        known[name] = tmp_path / f"{name}.py"
        known[name].write_text(text)
    found = {name: set(imports(name, path, known)) for name, path in known.items()}
    circle = a_circle(found)
    assert circle is not None and set(circle) == {"stratos.a", "stratos.b", "stratos.c.d"}


def test_no_modules_import_each_other_in_a_circle(graph):
    left = {
        module: {one for one in imported if (module, one) not in TOGETHER}
        for module, imported in graph.items()
    }
    assert a_circle(left) is None
    for module, imported in TOGETHER:
        assert imported in graph[module], f"{module} no longer needs its exception"


def test_rooms_import_no_others_than_the_table_allows(graph):
    found: dict[str, set[str]] = defaultdict(set)
    for module, imported in graph.items():
        if module.startswith("stratos.") and not is_contrib(module):
            found[room(module)] |= {room(one) for one in imported if one.startswith("stratos.")}
    found = {name: rooms - {name} for name, rooms in found.items()}
    allowed = {name: set(rooms.split()) for name, rooms in ARROWS.items()}
    assert {name: rooms for name, rooms in found.items() if rooms} == allowed


def test_rooms_of_contrib_import_no_others_but_those_that_the_table_names(graph):
    rooms = {path.parent.name for path in (ROOT / "stratos" / "contrib").glob("*/__init__.py")}
    for module, imported in graph.items():
        if is_contrib(module):
            own = module.split(".")[2]
            others = {one.split(".")[2] for one in imported if is_contrib(one)} & rooms
            assert others - {own} <= set(CONTRIB.get(own, "").split()), module


def test_the_core_names_no_room_of_contrib(graph):
    """Nor in a text that is loaded as a module or a class; rooms are found by `core.extensions`."""
    core = {name: path for name, path in modules().items() if name.startswith("stratos.")}
    for name, path in core.items():
        if is_contrib(name) or name == "stratos.contrib":
            continue
        assert not [one for one in graph[name] if is_contrib(one)], name
        texts = (
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        assert not [one for one in texts if one.startswith("stratos.contrib")], name
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert "stratos.contrib" not in path.read_text(), path


def test_what_is_known_at_every_start_is_no_more_than_names(graph):
    """The package of a room imports nothing but what its extension is made of."""
    for room in extensions_of_contrib():
        assert graph[room] == {"stratos.core.extensions"}, room


def extensions_of_contrib() -> list[str]:
    inits = (ROOT / "stratos" / "contrib").glob("*/__init__.py")
    texts = {path.parent.name: path.read_text(encoding="utf-8") for path in inits}
    return [f"stratos.contrib.{name}" for name, text in texts.items() if "EXTENSION = " in text]


@pytest.mark.parametrize("name", ["core", "catalog", "estimate"])
def test_what_is_at_the_bottom_imports_no_stage_and_nothing_that_runs_one(name):
    over = {"plan", "run", "cli", "report", "distill", "deploy", "evaluate", "probe", "pilot"}
    assert not {*over, "synthesize"} & set(ARROWS[name].split())


def test_the_root_holds_the_entry_the_page_and_what_all_speak_in():
    names = {path.stem for path in (ROOT / "stratos").glob("*.py")}
    assert names == {"__init__", "__main__", "api", "pipeline", "config"}


def test_one_file_name_means_one_thing():
    core = (path for name, path in modules().items() if not is_contrib(name))
    # A module of `cli.commands` is called as its verb is.
    names = Counter(path.name for path in core if path.parent.name != "commands")
    shared = {name for name, n in names.items() if n > 1}
    assert shared == set(TWINS), "name the new file otherwise, or say in TWINS what both mean"


def test_no_name_that_a_package_exports_hides_a_package_in_it():
    for path in (ROOT / "stratos").rglob("__init__.py"):
        names = {
            one.asname or one.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        }
        assert not names & {inner.parent.name for inner in path.parent.glob("*/__init__.py")}, path


def test_locks_on_files_are_taken_in_one_place():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(one.name == "fcntl" for one in node.names)
    }
    assert users == {"stratos/core/process.py"}


def test_files_take_the_place_of_others_in_one_place():
    users = {
        path.relative_to(ROOT / "stratos").as_posix()
        for path in (ROOT / "stratos").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            # `str.replace` has two arguments, that of a path one.
            (node.func.attr in ("replace", "rename") and len(node.args) == 1 and not node.keywords)
            or (
                isinstance(node.func.value, ast.Name)
                and node.func.value.id == "os"
                and node.func.attr in ("replace", "rename", "renames")
            )
        )
    }
    assert users == set(MOVES)
