"""SHA-256 digests of files, folders and a user's own code.

That of a file is computed once in a process for as long as the file stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from types import ModuleType
from typing import Any

_TABLES = (".csv", ".parquet", ".jsonl")
"""What is read in full anyway, so that its hash costs little."""
_LONGEST_PATH = 1000
"""Characters from which on a text names no file."""
_known: dict[tuple[int, ...], str] = {}


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content; "" where there is no such file.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return ""
    key = identity(path.stat())
    if key not in _known:
        with path.open("rb") as file:
            key = identity(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            remember(key, os.fstat(file.fileno()), digest)
            return digest
    return _known[key]


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
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    root = str(path)
    return sorted(
        (
            str(file).removeprefix(root),
            digest_of(file) if file.suffix in _TABLES else file.stat().st_size,
        )
        for file in found
        if file.is_file()
    )


def digest_of_code(*made: Any) -> dict[str, str]:
    """Return the hash of each module of the user's own that the class of an object rests on.

    Those are the modules of its base classes, too, and what they import that is neither of Stratos,
    nor of Python, nor installed.
    """
    left = [cls.__module__ for one in made for cls in type(one).__mro__]
    found: dict[str, str] = {}
    while left:
        name = left.pop()
        module = sys.modules.get(name)
        if name in found or module is None or not is_users_own(module):
            continue
        found[name] = digest_of(Path(str(module.__file__)))
        left += [
            value.__name__ if isinstance(value, ModuleType) else str(_module_of(value))
            for value in vars(module).values()
        ]
    return found


def _module_of(value: Any) -> Any:
    """Return the name of the module that a class or function is of; "" of a plain value."""
    return getattr(value, "__module__", "") if callable(value) else ""


def is_users_own(module: ModuleType) -> bool:
    """Return whether a module is neither of Stratos, nor of Python, nor installed."""
    path = getattr(module, "__file__", None)
    first = module.__name__.partition(".")[0]
    if path is None or first == "stratos" or first in sys.stdlib_module_names:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(path).parts)


def files_in(node: Any) -> Iterator[Path]:
    """Yield every file of this machine that a value of a user's own task names."""
    if isinstance(node, str):
        path = Path(node.removeprefix("file://")).expanduser()
        if len(node) < _LONGEST_PATH and "\0" not in node and path.is_file():
            yield path
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from files_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from files_in(value)
