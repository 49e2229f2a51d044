"""Integrity check: have the files of a record changed since it was written?

Size and time are looked at always, the content wherever one of them differs; and the content of
all of them before another stage works with what they hold: a bit that a disk has turned changes
neither size nor time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stratos.core.digest import digest_of
from stratos.core.foreign import cause
from stratos.core.reasons import Reason
from stratos.core.words import (
    ChangedFile,
    Gone,
    NoLongerFile,
    OtherContent,
    OtherSize,
    Unreadable,
)
from stratos.records import FileMark


def marks_of(record: Any, folder: Path) -> dict[str, FileMark]:
    """Return the mark of every file that a record names, or that lies in a folder it names."""
    found: dict[str, FileMark] = {}
    for value, named in _named(record, folder):
        for path in [named] if named.is_file() else sorted(named.rglob("*")):
            if path.is_file():
                key = Path(value) / path.relative_to(named)
                status = path.stat()
                found[key.as_posix()] = FileMark(
                    status.st_size, status.st_mtime_ns, digest_of(path)
                )
    return found


def _named(record: Any, folder: Path) -> Iterator[tuple[str, Path]]:
    """Return what a record names, as it is written there and where it lies."""
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if value and (entry.name == "path" or entry.name.endswith("_path")):
            yield value, folder / value


def missing(record: Any, folder: Path) -> Path | None:
    """Return the first file or folder that a record names and that is not there; else None."""
    for _, named in _named(record, folder):
        if not named.exists():
            return named
    return None


def changed(
    files: Mapping[str, FileMark], folder: Path, *, by_content: bool = False
) -> ChangedFile | None:
    """Return the first file that is not what it was, and how; None if all are.

    Args:
        files: mark of each file by its path.
        folder: what paths are relative to.
        by_content: read all of them, whatever their sizes and times say.
    """
    for name, mark in files.items():
        path = folder / name
        try:
            how = _how(path, mark, by_content)
        except OSError as error:
            how = Unreadable(cause(error))
        if how is not None:
            return ChangedFile(path, how)
    return None


def _how(path: Path, mark: FileMark, by_content: bool) -> Reason | None:
    if not path.is_file():
        return NoLongerFile() if path.exists() else Gone()
    status = path.stat()
    if status.st_size != mark.n_bytes:
        return OtherSize(status.st_size, mark.n_bytes)
    if status.st_mtime_ns == mark.mtime_ns and not by_content:
        return None
    return None if digest_of(path) == mark.sha256 else OtherContent()
