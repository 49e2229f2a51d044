"""Processes of a door's nginx: its master, and the workers that let clients in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from stratos.core.process import Process

_MASTER, _WORKER = b"nginx: master process ", b"nginx: worker"
_END_S = 15.0
_LOOK_S = 0.01


def is_master(title: bytes, conf: Path) -> bool:
    """Return whether a process is the master of the nginx that has a config, by its title."""
    words = title.rstrip(b"\0 ")
    return words.startswith(_MASTER) and words.endswith(b"-c " + bytes(conf))


def workers_of(folder: Path, conf: Path) -> dict[int, bytes]:
    """Return the processes of a door that let clients in, with their titles.

    They are told from those of another nginx by the logs of this door, which they hold open: that
    needs no file with a process id, which may be an old one.
    """
    found = {}
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            title = (one / "cmdline").read_bytes()
            if title.startswith(_WORKER) and _has_worker(folder, conf, one):
                found[int(one.name)] = title
    return found


def _has_worker(folder: Path, conf: Path, process: Path) -> bool:
    inside = f"{folder.resolve()}{os.sep}"
    try:
        return any(os.readlink(one).startswith(inside) for one in (process / "fd").iterdir())
    except PermissionError:  # of root in a container, to whom workers of nobody are closed
        group = int((folder / "nginx.pid").read_text())
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        title = Path(f"/proc/{parent}/cmdline").read_bytes()
        is_other = title.startswith(_MASTER) and not is_master(title, conf)
        return os.getpgid(int(process.name)) == group and not is_other


def end(workers: Iterable[int]) -> bool:
    """End processes at once; return, when they are gone, whether there were any."""
    ended = [Process.of(pid) for pid in workers]
    for one in ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    until = time.monotonic() + _END_S
    while not all(one.is_dead() for one in ended) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    return bool(ended)


def is_open(title: bytes) -> bool:
    """Return whether a worker takes new requests, by its title."""
    return b"shutting down" not in title
