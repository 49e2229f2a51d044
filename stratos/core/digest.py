"""SHA-256 digests of files, folders and a user's own code.

That of a file is computed once in a process for as long as the file stays as it is.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from glob import glob
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

_TABLES = (".csv", ".parquet", ".jsonl")
"""What is read in full anyway, so that its hash costs little."""
_CHUNK = 2**20
"""Bytes that are read at once."""
_known: dict[tuple[int, ...], str] = {}


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content; "" where there is no such file.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return ""
    known = _known.get(identity(path.stat()))
    if known is None:
        with path.open("rb") as file:
            known, _ = digest_of_open(file)
    return known


def digest_of_open(file: BinaryIO) -> tuple[str, int]:
    """Return the SHA-256 and the number of the bytes that an open file has by now."""
    before = os.fstat(file.fileno())
    key = identity(before)
    if key in _known:
        return _known[key], before.st_size
    digest = copy_and_digest(file, before.st_size)
    remember(key, os.fstat(file.fileno()), digest)
    return digest, before.st_size


def copy_and_digest(
    file: BinaryIO, n_bytes: int, write: Callable[[bytes], object] = lambda _: None
) -> str:
    """Give so many bytes of a file, or all if it has fewer, to `write`; return their SHA-256."""
    digest = hashlib.sha256()
    while n_bytes > 0 and (data := file.read(min(n_bytes, _CHUNK))):
        digest.update(data)
        write(data)
        n_bytes -= len(data)
    return digest.hexdigest()


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written: place, size and time of the last change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def remember(key: tuple[int, ...], after: os.stat_result, digest: str) -> None:
    """Keep the digest of a file that was read whole.

    Args:
        key: identity of the file before it was read.
        after: its status afterwards; a file that changed meanwhile is not known.
        digest: of what was read.
    """
    if key == identity(after):
        _known[key] = digest


def digest_of_path(path: Path) -> Any:
    """Return the hash of a file; of a folder or a pattern that of its tables, and other sizes.

    Other files in folders are weights, which are not hashed each time: a model that is changed
    and keeps the size of every file is not noticed.
    """
    if path.is_file():
        return digest_of(path)
    files = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    root = str(path)
    return sorted(
        (
            str(file).removeprefix(root),
            digest_of(file) if file.suffix in _TABLES else file.stat().st_size,
        )
        for file in files
        if file.is_file()
    )


def digest_of_code(*made: Any) -> dict[str, str]:
    """Return the hash of each module of the user's own that the class of an object rests on.

    Those are the modules of its base classes, too, and what they import that is neither of Stratos,
    nor of Python, nor installed. Imports are read from the source, those inside functions, too.
    """
    # The standard library's modulefinder does the same, and fails at namespace packages.
    classes = [cls.__module__ for each in made for cls in type(each).__mro__]
    queue = [sys.modules[name].__spec__ for name in classes if name in sys.modules]
    queue += [_of_script(sys.modules[name]) for name in classes if name in sys.modules]
    digests: dict[str, str] = {}
    while queue:
        spec = queue.pop()
        if spec is None or spec.name in digests or not _is_users_own(spec):
            continue
        source = Path(str(spec.origin))
        digests[spec.name] = digest_of(source)
        queue += [_find(name) for name in _imports(source, spec)]
    return digests


def _of_script(module: ModuleType) -> ModuleSpec | None:
    """Return the spec of a module that was run or loaded without one."""
    file = getattr(module, "__file__", None)
    if module.__spec__ is not None or file is None:
        return None
    return ModuleSpec(module.__name__, None, origin=file)


def _imports(source: Path, spec: ModuleSpec) -> Iterator[str]:
    """Yield the names that a module's source may import: modules, and what may be one in them."""
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):  # an extension module has no source
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _and_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = spec.name if spec.submodule_search_locations else spec.parent or ""
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from _and_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _and_parents(name: str) -> Iterator[str]:
    """Yield a module's name and those of the packages around it: each is run by its import."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])


def _find(name: str) -> ModuleSpec | None:
    """Return the spec of a module without importing it; None where there is none."""
    if name in sys.modules:
        return sys.modules[name].__spec__
    path, spec = None, None
    for whole in _and_parents(name):
        try:
            spec = PathFinder.find_spec(whole, path)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _is_users_own(spec: ModuleSpec) -> bool:
    return bool(spec.origin) and _is_own(spec.name, str(spec.origin))


def is_users_own(module: ModuleType) -> bool:
    """Return whether a module is neither of Stratos, nor of Python, nor installed."""
    path = getattr(module, "__file__", None)
    return path is not None and _is_own(module.__name__, path)


def _is_own(name: str, path: str) -> bool:
    first = name.partition(".")[0]
    if first == "stratos" or first in sys.stdlib_module_names:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(path).parts)


def files_in(node: Any) -> Iterator[Path]:
    """Yield every file of this machine that a value of a user's own task names."""
    if isinstance(node, str):
        path = os.path.expanduser(node.removeprefix("file://"))
        if os.path.isfile(path):  # no error for a text that no file could be named by
            yield Path(path)
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from files_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from files_in(value)
