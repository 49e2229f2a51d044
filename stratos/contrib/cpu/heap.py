"""What becomes of memory that is freed: with glibc, it may stay with the process for a while.

A step of a small model allocates and frees the same tensors again and again. Until something large
was freed for the first time, glibc hands them back to Linux at once, and each page that is touched
again is a fault: a quarter of a step of the embedded students' training on Mahjong.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_ALL = 2**31 - 1
_DEFAULTS = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}
"""Bytes that glibc's own thresholds grow to at the most."""
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def reused_heap() -> Iterator[None]:
    """Keep what is freed for what is allocated next, and hand it back to the system at the end."""
    keep()
    try:
        yield
    finally:
        hand_back()


def keep() -> None:
    """Keep what is freed from now on.

    Nothing is done without glibc, nor where variables of the environment say what it shall do.
    """
    _set({_MMAP_THRESHOLD: _ALL, _TRIM_THRESHOLD: _ALL})


def hand_back() -> None:
    """Hand back what is free, and do so again from now on."""
    libc = _set(_DEFAULTS)
    if libc is not None:
        libc.malloc_trim(0)


def _set(thresholds: dict[int, int]) -> ctypes.CDLL | None:
    if any(os.environ.get(name) for name in _SETTINGS):
        return None
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        return None
    assert libc is not None
    for parameter, n_bytes in thresholds.items():
        libc.mallopt(parameter, n_bytes)
    return libc
