"""Dictionary-encoded text column: codes and sorted names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROOM = 2**62
"""Keys are combined below this, so that int64 never overflows."""


@dataclass(frozen=True, eq=False)
class Words:
    """A column of text: row r reads `names[codes[r]]`. Names are sorted and differ."""

    codes: Codes
    names: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str]) -> Words:
        """Return the column of these texts."""
        texts = list(texts)
        names = sorted(set(texts))
        index = {name: code for code, name in enumerate(names)}
        return Words(
            np.fromiter((index[text] for text in texts), np.int32, len(texts)),
            tuple(names),
        )

    @staticmethod
    def coded(codes: Codes, names: Sequence[str]) -> Words:
        """Return the column of these codes; names may be unsorted and repeated."""
        column = Words.of(names)
        return Words(column.codes[codes] if len(names) else codes, column.names)

    @staticmethod
    def fill(text: str, n_rows: int) -> Words:
        """Return a column that says the same in each row."""
        return Words(np.zeros(n_rows, np.int32), (text,))

    @staticmethod
    def concat(columns: Sequence[Words]) -> Words:
        """Return the columns one below the other."""
        names = sorted({name for column in columns for name in column.names})
        index = {name: code for code, name in enumerate(names)}
        codes = [
            np.array([index[name] for name in column.names], np.int32)[column.codes]
            for column in columns
            if len(column)
        ]
        return Words(np.concatenate(codes) if codes else np.zeros(0, np.int32), tuple(names))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.names[self.codes[row]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the text of each row as an array of str objects."""
        return np.array(self.names, object)[self.codes].astype(dtype or object, copy=False)

    def spelled(self, rows: slice = slice(None)) -> list[str]:
        """Return the text of each row."""
        return [self.names[code] for code in self.codes[rows].tolist()]

    def take(self, rows: Bools | Ints) -> Words:
        """Return some rows; the names stay."""
        return Words(self.codes[rows], self.names)

    def where(self, test: Callable[[str], bool]) -> Bools:
        """Return a mask of the rows whose text passes; each name is tested once."""
        passes = np.fromiter(map(test, self.names), bool, len(self.names))
        return passes[self.codes]

    def map(self, change: Callable[[str], str]) -> Words:
        """Return the column with each text changed; each name is changed once."""
        return Words.coded(self.codes, [change(name) for name in self.names])

    def used(self) -> list[str]:
        """Return the names that some row has, sorted."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return [name for name, n in zip(self.names, counts.tolist(), strict=True) if n]


def combine(*columns: Codes | Ints) -> Ints:
    """Return one key a row that is equal where all columns are, and sorts as they do in turn."""
    key, size = columns[0].astype(np.int64), _size(columns[0])
    for column in columns[1:]:
        width = _size(column)
        if size * width >= _ROOM:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            size = _size(key)
        key *= width
        key += column
        size *= width
    return key


def _size(column: Codes | Ints) -> int:
    return int(column.max()) + 1 if len(column) else 1
