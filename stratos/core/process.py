"""Process identity, so that others can tell when a process is gone that holds money or serves.

A process id alone does not tell: the first process of every container is number 1, and numbers are
used again. With the boot of the machine and the start of the process it does.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """One process of one machine."""

    host: str
    pid: int
    boot: str = ""
    """Identifies the boot of the machine; "" where that is not known."""
    started: str = ""
    """When the process started, as its machine counts; "" where that is not known."""

    @classmethod
    def this(cls) -> Process:
        """Return the process that runs."""
        return _process(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return a process of this machine that runs."""
        return cls(socket.gethostname(), pid, _boot(), _started(pid))

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it is a process of this machine, and of no container that is gone."""
        return self.host == socket.gethostname()

    @property
    def is_told(self) -> bool:
        """Whether it is told from a process that has its number later, as far as this machine does.

        One that is not must not be ended: it may be another's.
        """
        this = Process.this()
        return bool(self.started or not this.started) and bool(self.boot or not this.boot)

    def is_alive_here(self) -> bool:
        """Tell whether it runs on this machine, as far as this one can see."""
        return self.is_of_this_machine and not self.is_dead()

    def is_dead(self) -> bool:
        """Tell whether it is gone; one that nothing is known of counts as living."""
        if not self.is_of_this_machine:
            return False
        if self.boot and self.boot != _boot():
            return True
        try:
            if sys.platform == "win32":
                return False  # a signal would end it there
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        started = _started(self.pid)
        return started == _ENDED or bool(self.started and started and started != self.started)


@functools.lru_cache(maxsize=8)
def _process(pid: int) -> Process:
    return Process(socket.gethostname(), pid, _boot(), _started(pid))


@functools.cache
def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


_ENDED = "ended"
"""Of a process that has ended, and that nobody has waited for."""


def _started(pid: int) -> str:
    """Return when a process started, `_ENDED`, or "" where that cannot be read."""
    if not _BOOT_ID.exists():
        return _started_by_psutil(pid)
    try:
        # Behind the name, which may hold anything: state, parent … the 20th is the start, in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return _ENDED if fields[0] in "ZX" else fields[19]


def _started_by_psutil(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return _ENDED if ended else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""
