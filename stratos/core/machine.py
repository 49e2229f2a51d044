"""What this machine gives this process: cores and memory, within the limits of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
GROUPS_OF_SELF = Path("/proc/self/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))
_UNLIMITED_BYTES = 2**60
"""Version 1 of control groups writes a number near 2⁶³ for no limit."""


def n_cores() -> int:
    """Return the cores that this process may use, at least one.

    A container with a quota of 2 on a machine of 64 cores sees all 64, and may run on any of them,
    but not for longer than two would.
    """
    n = _n_seen()
    return max(1, min(n, math.ceil(cpu_quota() or n)))


def has_gpu() -> bool:
    """Return whether this machine has a GPU of NVIDIA or AMD, by its device files."""
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


@cache
def multiplies_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware, as far as Linux tells."""
    with suppress(OSError), _CPUINFO.open(errors="replace") as file:
        flags = next((line for line in file if line.startswith("flags")), "")
        return not _BF16_FLAGS.isdisjoint(flags.split())
    return False


def is_limited() -> bool:
    """Return whether this process sees more cores than it may use."""
    return n_cores() < _n_seen()


def _n_seen() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Return the cores' worth of time that the control groups allow; None without a limit."""
    found = []
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError, IndexError):
            quota, period = (folder / "cpu.max").read_text().split()[:2]
            if quota != "max":
                found.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota = (folder / "cpu.cfs_quota_us").read_text()
            if int(quota) > 0:
                found.append(int(quota) / int((folder / "cpu.cfs_period_us").read_text()))
    return min(found, default=None)


def memory_bytes() -> int:
    """Return the memory that this process may use."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limit = int((folder / name).read_text())
                if 0 < limit < _UNLIMITED_BYTES:
                    found.append(limit)
    return min(found)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, the outer ones, too.

    In a container the path that the process sees may be one of the host: the root then holds the
    container's limits.
    """
    try:
        lines = GROUPS_OF_SELF.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        root = CGROUPS / names if names else CGROUPS
        if names and not root.is_dir():
            root = CGROUPS / controller
        inner = root / path.strip("/")
        yield from (one for one in (inner, *inner.parents) if one == root or root in one.parents)
