"""Processes of the jobs of a run folder, on whatever node of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def processes(run: Path) -> list[int]:
    """Return the processes of jobs of a run folder, and those of a training on several nodes."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        folder = str(run).encode()
        is_worker = b"stratos.distill.worker" in words and folder + b"/distill" in words
        if (b"--job" in words and folder in words) or is_worker:
            found.append(int(one.name))
    return found


@contextlib.contextmanager
def frozen(run: Path) -> Iterator[None]:
    """Stop the work of a run: a slow machine would end it before it is disturbed."""
    pids = processes(run)
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def kill(pids: list[int]) -> None:
    """End processes as a machine without memory does."""
    _signal(pids, signal.SIGKILL)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
