"""Locks on files: the kernel releases them when their holder ends, however it ends.

Windows has no `flock`: there, one process a run folder is the user's to see to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Args:
        path: the file that is locked; made if need be.
        waiting: called if another process holds it, before waiting for that one to finish;
            without it, a held lock is an error.

    Raises:
        BlockingIOError: another process holds the lock, and `waiting` was not given.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def opened_alone(path: Path) -> Iterator[BinaryIO]:
    """Open a file for this process alone, to be read and appended to; waits for its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def lock_of_part(path: Path, index: int, wait: bool) -> Iterator[bool]:
    """Hold one of many locks that lie in one file, against other processes of this machine.

    Args:
        path: the file; its folder is made if need be.
        index: which lock.
        wait: for another process that holds it.

    Yields:
        Whether it was got.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.lockf(file, how, 1, index)
        except BlockingIOError:
            yield False
            return
        yield True


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of a file; False where that cannot be told."""
    try:
        import fcntl

        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except (ImportError, OSError):
        return False
    return False
