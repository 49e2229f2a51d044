"""Who listens at a port of this machine: the server that was started, or somebody else."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from stratos.core.process import Process

_LISTENS = "0A"
_LOOPBACK = {
    "0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F",
}  # fmt: skip
"""Addresses, as the kernel writes them, at which 127.0.0.1 is answered."""


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
