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
from stratos.core.conf import conf_dir
from stratos.run.resume import Stage
from stratos.run.stages import STAGES

ROOT = Path(stratos.__file__).parent
STORED = Path(__file__).with_name("closures.json")
SHAPES_NO_RECORD = frozenset(
    (
        "config.py", "core/aliases.py", "core/atomic_files.py", "core/chunk_engine.py",
        "core/connections.py", "core/context.py", "core/counted.py", "core/digest.py",
        "core/errors.py", "core/foreign.py", "core/formats.py", "core/integrity.py",
        "core/locks.py", "core/names.py", "core/os_signals.py", "core/printable.py",
        "core/process.py", "core/reasons.py", "core/redact.py", "core/remote.py",
        "models/students/content.py", "cli", "executors", "ledger", "run", "tracking",
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
    found = {stage.name: Version(stage.version, digest(closure_of(stage))) for stage in STAGES}
    for name, cls in sorted(classes.items()):
        modules = [_file(one.__module__) for one in cls.__mro__]
        files = closure([file for file in modules if file is not None], ())
        found[name] = Version(cls.code_version, digest(files))  # type: ignore[attr-defined]
    return found


def closure_of(stage: Stage[object]) -> frozenset[str]:
    """Return the files behind a stage, without those of the classes that a config names."""
    homes = {_file(_class(one).__module__) for group in PARTS for one in _targets(group)}
    start = _file(stage.function.partition(":")[0])
    assert start is not None
    return closure(["records/__init__.py", start], homes)


def closure(starts: Iterable[str], but: Iterable[str | None]) -> frozenset[str]:
    """Return files below `stratos/`, with all that they import, in functions too.

    Args:
        starts: files.
        but: files that are not followed.
    """
    left, found, passed = [*starts], set[str](), frozenset(but)
    while left:
        if (file := left.pop()) not in found:
            found.add(file)
            left += [one for one in imports_of(file) if one not in passed]
    return frozenset(found)


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
    files = {one for module in modules if (one := _file(module)) is not None}
    return tuple(
        sorted(
            one
            for one in files
            if not SHAPES_NO_RECORD & {one, one.split("/")[0]} and not one.endswith(f"/{WORDS}")
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


@functools.cache
def _file(module: str) -> str | None:
    """Return the path below `stratos/` of a module, by its dotted name; None for another's."""
    first, _, rest = module.partition(".")
    path = rest.replace(".", "/")
    tries = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((one for one in tries if first == "stratos" and (ROOT / one).is_file()), None)


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
        node.decorator_list = [
            one for one in node.decorator_list if ast.unparse(one) not in ("override",)
        ]
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
        made = self.generic_visit(node)
        named = node.func
        is_said = isinstance(named, ast.Attribute) and named.attr in _SAYS
        return _Speechless().visit(made) if is_said else made


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
    return frozenset(one for text in texts for one in _named(yaml.safe_load(text)))


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
    kept = json.loads(STORED.read_text()) if STORED.exists() else {}
    return {name: Version(**one) for name, one in kept.items()}


LOWER, NEW, CHANGED = "is lower than it was", "is new", "stands for other code"
ADVICE = (
    "Where a stage or a class makes another record of the same inputs now, raise its version "
    "(`version` of the stage in stratos/run/stages.py, `code_version` of the class): records are "
    "made anew then. Where it does not, leave the version. In either case type: make versions"
)


def trouble(code: Version, kept: Version | None) -> str:
    """Return what is wrong with a version; "" where nothing is."""
    if code == kept:
        return ""
    if kept is not None and code.version < kept.version:
        return LOWER
    return NEW if kept is None or code.version > kept.version else CHANGED


def troubles() -> dict[str, list[str]]:
    """Return what is wrong, and with which versions."""
    kept, found = stored(), defaultdict[str, list[str]](list)
    for name, code in now().items():
        if wrong := trouble(code, kept.get(name)):
            found[wrong].append(name)
    return found


def told(found: dict[str, list[str]]) -> str:
    """Return that in words, with what to do."""
    lines = [f"The version of {', '.join(names)} {wrong}." for wrong, names in found.items()]
    return "\n".join([*lines, ADVICE])


def main() -> None:
    """Say what has changed, or keep it; exit with 1 where something is to be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.run.closures")
    parser.add_argument("--same-behaviour", action="store_true", help="keep the code as it is now")
    is_kept, found = parser.parse_args().same_behaviour, troubles()
    if LOWER in found or (found and not is_kept):
        sys.exit(told(found))
    if found:
        text = json.dumps({name: asdict(one) for name, one in sorted(now().items())}, indent=1)
        STORED.write_text(f"{text}\n")
    print("Every version stands for its code.")


if __name__ == "__main__":
    main()
