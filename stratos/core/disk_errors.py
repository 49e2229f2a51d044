"""Messages for disk errors: which file, why, and how to continue."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.core.words import DiskRefuses, InTheWay, Refusal, Unwritable

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip
_BROKEN = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ENODEV}
_KINDS = {
    Refusal.LIMIT: {errno.EFBIG}, Refusal.ROOM: _NO_ROOM, Refusal.RIGHT: _NO_RIGHT,
    Refusal.NAME: _IN_THE_WAY, Refusal.BROKEN: _BROKEN,
}  # fmt: skip
_TRIED_BYTES = 2**20
"""Bytes that a folder has to take if it is not what a library failed on."""


_LEAST_BYTES, _LEAST_FILES = 2**16, 16
"""What Hydra writes before a run begins, where an error would be its own."""


def why_no_run_folder(folder: Path, *, is_sweep: bool = False) -> Reason | None:
    """Return why a run cannot begin in a folder, as the end of a sentence; None if it can.

    Args:
        folder: which need not be there yet.
        is_sweep: jobs have folders of their own below it.
    """
    nearest = folder.absolute()
    while not os.path.exists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(folder)  # a name may be too long for any disk
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(4096))
        if sys.platform != "win32":
            room = os.statvfs(nearest)
            has_room = room.f_bavail * room.f_frsize >= _LEAST_BYTES
            if not has_room or (room.f_files and room.f_favail < _LEAST_FILES):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        return Unwritable(nearest, error.strerror)
    found = None if is_sweep else _in_the_way(folder)
    return None if found is None else InTheWay(found)


def _in_the_way(folder: Path) -> Path | None:
    """Return what is no file, or no folder, where Hydra writes one before the run begins."""
    hydra = folder / ".hydra"
    if os.path.lexists(hydra) and not hydra.is_dir():
        return hydra
    files = [*(hydra / f"{name}.yaml" for name in ("config", "hydra", "overrides"))]
    files.append(folder / "stratos.log")
    return next((path for path in files if os.path.lexists(path) and not path.is_file()), None)


@contextlib.contextmanager
def disk_errors(stage: str, folder: Path, cache_dir: Path | None = None) -> Iterator[None]:
    """Turn what a disk refuses into a message that says how to go on.

    Libraries that write (weights, tables, databases) raise errors of their own where a disk is
    full. So, behind any error that nobody expects, each folder is tried: one that cannot be
    written is the reason.

    Args:
        stage: which one writes.
        folder: of the run.
        cache_dir: folder that runs share.

    Raises:
        StratosError: the disk cannot be written, or read.
    """
    try:
        yield
    except StratosError:
        raise
    except Exception as error:
        told = _told(stage, folder, error) if isinstance(error, OSError) else None
        if told is None:
            places = [place for place in (folder, cache_dir) if place is not None]
            found = _unwritable([*places, Path(tempfile.gettempdir())])
            told = None if found is None else _told(stage, folder, found)
        if told is None:
            raise
        raise StratosError(str(told)) from error


def why_unwritten(error: OSError, folder: Path, another: str) -> str:
    """Return what a command says where the system refuses what it writes below a folder.

    Args:
        error: that of the system, which names no file where a disk is full.
        folder: where the command writes.
        another: what is typed for another folder.
    """
    if error.errno not in _NO_ROOM | _NO_RIGHT:
        return str(error)
    do = "Free some space there" if error.errno in _NO_ROOM else "Allow it"
    return (
        f"{folder} cannot be written ({error.strerror}). {do}, or take another folder with "
        f"{another}, and give the command again."
    )


def _told(stage: str, folder: Path, error: OSError) -> DiskRefuses | None:
    """Return what an error of the operating system is; None for one that is a bug."""
    kind = next((kind for kind, numbers in _KINDS.items() if error.errno in numbers), None)
    if kind is None:
        return None
    where = str(error.filename2 or error.filename or folder)
    return DiskRefuses(kind, stage, where, error.strerror, folder)


def _unwritable(folders: Sequence[Path]) -> OSError | None:
    """Return why one of the folders takes no more; None if all do, or are not there."""
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(os.urandom(_TRIED_BYTES))
                file.flush()
        except OSError as error:
            return OSError(error.errno, error.strerror, str(folder))
    return None
