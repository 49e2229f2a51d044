"""`python -m stratos.door.watch FOLDER`: run the nginx of a door, and close it without its server.

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

import psutil

from stratos.core.process import Process
from stratos.deploy.hosted_server import Hosted, is_starting
from stratos.door.nginx import Door

LOOK_S = 0.25
MOST_BAD = 3
"""Looks in a row that find no state, or another process at the port: while a server starts again,
both are seen for a moment. What has ended for good closes the door at the first look."""
_GONE = "the process that kept its server running has ended"
_LISTENS = "0A"
_PR_SET_PDEATHSIG = 1
_LOOPBACK = {
    "0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F",
}  # fmt: skip
"""Addresses, as the kernel writes them, at which 127.0.0.1 is answered."""


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


def is_taken(port: int, owner: Process | None) -> bool:
    """Return whether a process that is no child of the owner listens at a port of this machine.

    Args:
        port: at the loopback address.
        owner: of the server; None if there is none now.
    """
    sockets = _listening(port)
    if not sockets or owner is None:
        return bool(sockets)
    try:
        one = psutil.Process(owner.pid)
        family = [one, *one.children(recursive=True)]
        return not sockets <= {link for child in family for link in _open_files(child.pid)}
    except (psutil.Error, OSError):  # gone meanwhile, or of another user: it cannot be told
        return False


def _open_files(pid: int) -> list[str]:
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(one))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def _listening(port: int) -> set[str]:
    """Return the sockets that listen at a port, as links to open files name them."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            # number, local address, remote address, state, … the tenth is the inode.
            fields = line.split()
            address, _, hexadecimal = fields[1].rpartition(":")
            if fields[3] == _LISTENS and int(hexadecimal, 16) == port and address in _LOOPBACK:
                found.add(f"socket:[{fields[9]}]")
    return found


if __name__ == "__main__":
    sys.exit(watch(Door(Path(sys.argv[1]))))
