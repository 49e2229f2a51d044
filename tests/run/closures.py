"""The code behind each stage, and behind each class that a config names, as a digest.

A record is as old as the version of its stage, and of the task, teachers, strategies and engines
that the config names. `closures.json` keeps which code each version stands for, without comments,
docstrings, types, imports, and what is said to the user. After a change:

    python -m tests.run.closures                     # what has changed
    python -m tests.run.closures --same-behaviour    # keep it, or a version that was raised

`make versions` is the latter.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

import stratos
from stratos.core.extensions import conf_dir, extensions
from stratos.models.kinds.student_kinds import KINDS
from stratos.run.resume import Stage
from stratos.run.stages import STAGES

ROOT = Path(stratos.__file__).parent
STORED = Path(__file__).with_name("closures.json")
SHAPES_NO_RECORD = frozenset(
    (
        "config.py", "core/atomic_files.py", "core/context.py", "core/digest.py",
        "core/errors.py", "core/foreign.py", "core/formats.py", "core/values.py",
        "core/output.py", "core/process.py", "core/reasons.py", "core/redact.py",
        "cli", "executors", "ledger", "run", "tracking",
    )
)  # fmt: skip
"""Modules and packages that decide nothing of what a record holds: checks, messages, money, where
a stage runs. They are not followed, or every stage would rest on all code there is."""
WORDS = "words.py"
"""Modules of sentences."""
PARTS = ("task", "teacher", "strategy", "deploy")
"""Groups of the config whose choices name a class that shapes records."""
_SAYS = frozenset(("warn", "note", "tick", "say"))
"""Methods that are given what the user reads."""
HOOKS = frozenset(
    ("chunk_engines", "clusters", "decoder", "metrics", "service_files", "speedups", "variants")
)
"""Fields of an extension by which code of a room shapes records: what reads one rests on it."""
_TARGET = re.compile(r"(stratos(?:\.\w+)+):\w+")
"""How code names what it imports later."""


@dataclass(frozen=True)
class Version:
    """The version of a stage or a class, and the code that it stands for."""

    version: int
    digest: str


@functools.cache
def now() -> dict[str, Version]:
    """Return the versions of all stages and classes as the code has them."""
    classes = {cls.__name__: cls for group in PARTS for cls in map(_class, _targets(group))}
    versions = {stage.name: Version(stage.version, digest(closure_of(stage))) for stage in STAGES}
    for name, cls in sorted(classes.items()):
        modules = [_file(base.__module__) for base in cls.__mro__]
        files = closure([file for file in modules if file is not None], ())
        versions[name] = Version(cls.code_version, digest(files))  # type: ignore[attr-defined]
    return versions


def closure_of(stage: Stage[object]) -> frozenset[str]:
    """Return the files behind a stage, without those of the classes that a config names."""
    homes = {_file(_class(name).__module__) for group in PARTS for name in _targets(group)}
    start = _file(stage.function.partition(":")[0])
    assert start is not None
    # `records` imports its modules when a name is asked for.
    records = (f"records/{path.name}" for path in (ROOT / "records").glob("*.py"))
    return closure([*records, start], homes)


def closure(starts: Iterable[str], but: Iterable[str | None]) -> frozenset[str]:
    """Return files below `stratos/`, with all that they import, in functions too.

    Args:
        starts: files.
        but: files that are not followed.
    """
    queue, files, excluded = [*starts], set[str](), frozenset(but)
    while queue:
        if (file := queue.pop()) not in files:
            files.add(file)
            queue += [imported for imported in imports_of(file) if imported not in excluded]
    return frozenset(files)


def digest(files: Iterable[str]) -> str:
    """Return a digest of code, and of the data files beside it, whatever the files are called."""
    every = {*files}
    data = {
        path
        for folder in {(ROOT / file).parent for file in every} - {ROOT}
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    parts = sorted([*map(_digest_of, every), *(_sha256(path.read_bytes()) for path in data)])
    return _sha256("\n".join(parts).encode())[:16]


@functools.cache
def imports_of(file: str) -> tuple[str, ...]:
    """Return the files that a module imports itself, but those that shape no record."""
    modules = {module for node in _run(_tree(file)) for module in _imported(node)}
    if "stratos.models.kinds.student_kinds" in modules:
        modules |= {module for node in _run(_tree(file)) for module in _learnt(node)}
    if "stratos.core.extensions.load" in modules:
        modules |= {module for node in _run(_tree(file)) for module in _hooked(node)}
    files = {path for module in modules if (path := _file(module)) is not None}
    return tuple(
        sorted(
            path
            for path in files
            if not SHAPES_NO_RECORD & {path, path.split("/")[0]} and not path.endswith(f"/{WORDS}")
        )
    )


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of what is run: not what is imported for type checkers alone."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _run(child)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module:
        # A name may be a module of the package as well as something inside it.
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _TARGET.findall(node.value)


def _hooked(node: ast.AST) -> Iterator[str]:
    """Yield the modules of rooms that a module loads by a field of their extensions."""
    if isinstance(node, ast.Attribute) and node.attr in HOOKS:
        for room in extensions():
            targets = getattr(room, node.attr)
            for target in [targets] if isinstance(targets, str) else targets.values():
                yield target.partition(":")[0]


def _learnt(node: ast.AST) -> Iterator[str]:
    """Yield the modules of kinds of student that a module loads to learn or read one."""
    if isinstance(node, ast.Attribute) and node.attr in ("block", "block_class", "learns"):
        for kind in KINDS.values():
            for target in filter(None, (kind.learner, getattr(kind, "features", ""))):
                yield f"stratos.models.kinds.{target.partition(':')[0]}"


@functools.cache
def _file(module: str) -> str | None:
    """Return the path below `stratos/` of a module, by its dotted name; None for another's."""
    first, _, rest = module.partition(".")
    path = rest.replace(".", "/")
    tries = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((name for name in tries if first == "stratos" and (ROOT / name).is_file()), None)


@functools.cache
def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@functools.cache
def _digest_of(file: str) -> str:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return _sha256(ast.dump(_Bare().visit(tree)).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Bare(ast.NodeTransformer):
    """Takes away what changes no record: docstrings, types, imports, sentences for the user."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        decorators = node.decorator_list
        node.decorator_list = [each for each in decorators if ast.unparse(each) != "override"]
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _Speechless().visit(self.generic_visit(node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        bare, function = self.generic_visit(node), node.func
        is_message = isinstance(function, ast.Attribute) and function.attr in _SAYS
        return _Speechless().visit(bare) if is_message else bare


class _Speechless(ast.NodeTransformer):
    """Takes the texts out of an expression."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


@functools.cache
def _targets(group: str) -> frozenset[str]:
    """Return the classes of ours that the choices of a group name."""
    folders = [conf_dir() / group, *ROOT.glob(f"contrib/*/conf/{group}")]
    texts = [path.read_text() for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return frozenset(name for text in texts for name in _named(yaml.safe_load(text)))


def _named(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str) and target.startswith("stratos."):
            yield target
        for value in node.values():
            yield from _named(value)


@functools.cache
def _class(target: str) -> type:
    module, _, name = target.rpartition(".")
    cls: type = getattr(importlib.import_module(module), name)
    return cls


def stored() -> dict[str, Version]:
    """Return the versions that are kept."""
    versions = json.loads(STORED.read_text()) if STORED.exists() else {}
    return {name: Version(**version) for name, version in versions.items()}


LOWER, NEW, CHANGED = "is lower than it was", "is new", "stands for other code"
ADVICE = (
    "Where a stage or a class makes another record of the same inputs now, raise its version "
    "(`version` of the stage in stratos/run/stages.py, `code_version` of the class): records are "
    "made anew then. Where it does not, leave the version. In either case type: make versions"
)


def trouble(code: Version, before: Version | None) -> str:
    """Return what is wrong with a version; "" where nothing is."""
    if code == before:
        return ""
    if before is not None and code.version < before.version:
        return LOWER
    return NEW if before is None or code.version > before.version else CHANGED


def troubles() -> dict[str, list[str]]:
    """Return what is wrong, and with which versions."""
    before, names = stored(), defaultdict[str, list[str]](list)
    for name, code in now().items():
        if wrong := trouble(code, before.get(name)):
            names[wrong].append(name)
    return names


def message(names: dict[str, list[str]]) -> str:
    """Return that in words, with what to do."""
    lines = [f"The version of {', '.join(group)} {wrong}." for wrong, group in names.items()]
    return "\n".join([*lines, ADVICE])


def main() -> None:
    """Say what has changed, or keep it; exit with 1 where something is to be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.run.closures")
    parser.add_argument("--same-behaviour", action="store_true", help="keep the code as it is now")
    is_stored, names = parser.parse_args().same_behaviour, troubles()
    if LOWER in names or (names and not is_stored):
        sys.exit(message(names))
    if names:
        versions = {name: asdict(version) for name, version in sorted(now().items())}
        STORED.write_text(json.dumps(versions, indent=1) + "\n")
    print("Every version stands for its code.")


if __name__ == "__main__":
    main()
