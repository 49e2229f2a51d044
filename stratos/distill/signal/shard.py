"""One shard of the logits cache: arrays with a digest, written atomically and memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save


def packed(columns: Mapping[str, np.ndarray]) -> bytes:
    """Return the file of some columns."""
    return save(dict(columns), metadata={"digest": _digest_of(columns)})


def mapped(
    path: Path,
    columns: Mapping[str, tuple[np.dtype[Any], int]],
    n_places: int,
    verify: bool = True,
) -> dict[str, np.ndarray]:
    """Map the columns of a shard.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: it is cut, of another shape, or its content
            does not match its digest.
    """
    # Unlike mmap and numpy, torch keeps no file open behind a mapping: a cache may have more shards
    # than a process may have open files.
    size = path.stat().st_size
    raw = torch.from_file(str(path), False, size, dtype=torch.uint8).numpy()
    n_header = int.from_bytes(raw[:8].tobytes(), "little")
    if not 0 < n_header <= size - 8:
        raise ValueError("its header is cut")
    header = json.loads(raw[8 : 8 + n_header].tobytes())
    found: dict[str, np.ndarray] = {}
    for name, (dtype, width) in columns.items():
        start, stop = (8 + n_header + offset for offset in header[name]["data_offsets"])
        if stop - start != n_places * width * dtype.itemsize or stop > size:
            raise ValueError(f"its {name} are cut")
        found[name] = raw[start:stop].view(dtype).reshape(n_places, width)
    if verify and _digest_of(found) != header["__metadata__"]["digest"]:
        raise ValueError("its content does not match its digest")
    return found


def _digest_of(columns: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()
