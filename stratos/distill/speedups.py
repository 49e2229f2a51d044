"""Faster ways of a training, which an extension may have; the defaults are the plain ways.

Whatever an extension does here, the student is the same up to the order of sums.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from stratos.core.extensions import extensions, load
from stratos.core.reasons import Reason
from stratos.distill.words import NoGradientWorkers

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Part:
    """What the pass over one part of a row brought."""

    loss: float
    """The parts' losses add up to that of the row, divided by the rows of a step."""
    n_tokens: int
    documents: np.ndarray
    cpu_seconds: float
    """Of a process other than the first."""


class GradientWorkers(ABC):
    """Processes that compute the gradients of their parts of each row, beside this one.

    From when they are made until `close`, the loader yields the first of `n` parts of each row.
    """

    n: int
    """Parts of each row; one is trained on in this process."""
    n_cores: int
    """Of this machine that all have together, and one may use while the others wait."""

    @abstractmethod
    def start(self, row: int) -> None:
        """Let all others begin with their parts of a row, which is one of those of a step."""

    @abstractmethod
    def join(self) -> list[Part]:
        """Add the gradients of all others to those of this process; return what they brought."""

    @abstractmethod
    def close(self) -> None:
        """End all others; the loader yields whole rows again, and weights are this process's."""


def behind(
    before: tuple[Tensor, Tensor] | None, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Return keys and values of documents, (B, H, T, D), behind those of their beginning."""
    if before is None:
        return key, value
    firsts = (states.expand(len(key), -1, -1, -1) for states in before)
    return torch.cat([next(firsts), key], 2), torch.cat([next(firsts), value], 2)


class Speedups:
    """The plain ways; an extension overrides what it does faster."""

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        dropout: float,
        before: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend causally; all are (B, H, T, D), and so is what is returned.

        `before` are keys and values, (1, H, n, D), that each sees beside: its document's beginning.
        """
        kind: dict[str, Any] = {"is_causal": True}
        if before is not None:
            length, key, value = key.shape[2], *behind(before, key, value)
            n_seen = key.shape[2]
            seen_TS = torch.ones(length, n_seen, dtype=torch.bool, device=key.device)
            kind = {"attn_mask": seen_TS.tril(n_seen - length)}
        return F.scaled_dot_product_attention(
            query, key, value, scale=scale, dropout_p=dropout, **kind
        )

    def fuse(self, model: Any, on: bool) -> None:
        """Let the blocks of a model with packed attention run fused, or as their class says again.

        Args:
            model: causal language model of transformers.
            on: whether they are to run fused, where that is possible.
        """

    def allocator(self) -> AbstractContextManager[None]:
        """Return a context in which the memory of a training is allocated."""
        return nullcontext()

    def gradient_workers(
        self,
        module: Any,
        loader: Any,
        n: int,
        forward_context: Callable[[], AbstractContextManager[Any]],
        n_passes: int,
        warn: Callable[[str], None],
    ) -> GradientWorkers | Reason:
        """Share each step among processes of one thread, or return why that cannot be.

        Args:
            module: the `StudentModule` that is trained.
            loader: the `PackedLoader` of its rows.
            n: parts of each row.
            forward_context: of a forward pass (autocast).
            n_passes: rows that a gradient step accumulates.
            warn: is told of a process that has ended.
        """
        return NoGradientWorkers()


@functools.cache
def speedups() -> Speedups:
    """Return those of the first extension that has some, else the plain ways."""
    classes = (load(extension.speedups) for extension in extensions() if extension.speedups)
    speedups: Speedups = next(classes, Speedups)()
    return speedups
