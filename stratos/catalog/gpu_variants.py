"""Identify the GPU variant of a row by its memory.

Catalogs write that memory in four ways: MiB of one GPU; MiB of all of them, under the same key
(Vast); GiB under a key that says MiB (RunPod); and the memory of one as the total (Lambda). Where
`SizeInMiB` x count is `TotalGpuMemoryInMiB`, the size is that of one GPU. Else the card decides:
the reading that fits the named card is taken, then the one that fits a variant of it.
"""

from __future__ import annotations

import re

from stratos.catalog.gpus import Gpu, variants

SAME_MEMORY = 0.15
"""Two sizes of memory within this share are the same card (vendors say GB, drivers say MiB)."""

GIB_BELOW = 1024
"""A size of one GPU below this is in GiB: RunPod's catalog writes 80 for 80 GiB."""

_SIZE = re.compile(r"""['"]SizeInMiB['"]\s*:\s*['"]?([0-9.]+)""")
_TOTAL = re.compile(r"""['"]TotalGpuMemoryInMiB['"]\s*:\s*['"]?([0-9.]+)""")


def fit(gpu: Gpu, info: str, count: int) -> Gpu | None:
    """Return the card that fits the memory of a listing: the named one, or a variant of it.

    Memory that is not said, or more than any variant has, takes the named card as its datasheet
    describes it. None: it may be less than the card has, so that this is a slice, or another card.

    Args:
        gpu: the card by its name.
        info: the listing's GpuInfo.
        count: number of GPUs in the server.
    """
    readings = gib_of_one(info, count)
    if not readings:
        return gpu
    for card in (gpu, *variants(gpu)):
        if any(abs(gib / card.memory_gib - 1) <= SAME_MEMORY for gib in readings):
            return card
    return gpu if min(readings) > gpu.memory_gib else None


def gib_of_one(info: str, count: int) -> list[float]:
    """Return what the memory of one GPU may be, in GiB; empty where nothing is said."""
    size, total = _gib(_SIZE.search(info), 1), _gib(_TOTAL.search(info), count)
    if not size:
        return [total / count] if total else []
    if total and count > 1 and abs(size * count / total - 1) < 1e-3:
        return [size]
    return [size, size / count] if count > 1 else [size]


def _gib(found: re.Match[str] | None, count: int) -> float:
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        return 0.0
    return number if number < GIB_BELOW * count else number / 1024
