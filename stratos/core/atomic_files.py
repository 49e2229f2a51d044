"""Atomic file writes: write to a temporary file, flush, rename; report a full disk."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.process import Process

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
"""A limit on the size of files (EFBIG) is none of the disk; `core.disk_errors` says what it is."""
_SLACK = 2**16
"""Bytes beyond its tensors that a file of weights takes."""


STAGED = (".*.new", ".*.old", ".*.tmp")
"""Names of what is half written, or makes room: no copy of a folder holds them."""
_TEMPORARY = re.compile(r"\..+\.(?P<machine>\w{8})-(?P<pid>\d+)-(?P<started>\w*)\.\d+\.tmp")
"""Name of a temporary file: of what, its writer, its thread."""
_not_made_again: list[Path] = []
_FORGOTTEN_S = 48 * 3600.0
"""A file that another machine wrote, whose processes cannot be seen from here, counts as left
behind when nothing was added to it for so long."""


class DiskFull(StratosError):
    """There is no room for a file; what was there before is untouched."""


def staged(path: Path) -> Path:
    """Return where a file or folder is written until it is whole: beside its place."""
    return path.with_name(f".{path.name}.new")


def staged_apart(path: Path) -> Path:
    """Return the same where several threads or processes may write the file at once."""
    return path.with_name(f".{path.name}.{_writer()}.{threading.get_ident()}.tmp")


def sweep(folder: Path, levels: int | None = None) -> None:
    """Delete temporary files whose writer was killed; what cannot be deleted stays.

    Args:
        folder: in which they are looked for, and in the folders below it.
        levels: how many levels of folders; None for all.
    """
    depth = len(folder.parts)
    for parent, inner, names in os.walk(folder):
        if levels is not None and len(Path(parent).parts) - depth >= levels - 1:
            inner.clear()
        for name in names:
            if name.endswith(".tmp") and (match := _TEMPORARY.fullmatch(name)) is not None:
                path = Path(parent, name)
                with contextlib.suppress(OSError):
                    if _is_left_behind(path, match):
                        path.unlink()


def _is_left_behind(path: Path, name: re.Match[str]) -> bool:
    """Return whether the writer of a temporary file is gone."""
    if name["machine"] == _machine():
        this, started = Process.this(), name["started"].replace("_", ".")
        return Process(this.host, int(name["pid"]), this.boot, started).is_dead()
    return time.time() > path.stat().st_mtime + _FORGOTTEN_S


def _writer() -> str:
    """Return what names this process in a temporary file."""
    this = Process.this()
    return f"{_machine()}-{this.pid}-{this.started.replace('.', '_')}"


@functools.cache
def _machine() -> str:
    """Return eight digits of where this process can be seen: a boot of a machine, or a container.

    Containers of one machine share its boot, and may share a name; their processes are told apart
    by the namespace of their numbers.
    """
    this, numbers = Process.this(), ""
    with contextlib.suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{this.host} {this.boot} {numbers}".encode()).hexdigest()[:8]


@contextmanager
def never_made_again(folder: Path) -> Iterator[None]:
    """Let no file below a folder be written in the block once somebody has deleted the folder."""
    _not_made_again.append(folder)
    try:
        yield
    finally:
        _not_made_again.remove(folder)


def _make_folder(folder: Path) -> None:
    for whole in _not_made_again:
        if folder.is_relative_to(whole) and not whole.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(whole))
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write a file or folder that takes the place of `path` when it is whole.

    One process at a time may do so. What it writes is flushed to the disk before it is renamed, so
    that a crash leaves the old one or the new one, and never a part.
    """
    _make_folder(path.parent)
    new, old = staged(path), path.with_name(f".{path.name}.old")
    remove(new)
    try:
        yield new
        for file in [new, *sorted(new.rglob("*"))] if new.is_dir() else [new]:
            flush(file)
        if path.is_dir() or (new.is_dir() and path.exists()):  # that takes two steps
            remove(old)
            path.rename(old)
        new.replace(path)
        flush(path.parent)
        remove(old)
    finally:
        remove(new)


@contextmanager
def replacing_file(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """Yield where to write a file that takes the place of `path` when it is whole.

    Several threads and processes may do so at once: the last one counts. A reader sees the old
    file or a new one, never a part.

    Args:
        path: the file.
        flushed: put it onto the disk before it is renamed. What can be made again need not be.
    """
    _make_folder(path.parent)
    new = staged_apart(path)
    try:
        yield new
        if flushed:
            flush(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, *, flushed: bool = True) -> None:
    """Write `data` so that a reader sees the old file or the new one, never a part."""
    with replacing_file(path, flushed=flushed) as new:
        new.write_bytes(data)


def write_privately(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees the old file or the new one, and no other user either."""
    with replacing_file(path) as new:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)


def create_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a file that is not there, so that no reader sees a part of it.

    Raises:
        FileExistsError: it is there, if only by now: of several writers one succeeds.
    """
    new = staged_apart(path)
    try:
        new.write_bytes(data)
        try:
            os.link(new, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: what is written is there in a moment
            with path.open("xb") as file:
                file.write(data)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def room_for(n_bytes: int, path: Path, what: str) -> Iterator[None]:
    """Refuse to write what the disk has no room for, before or in the midst of it.

    Args:
        n_bytes: what it takes.
        path: where it is written.
        what: it is, for the message: "the checkpoint of step 400".

    Raises:
        DiskFull: there is no room; a part that was written is deleted.
    """
    try:
        if shutil.disk_usage(path.parent).free < n_bytes + _SLACK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        yield
    except Exception as error:
        if not _is_no_room(error):
            raise
        remove(path)  # so that the message says what is free without it
        usage = shutil.disk_usage(path.parent)
        raise DiskFull(
            f"The disk mounted at {mount_of(path)} is full: {what} takes {_size(n_bytes)} in "
            f"{path.parent}, and {_size(usage.free)} of {_size(usage.total)} are free. Free some "
            "space and give the same command again: it resumes from here."
        ) from error


def flush(path: Path) -> None:
    """Put a file, or the names in a folder, onto the disk."""
    if sys.platform == "win32" and path.is_dir():  # it has no handle there
        return
    # Windows flushes only what may be written.
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mount_of(path: Path) -> Path:
    """Return where the disk that holds a path is mounted."""
    path = path.absolute()
    while not os.path.ismount(path):
        path = path.parent
    return path


def _is_no_room(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came of, says that a disk is full.

    Torch and safetensors raise errors of their own for it: torch's comes of the system's one,
    safetensors' has its number in the text alone.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        if any(f"(os error {number})" in str(error) for number in _NO_ROOM):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} GB"
