"""`python -m stratos.contrib.door.watch FOLDER`: run the nginx of a door, close it with its server.

Whoever takes the port of a server that is gone would get what is asked through its door. For the
same reason nginx ends with this process, also where that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stratos.contrib.door.nginx import Door
from stratos.deploy.hosted_server import Hosted, is_starting
from stratos.deploy.server import is_taken

LOOK_S = 0.25
MOST_BAD = 3
"""Looks in a row that find no state, or another process at the port: while a server starts again,
both are seen for a moment. What has ended for good closes the door at the first look."""
_GONE = "the process that kept its server running has ended"
_PR_SET_PDEATHSIG = 1


def watch(door: Door) -> int:
    """Run nginx until it ends, by this or by somebody else; return its exit code."""
    nginx = subprocess.Popen(
        door.command,
        stdin=subprocess.DEVNULL,
        process_group=0,  # by which its workers are found
        preexec_fn=_end_with(os.getpid()),
    )
    n_bad, was_open = 0, False
    while (code := _waited(nginx)) is None:
        was_open = was_open or door.process is not None
        hosted = Hosted.read(door.state)
        ended = _ended(door, hosted)
        why = ended or _unsure(door, hosted)
        n_bad = n_bad + 1 if why else 0
        if ended or n_bad >= MOST_BAD:
            door.close(why)
            return nginx.wait()
    # A master that is killed leaves its workers, which listen on and let in who has a key.
    door.end_left(f"nginx was ended from outside (code {code})" if was_open else "")
    return code


def _waited(nginx: subprocess.Popen[bytes]) -> int | None:
    """Wait for a moment; return the exit code where nginx has ended, however it did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return nginx.wait(LOOK_S)
    return None


def _end_with(parent: int) -> Callable[[], None]:
    """Return what a child does before it is a program, so that the kernel ends it with its parent.

    nginx ends its workers, too, when it gets this signal.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def end_with_parent() -> None:
        if prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) or os.getppid() != parent:
            os._exit(1)

    return end_with_parent


def _ended(door: Door, hosted: Hosted | None) -> str:
    """Return why no server comes again; "" where one may."""
    if hosted is None:
        return ""
    if hosted.is_given_up:
        return "its server was given up: it ended each time"
    one = hosted.supervisor
    if one is not None and one.is_dead() and not is_starting(door.state):
        return _GONE
    return ""


def _unsure(door: Door, hosted: Hosted | None) -> str:
    """Return what looks as if the server were gone; "" where nothing does."""
    opened = door.opened
    if opened is None:
        return ""
    owner = None
    if hosted is not None and hosted.runs:
        owner = hosted.supervisor
        if hosted.port != opened.port:
            return f"its server listens at port {hosted.port}, no more at {opened.port}"
    elif not is_starting(door.state):
        return _GONE
    if is_taken(opened.port, owner):
        return f"another process listens at port {opened.port}, which was that of its server"
    return ""


if __name__ == "__main__":
    sys.exit(watch(Door(Path(sys.argv[1]))))
