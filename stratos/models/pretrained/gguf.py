"""Parse the header of a GGUF file with bounds checks.

The common reader trusts the counts that a file states, and goes on for ever where they are false.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from stratos.core.foreign import open_regular

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type: integers, floats and booleans."""
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 8
_LEAST_FIELD, _LEAST_TENSOR = 13, 24
"""Bytes that a field and the description of a tensor take at least."""

_sound: set[tuple[int, int, int, int]] = set()
"""Files that this process walked through: device, inode, size and time of the last change."""


def check_gguf(path: Path) -> None:
    """Walk through the fields and tensors that the header describes.

    A vocabulary is a hundred thousand fields, so a file is walked through once, until it changes.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is not a GGUF file, or states what does not fit into it.
    """
    with open_regular(path) as file:
        state = os.fstat(file.fileno())
        size = state.st_size
        identity = (state.st_dev, state.st_ino, size, state.st_mtime_ns)
        if identity in _sound:
            return

        def take(n_bytes: int) -> bytes:
            if n_bytes > size - file.tell():
                raise ValueError("it is truncated, or its header claims more than it holds")
            return file.read(n_bytes)

        def skip(n_bytes: int) -> None:
            if n_bytes > size - file.tell():
                raise ValueError("it is truncated, or its header claims more than it holds")
            file.seek(n_bytes, 1)

        if take(4) != b"GGUF":
            raise ValueError("it is not a GGUF file")
        (version,) = struct.unpack("<I", take(4))
        if version not in _VERSIONS:
            raise ValueError(f"its version {version} is not {' or '.join(map(str, _VERSIONS))}")
        n_tensors, n_fields = struct.unpack("<QQ", take(16))
        if n_tensors * _LEAST_TENSOR + n_fields * _LEAST_FIELD > size:
            raise ValueError(
                f"it states {n_tensors:,} tensors and {n_fields:,} fields, and has {size:,} bytes"
            )
        for _ in range(n_fields):
            _skip_string(take, skip)
            (kind,) = struct.unpack("<I", take(4))
            _skip_value(kind, take, skip)
        for _ in range(n_tensors):
            _skip_string(take, skip)
            (n_dimensions,) = struct.unpack("<I", take(4))
            if n_dimensions > _MOST_DIMENSIONS:
                raise ValueError(f"a tensor has {n_dimensions} dimensions")
            skip(8 * n_dimensions + 4)
            (offset,) = struct.unpack("<Q", take(8))
            if offset > size:
                raise ValueError("it is truncated: a tensor lies beyond its end")
        if not n_tensors:
            raise ValueError("it has no tensors")
        _sound.add(identity)


def _skip_string(take: Callable[[int], bytes], skip: Callable[[int], None]) -> None:
    (length,) = struct.unpack("<Q", take(8))
    skip(length)


def _skip_value(kind: int, take: Callable[[int], bytes], skip: Callable[[int], None]) -> None:
    if kind in _SCALARS:
        skip(_SCALARS[kind])
    elif kind == _STRING:
        _skip_string(take, skip)
    elif kind == _ARRAY:
        inner, length = struct.unpack("<IQ", take(12))
        if inner in _SCALARS:
            skip(_SCALARS[inner] * length)
            return
        if inner != _STRING:
            raise ValueError(f"it has an array of type {inner}, which does not exist")
        for _ in range(length):  # each takes 8 bytes at least, so that the file bounds them
            _skip_string(take, skip)
    else:
        raise ValueError(f"it has a value of type {kind}, which does not exist")
