"""Conversion between Arrow arrays and our columns, without copies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stratos.catalog.text_column import Codes, Floats, Ints, Words

if TYPE_CHECKING:
    import pyarrow


def floats(column: pyarrow.ChunkedArray) -> Floats:
    """Return a float64 column; null is NaN."""
    parts = []
    for chunk in column.chunks:
        values = _values(chunk, np.float64)
        if chunk.null_count:
            values = np.where(_valid(chunk), values, math.nan)
        parts.append(values)
    return np.concatenate(parts) if parts else np.zeros(0)


def ints(column: pyarrow.ChunkedArray) -> Ints:
    """Return an int64 column without nulls."""
    parts = [_values(chunk, np.int64) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def coded(column: pyarrow.ChunkedArray) -> tuple[Codes, list[str]]:
    """Return a text column with a dictionary of int32 as codes and names; null has code -1."""
    chunks = column.unify_dictionaries().chunks
    parts = []
    for chunk in chunks:
        codes = _values(chunk.indices, np.int32)
        if chunk.null_count:
            codes = codes.copy()
            codes[~_valid(chunk.indices)] = -1
        parts.append(codes)
    names = chunks[0].dictionary.to_pylist() if chunks else []
    return (np.concatenate(parts) if parts else np.zeros(0, np.int32)), names


def array(column: Words | Ints | Floats) -> pyarrow.Array:
    """Return a column of a table as an Arrow array; text is dictionary-encoded."""
    import pyarrow

    if not isinstance(column, Words):
        kind = pyarrow.int64() if column.dtype == np.int64 else pyarrow.float64()
        data = pyarrow.py_buffer(np.ascontiguousarray(column))
        return pyarrow.Array.from_buffers(kind, len(column), [None, data])
    names = [name.encode() for name in column.names]
    ends = np.cumsum([0, *map(len, names)], dtype=np.int32)
    dictionary = pyarrow.Array.from_buffers(
        pyarrow.string(),
        len(names),
        [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(names))],
    )
    codes = pyarrow.py_buffer(np.ascontiguousarray(column.codes))
    indices = pyarrow.Array.from_buffers(pyarrow.int32(), len(column), [None, codes])
    return pyarrow.DictionaryArray.from_arrays(indices, dictionary)


def _values(array: pyarrow.Array, dtype: type) -> np.ndarray:
    data = array.buffers()[1]
    if not len(array) or data is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :]


def _valid(array: pyarrow.Array) -> np.ndarray:
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    stop = array.offset + len(array)
    return np.unpackbits(bits, count=stop, bitorder="little")[array.offset :].astype(bool)
