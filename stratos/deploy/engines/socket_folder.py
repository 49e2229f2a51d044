"""A folder for the socket file of a server, which is deleted however the server ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "stratos-llama-"
SOCKET = "llama.sock"
_STARTING_S = 600.0
"""Age from which a folder whose socket nobody listens on is that of a process that was killed."""


@contextmanager
def socket_folder() -> Iterator[str]:
    """Yield the path of a socket file in a folder of this user alone, until the block is left.

    SIGTERM leaves the block, too: web servers raise it again after their shutdown, which would end
    the process with the folder left behind. Folders of processes that were killed are deleted
    first.
    """
    sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            yield str(Path(folder) / SOCKET)
        finally:
            signal.signal(signal.SIGTERM, before)


def sweep(starting_s: float = _STARTING_S) -> None:
    """Delete the folders of this user's servers that were killed; what cannot be deleted stays.

    Args:
        starting_s: seconds in which a server listens once it has made its folder.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_old = time.time() > found.st_mtime + starting_s
            if found.st_uid == os.getuid() and is_old and not _is_listened_on(folder / SOCKET):
                shutil.rmtree(folder)


def _is_listened_on(path: Path) -> bool:
    """Return whether a process listens on a socket file, which outlives its process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # such as a full queue
            return True
    return True
