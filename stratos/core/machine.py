"""The machine: cores and memory within the limits of the container, and how busy others keep it.

A job takes a share of a node of a cluster, whoever manages it: a share is known by its parts.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

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


_BF16_SECONDS = 0.4
"""CPU seconds that the measurement of a product may take."""


def bf16_product_seconds(size: int) -> float:
    """Return the CPU seconds of torch's quickest product in bfloat16 on one core.

    Args:
        size: rows and columns of both matrices.
    """
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = torch.randn(2, size, size).bfloat16()
        best, end = float("inf"), time.process_time() + _BF16_SECONDS
        while (start := time.process_time()) < end:  # the first, which prepares, never is quickest
            torch.mm(a, b)
            best = min(best, time.process_time() - start)
        return best
    finally:
        torch.set_num_threads(n_threads)


def is_limited() -> bool:
    """Return whether this process sees more cores than it may use."""
    return n_cores() < _n_seen()


def _n_seen() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Return the cores' worth of time that the control groups allow; None without a limit."""
    quotas = []
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError, IndexError):
            quota, period = (folder / "cpu.max").read_text().split()[:2]
            if quota != "max":
                quotas.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota = (folder / "cpu.cfs_quota_us").read_text()
            if int(quota) > 0:
                quotas.append(int(quota) / int((folder / "cpu.cfs_period_us").read_text()))
    return min(quotas, default=None)


def memory_bytes() -> int:
    """Return the memory that this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limit = int((folder / name).read_text())
                if 0 < limit < _UNLIMITED_BYTES:
                    limits.append(limit)
    return min(limits)


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
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


# --- other work -----------------------------------------------------------------------------------

IDLE, OTHERS = 0.1, 0.1
"""Shares of all cores: with less than the first idle and more than the second taken by others, a
measurement is of a busy machine."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds up to a moment, and the moment."""

    at: float
    idle_s: float
    busy_s: float
    """Of the cores that this process may use, all processes together."""
    own_s: float
    """Of this process and of those that are measured."""


def usage(group: int) -> Usage | None:
    """Return CPU seconds so far; None where the system does not tell.

    Args:
        group: process group that is measured, beside this process.
    """
    import psutil

    try:
        cores = os.sched_getaffinity(0)
        times = [psutil.cpu_times(percpu=True)[core] for core in cores]
    except (AttributeError, IndexError, OSError):
        return None
    idle_s = sum(core.idle + getattr(core, "iowait", 0.0) for core in times)
    # Those of guests are counted in user and nice, too.
    busy_s = sum(sum(core[:8]) for core in times) - idle_s
    return Usage(time.perf_counter(), idle_s, busy_s, time.process_time() + group_seconds(group))


def group_seconds(group: int, *, with_ended: bool = False) -> float:
    """Return the CPU seconds so far of all processes of a group.

    Args:
        group: its number.
        with_ended: count their children that have ended, too.
    """
    return _sum_of(group, lambda process: sum(process.cpu_times()[: 4 if with_ended else 2]))


def group_memory(group: int) -> int:
    """Return the most bytes of resident memory that each process of a group has had, in all."""
    return int(_sum_of(group, _most_memory))


def _most_memory(process: Any) -> int:
    """Return the peak of a process's resident memory; what it has now where no system tells."""
    path = Path(f"/proc/{process.pid}/status")
    peak = re.search(r"^VmHWM:\s+(\d+) kB", path.read_text() if path.exists() else "", re.M)
    return int(peak[1]) * 1024 if peak else process.memory_info().rss


def _sum_of(group: int, amount: Callable[[Any], float]) -> float:
    import psutil

    total = 0.0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended meanwhile
            if os.getpgid(process.pid) == group:
                total += amount(process)
    return total


_TRIED_SECONDS = 0.7


def slowness_now() -> float:
    """Return how many times as long work takes now as without the other work; 1 at least.

    One thread computes for a while by the clock: what it got of a core is its share.
    """
    block, started, cpu_started = bytes(1 << 16), time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - started) < _TRIED_SECONDS:
        hashlib.sha256(block)
    return max(1.0, passed / max(time.process_time() - cpu_started, 1e-3))


def others_between(before: Usage | None, after: Usage | None) -> tuple[float | None, bool]:
    """Return the cores that other work took between two moments, and whether that was too many.

    It was where next to no core was idle: then those that are measured had to share.
    """
    if before is None or after is None or after.at <= before.at:
        return None, False
    wall = after.at - before.at
    idle = (after.idle_s - before.idle_s) / wall
    busy = (after.busy_s - before.busy_s) / wall
    other_cores = max(0.0, busy - (after.own_s - before.own_s) / wall)
    cores = idle + busy
    return other_cores, idle < IDLE * cores and other_cores > OTHERS * cores


class WorkClock:
    """Counts the seconds of this process's own work, without what other work takes of the cores.

    Where next to no core is idle, a second of the wall clock counts for the share of it that this
    process and its children had beside the others. Without other work, and where the system does
    not tell, it is the wall clock: waiting for a teacher's server counts.
    """

    LEAST_SHARE = 0.2
    """Nobody waits more than five times as long, however busy the machine is."""
    EVERY_S = 1.0
    """Shorter intervals are too coarse to measure."""

    def __init__(self) -> None:
        """Start at 0."""
        self._seconds, self._share = 0.0, 1.0
        self._at, self._before = time.monotonic(), self._usage()

    def __call__(self) -> float:
        """Return the seconds so far; call it often, for it tells busy seconds from idle ones."""
        wall = time.monotonic() - self._at
        if wall < self.EVERY_S:
            return self._seconds + self._share * wall
        after = self._usage()
        other_cores, is_busy = others_between(self._before, after)
        self._share = 1.0
        if is_busy and other_cores and self._before is not None and after is not None:
            own = max(0.0, after.own_s - self._before.own_s) / (after.at - self._before.at)
            self._share = max(self.LEAST_SHARE, own / (own + other_cores))
        self._seconds += self._share * wall
        self._at, self._before = self._at + wall, after
        return self._seconds

    @staticmethod
    def _usage() -> Usage | None:
        group = os.getpgid(0)
        now = usage(group)
        return now and replace(now, own_s=group_seconds(group, with_ended=True))


_MIB_A_GIB = 1024


@dataclass(frozen=True)
class Share:
    """What one job takes of a node, and how many such jobs the cluster runs at once."""

    partition: str
    cpus: int
    memory_mib: int
    gpu: str
    """Type of its GPUs as the cluster names it; "" where it names none, and without GPUs."""
    n_gpus: int
    features: tuple[str, ...]
    count: int
    gpu_gib: float | None = None
    """Memory of a GPU; None where the cluster does not tell it."""

    @property
    def name(self) -> str:
        """What it is called as an instance type: different shares of a partition differ in it."""
        gpus = f"{self.n_gpus}x{self.gpu or 'gpu'}-" if self.n_gpus else ""
        gib, rest = divmod(self.memory_mib, _MIB_A_GIB)
        memory = f"{self.memory_mib}mib" if rest else f"{gib}gib"
        return "+".join([f"{gpus}{self.cpus}cpu-{memory}", *self.features])


def shares_of_node(
    partition: str,
    cpus: int,
    memory_mib: int,
    cards: Sequence[tuple[str, int]],
    *,
    features: tuple[str, ...] = (),
    nodes: int = 1,
    is_whole: bool = False,
) -> Iterator[Share]:
    """Yield what jobs may take of nodes that are equal.

    A job takes 1, 2, 4 … GPUs of a node and as much of its CPUs and memory, or 1, 2, 4 … CPUs of a
    node without GPUs, or all of it.

    Args:
        partition: in which the nodes are.
        cpus: of a node.
        memory_mib: of a node.
        cards: type and number of its GPUs; a node of several types gives a job those of one.
        features: that a job may ask for.
        nodes: how many there are.
        is_whole: a job takes the whole of a node.
    """
    for gpu, whole in cards or [("", cpus)]:
        for part in [whole] if is_whole else _parts(whole):
            yield Share(
                partition=partition,
                cpus=max(1, cpus * part // whole),
                memory_mib=memory_mib * part // whole,
                gpu=gpu,
                n_gpus=part if cards else 0,
                features=features,
                count=nodes * (whole // part),
            )


def together(shares: Iterable[Share]) -> list[Share]:
    """Return shares by partition and name, equal ones counted together."""
    shares_by_name: dict[tuple[str, str], Share] = {}
    for share in shares:
        key = (share.partition, share.name)
        count = share.count + (shares_by_name[key].count if key in shares_by_name else 0)
        shares_by_name[key] = Share(**{**vars(share), "count": count})
    return [shares_by_name[key] for key in sorted(shares_by_name)]


def _parts(whole: int) -> list[int]:
    return sorted({*(1 << i for i in range(whole.bit_length()) if 1 << i <= whole), whole})


def c_compiler() -> str | None:
    """Return the program that compiles C here; None where there is none."""
    if os.name != "posix":
        return None
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
