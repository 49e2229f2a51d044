"""The run folder that a command works in: is it still there, with all records?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.run.words import FileMissing, FolderMissing, FolderReplaced

LOCK = ".lock"


class FolderGoneError(StratosError):
    """The run folder was deleted, replaced or emptied while a command worked in it."""


class HeldFolder:
    """A run folder as it was when a command took it.

    Its lock file stands for it: the command keeps that file open, so that no other file gets its
    inode, and a new folder of the same name holds another one or none. The inode of the folder
    itself is not compared: overlay and FUSE file systems may give a folder a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.how_to_go_on: Callable[[], str] = _begin_again
        """Says what to type once the folder is gone."""
        self._lock = folder / LOCK
        self._identity: tuple[int, int] | None = None
        """Of the lock file; None where there is none, as on Windows."""
        with contextlib.suppress(FileNotFoundError):
            self._identity = _identity(self._lock)
        self._records: set[str] = set()

    def add_record(self, name: str) -> None:
        """Remember a file directly below the folder that no command deletes."""
        self._records.add(name)

    def is_gone(self) -> bool:
        """Return whether the folder was deleted, replaced or emptied."""
        return self._loss() is not None

    def check(self) -> None:
        """Check that the folder is the one that was taken, with all records.

        Raises:
            FolderGoneError: it is not.
        """
        if (loss := self._loss()) is not None:
            raise FolderGoneError(
                f"The run folder {self.folder} is gone or was emptied while the command worked "
                f"({loss}). {self.how_to_go_on()}"
            )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Check the folder at the end of the block, and before an error of the block is raised.

        Raises:
            FolderGoneError: the folder is gone, and the error may be a result of that.
        """
        try:
            yield
        except FolderGoneError:
            raise
        except Exception as error:
            try:
                self.check()
            except FolderGoneError as gone:
                raise gone from error
            raise
        self.check()

    def _loss(self) -> Reason | None:
        if self._identity is None:
            if not _is_there(self.folder):
                return FolderMissing()
        elif not _is_there(self._lock):
            return FileMissing(LOCK)
        else:
            with contextlib.suppress(OSError):
                if _identity(self._lock) != self._identity:
                    return FolderReplaced()
        missing = (name for name in sorted(self._records) if not _is_there(self.folder / name))
        return next((FileMissing(name) for name in missing), None)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_there(path: Path) -> bool:
    """Return False only if a path is gone: a disk that does not answer has lost nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _begin_again() -> str:
    return (
        "Put it back as it was, or give the same command again: it starts from the beginning, "
        "and takes the answers of teachers from the cache. To go on from another machine or "
        "after a loss, keep a copy with paths.mirror=<URL>."
    )
