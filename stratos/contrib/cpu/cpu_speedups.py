"""The package's ways of a training on a CPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stratos.contrib.cpu.attention import attend, attend_behind, fits, pays
from stratos.core.reasons import Reason
from stratos.distill.speedups import GradientWorkers, Speedups

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


if TYPE_CHECKING:
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule


class CpuSpeedups(Speedups):
    """Blocked attention, fused blocks, a heap that keeps freed memory, and gradient workers."""

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        dropout: float,
        before: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend by blocks where that is faster than what torch does, and to a beginning once."""
        if before is not None and not dropout and fits(query):
            return attend_behind(query, key, value, before, scale)
        if before is None and not dropout and pays(query):
            return attend(query, key, value, scale)
        return super().attention(query, key, value, scale, dropout, before)

    def fuse(self, model: Any, on: bool) -> None:
        """Run plain blocks of a Llama or Qwen2 fused."""
        from stratos.contrib.cpu.fused_layer import fuse  # which knows the packed rows

        fuse(model, on)

    def allocator(self) -> AbstractContextManager[None]:
        """Keep freed memory until the training has ended."""
        return reused_heap()

    def gradient_workers(
        self,
        module: StudentModule,
        loader: PackedLoader,
        n: int,
        forward_context: Callable[[], AbstractContextManager[Any]],
        n_passes: int,
        warn: Callable[[str], None],
    ) -> GradientWorkers | Reason:
        """Fork processes for the parts of a row of a small student."""
        from stratos.contrib.cpu.gradient_workers import ForkedWorkers, why_not

        return why_not(module, loader) or ForkedWorkers(
            module, loader, n, forward_context, n_passes, warn
        )
