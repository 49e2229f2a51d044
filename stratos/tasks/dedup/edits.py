"""Short texts with one answer that differ in a word or two: a student knows the one by the other.

A text is kept as the sum of its words' hashes, less each of its words, and of longer texts less
each two of them. Texts that differ in so many words have such a sum in common, whether a word was
replaced, added, left out or moved (deletion neighbourhoods: Bocek, Hunt, Stiller 2007).

Other texts with one answer may differ in as little, too: what is counted here is what the test
cannot tell from memory.
"""

from __future__ import annotations

from array import array
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stratos.tasks.dedup import minhash

_FEWEST_WORDS, _MOST_WORDS = 4, 20
"""Words of a text that is compared: of longer ones the triples show it."""
_64_BITS = 2**64 - 1
_FEWEST_FOR_TWO = 7
"""Words from which on two may differ."""


class Edits:
    """Takes short texts in, and tells at the end which differ in little and have one answer."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._counts = array("q")
        self._numbers = array("Q")

    def add(self, number: int, words: NDArray[np.uint32], answer: int) -> None:
        """Take a text in.

        Args:
            number: of the text.
            words: their hashes.
            answer: its hash.
        """
        if not _FEWEST_WORDS <= len(words) <= _MOST_WORDS:
            return
        mixed = minhash.mixed(words.astype(np.uint64))
        total = mixed.sum(dtype=np.uint64) + minhash.mixed(np.array([answer & _64_BITS], np.uint64))
        first, second = _two_of(len(words))
        two = mixed[first] + mixed[second] if len(words) >= _FEWEST_FOR_TWO else mixed[:0]
        keys = np.concatenate([total, total - mixed, total - two])
        self._keys.frombytes(keys.tobytes())
        self._counts.append(len(keys))
        self._numbers.append(number)

    def pairs(self) -> minhash.Pairs:
        """Return pairs of numbers that link all texts which differ in little."""
        own = np.repeat(np.arange(len(self._numbers)), self._counts)
        numbers = np.array(self._numbers, np.int64)[own]
        first, second = minhash.neighbours(np.array(self._keys, np.uint64))
        differ = numbers[first] != numbers[second]
        return numbers[first[differ]], numbers[second[differ]]


@lru_cache(maxsize=_MOST_WORDS)
def _two_of(n: int) -> minhash.Pairs:
    """Return the places of each two of so many words."""
    first, second = np.triu_indices(n, 1)
    return first, second
