"""The package's ways of a training on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stratos.contrib.cpu import blocked_attention, heap
from stratos.core.reasons import Reason
from stratos.distill.speedups import GradientWorkers, Speedups

if TYPE_CHECKING:
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule


class CpuSpeedups(Speedups):
    """Blocked attention, fused blocks, a heap that keeps freed memory, and gradient workers."""

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float | None, dropout: float
    ) -> Tensor:
        """Attend by blocks where that is faster than what torch does."""
        if not dropout and blocked_attention.pays(query):
            return blocked_attention.attend(query, key, value, scale)
        return super().attention(query, key, value, scale, dropout)

    def fuse(self, model: Any, on: bool) -> None:
        """Run plain blocks of a Llama or Qwen2 fused."""
        from stratos.contrib.cpu.fused_layer import fuse  # which knows the packed rows

        fuse(model, on)

    def allocator(self) -> AbstractContextManager[None]:
        """Keep freed memory until the training has ended."""
        return heap.reused_heap()

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
