"""The code that a stage depends on: imported packages and their data files.

Read from the source, without importing anything: a record is as old as the code that made it, and
torch is not loaded to learn that a stage is done.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHAPES_NO_RECORD = frozenset(
    (
        "config.py", "core/aliases.py", "core/atomic_files.py", "core/chunk_engine.py",
        "core/connections.py", "core/context.py", "core/digest.py", "core/errors.py",
        "core/foreign.py", "core/integrity.py", "core/locks.py", "core/names.py",
        "core/os_signals.py", "core/printable.py", "core/process.py", "contrib/ray/engine.py",
        "core/redact.py", "core/remote.py", "ledger", "models/students/content.py",
    )
)  # fmt: skip
"""Modules and packages below every stage that decide nothing of what a record holds: checks,
messages, money. They are not followed, or every stage would rest on all code there is."""

_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_FROM = re.compile(r"^[ \t]*from (stratos[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import (stratos[\w.]*)", re.MULTILINE)
_NAME = re.compile(r"(\w+)(?: as \w+)?")


def closure(starts: Iterable[str]) -> frozenset[str]:
    """Return the files below `stratos/` that some of them import, themselves included.

    Imports for type checkers alone do not count; those inside functions do.

    Args:
        starts: packages and modules, as paths below `stratos/` ("plan", "tasks/jsonl.py").
    """
    left = [file for start in starts for file in _sources(start)]
    found: set[str] = set()
    while left:
        if (file := left.pop()) not in found:
            found.add(file)
            left += imports_of(file)
    return frozenset(found)


def file_of(module: str) -> str | None:
    """Return the path below `stratos/` of a module, by its dotted name; None for another's."""
    first, _, rest = module.partition(".")
    if first != "stratos":
        return None
    path = rest.replace(".", "/")
    tries = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((one for one in tries if (ROOT / one).is_file()), None)


@functools.cache
def imports_of(file: str) -> tuple[str, ...]:
    """Return the files that a module of ours imports itself, but those that shape no record."""
    text = _FOR_TYPES.sub("", (ROOT / file).read_text(encoding="utf-8"))
    modules = set(_IMPORT.findall(text))
    for module, names in _FROM.findall(text):
        # A name may be a module of the package as well as something inside it.
        modules |= {module, *(f"{module}.{name}" for name in _NAME.findall(names))}
    files = {one for module in modules if (one := file_of(module)) is not None}
    return tuple(sorted(one for one in files if not SHAPES_NO_RECORD & {one, one.split("/")[0]}))


@functools.cache
def digest_of_closure(starts: tuple[str, ...]) -> str:
    """Return the SHA-256 of the code that some packages run, and of the data files beside it."""
    files = set(closure(starts))
    for folder in {str(Path(file).parent) for file in files} - {"."}:
        files |= {_below(path) for path in (ROOT / folder).rglob("*") if _is_data(path)}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file}\0".encode())
        digest.update(_content(file))
    return digest.hexdigest()


def _sources(start: str) -> Iterator[str]:
    path = ROOT / start
    yield from map(_below, path.rglob("*.py")) if path.is_dir() else (start,)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".py", ".pyc")


def _below(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _content(file: str) -> bytes:
    return hashlib.sha256((ROOT / file).read_bytes()).digest()
