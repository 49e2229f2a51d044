"""Collectives between the processes of one training (no-ops for one process)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import distributed


def rank() -> int:
    """Return which process this is, from 0."""
    return distributed.get_rank() if _several() else 0


def gathered(value: Any) -> list[Any]:
    """Return the values of all processes, by rank; every process has to ask."""
    if not _several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def summed(*values: float) -> list[float]:
    """Return the sums of values over all processes; every process has to ask."""
    if not _several():
        return list(values)
    on_gpu = distributed.get_backend() == "nccl"
    total = torch.tensor(values, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    distributed.all_reduce(total)
    return cast("list[float]", total.tolist())


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
