"""Groups of conversations that have to be of one split: near duplicates, and parts of one another.

Near duplicates have most word triples of what the user wrote in common, and the same numbers in it
(MinHash, Broder 1997; bands of four find candidates without comparing all pairs: Leskovec et al.,
Mining of Massive Datasets, chapter 3). Triples that many of the first conversations share are
phrases of a prompt, and do not count. What is shorter than eight words is compared as a whole.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from stratos.tasks.split import family_hash, normalised
from stratos.tasks.table import Spool

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR = 0.6
"""Share of hashes in common (an estimate of the Jaccard index) from which texts are near."""
_N_HASHES = 64
_BAND = 4
_BYTES = 4 * _BAND
"""Of a band of a signature."""
_IN_MEMORY = 2**20
"""Bytes of a band of all signatures that stay in memory; those of more lie in a file."""
_FEWEST_WORDS = 8
_MOST_WORDS = 1000
"""Words of a text that are compared."""
_MOST_HASHES = 100_000
"""Words whose hash is kept."""
_N_FOR_PHRASES = 2000
_PHRASE_SHARE = 0.05
_FEW_LINKED, _LINKED_SHARE, _MOST_LINKED = 20, 0.02, 200
"""Conversations that have one beginning before it is a phrase, such as "hi", which links nothing:
a share of all, and the least and the most of it."""
_NUMBER = re.compile(r"\d+")
_NO_WORD = re.compile(r"[^\w\s]+")
_ASCII = [chr(code) for code in range(128)]
_ASCII_NO_WORD = "".join(one for one in _ASCII if _NO_WORD.match(one)).encode()
_ASCII_NUMBERS = bytes(ord(one if one.isdigit() else " ") for one in _ASCII) + b" " * 128
"""To what `bytes.translate` makes each character, so that numbers alone are left."""
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class _Hashes(dict[str, int]):
    """Hashes of words; those of the first ones are looked up from then on."""

    def __missing__(self, word: str) -> int:
        found = zlib.crc32(word.encode("utf-8", "replace"))
        if len(self) < _MOST_HASHES:
            self[word] = found
        return found


class Alike:
    """Takes texts in, and tells at the end which belong together."""

    def __init__(self) -> None:
        """Draw the hash functions: the same in every run."""
        rng = np.random.default_rng(0)
        self._a = rng.integers(1, 2**63, _N_HASHES, dtype=np.uint64)[:, None] | np.uint64(1)
        self._b = rng.integers(0, 2**63, _N_HASHES, dtype=np.uint64)[:, None]
        self._hash = _Hashes().__getitem__
        self._wholes = array("Q")
        self._bands = [Spool(_IN_MEMORY) for _ in range(_N_HASHES // _BAND)]
        self._has_signature = array("B")
        self._first: list[NDArray[np.uint64]] = []  # triples of the texts that tell the phrases
        self._senses = array("Q")
        self._phrases: NDArray[np.uint64] | None = None
        self._links: tuple[array[int], array[int]] = array("Q"), array("Q")

    def __len__(self) -> int:
        """Return how many texts were taken in."""
        return len(self._wholes)

    def add(self, text: str, links: tuple[int, ...] = ()) -> int:
        """Take a text in; return its number.

        Args:
            text: what the user wrote.
            links: numbers that it shares with what belongs together for another reason.
        """
        number = len(self)
        normal = normalised(text)
        self._wholes.append(family_hash(normal))
        for link in links:
            self._links[0].append(link)
            self._links[1].append(number)
        words, numbers = _words_and_numbers(normal)
        del words[_MOST_WORDS:]
        triples = np.zeros(0, np.uint64)
        if len(words) >= _FEWEST_WORDS:
            triples = _triples(np.fromiter(map(self._hash, words), np.uint64, len(words)))
        self._senses.append(zlib.crc32(numbers))
        if self._phrases is None:
            self._first.append(np.unique(triples))
            if len(self._first) == _N_FOR_PHRASES:
                self._learn_phrases()
        else:
            self._sign(triples)
        return number

    def groups(self) -> NDArray[np.int64]:
        """Return the group of each text: the least number of those that belong to it."""
        if self._phrases is None:
            self._learn_phrases()
        n = len(self)
        pairs = [_neighbours(np.frombuffer(self._wholes, np.uint64)) if n else _no_pairs()]
        pairs += [self._near_pairs(), self._linked_pairs()]
        import scipy.sparse as sparse
        from scipy.sparse.csgraph import connected_components

        left, right = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
        graph = sparse.coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
        _, labels = connected_components(graph, directed=False)
        _, first = np.unique(labels, return_index=True)
        found: NDArray[np.int64] = first[labels]
        return found

    def keys(self) -> NDArray[np.uint64]:
        """Return a hash of the group of each text, whatever the order of the texts."""
        if not len(self):
            return np.zeros(0, np.uint64)
        groups = self.groups()
        wholes = np.frombuffer(self._wholes, np.uint64)
        least = np.full(len(self), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(least, groups, wholes)
        found: NDArray[np.uint64] = least[groups]
        return found

    def _learn_phrases(self) -> None:
        counts: Counter[int] = Counter()
        for triples in self._first:
            counts.update(triples.tolist())
        most = max(2.0, _PHRASE_SHARE * len(self._first))
        self._phrases = np.array(sorted(t for t, n in counts.items() if n > most), np.uint64)
        first, self._first = self._first, []
        for triples in first:
            self._sign(triples)

    def _sign(self, triples: NDArray[np.uint64]) -> None:
        assert self._phrases is not None
        if len(triples) and len(self._phrases):
            # `isin` sorts both; the phrases are sorted already.
            places = np.searchsorted(self._phrases, triples).clip(max=len(self._phrases) - 1)
            triples = triples[self._phrases[places] != triples]
        self._has_signature.append(len(triples) > 0)
        if len(triples):
            mixed = self._a * triples[None, :]
            mixed += self._b
            # The least of the upper halves is the upper half of the least.
            signature = (mixed.min(1) >> np.uint64(32)).astype(np.uint32).tobytes()
            for k, band in enumerate(self._bands):
                band.append(signature[k * _BYTES : (k + 1) * _BYTES])

    def _near_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        places = np.flatnonzero(np.frombuffer(self._has_signature, np.uint8))
        if len(places) < 2:
            return _no_pairs()
        senses = np.frombuffer(self._senses, np.uint64)[places]
        n = len(places)
        lefts, rights = [], []
        for band in self._bands:
            left, right = _neighbours(_mixed(_read(band, n).view(np.uint64), senses))
            # The other bands one after the other: all of them would be most of the memory.
            n_equal = np.zeros(len(left), np.uint8)
            for other in self._bands if len(left) else ():
                part = _read(other, n)
                for k in range(_BAND):
                    n_equal += part[left, k] == part[right, k]
            near = n_equal >= NEAR * _N_HASHES
            lefts.append(places[left[near]])
            rights.append(places[right[near]])
        return np.concatenate(lefts), np.concatenate(rights)

    def _linked_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not self._links[0]:
            return _no_pairs()
        keys = np.frombuffer(self._links[0], np.uint64)
        numbers = np.frombuffer(self._links[1], np.uint64).astype(np.int64)
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        most = min(_MOST_LINKED, max(_FEW_LINKED, _LINKED_SHARE * len(self)))
        rare = counts[inverse] <= most
        left, right = _neighbours(keys[rare])
        return numbers[rare][left], numbers[rare][right]


def _read(band: Spool, n: int) -> NDArray[np.uint32]:
    """Return a band of all signatures: as many rows, with `_BAND` hashes each."""
    return np.frombuffer(band.read_all(), np.uint32).reshape(n, _BAND)


def _words_and_numbers(normal: str) -> tuple[list[str], bytes]:
    """Return the words of a normalised text, and its numbers, sorted."""
    if not normal.isascii():
        words = _NO_WORD.sub("", normal).split()
        return words, " ".join(sorted(_NUMBER.findall(normal))).encode()
    # The same by tables, in a tenth of the time.
    data = normal.encode()
    words = data.translate(None, _ASCII_NO_WORD).decode().split()
    return words, b" ".join(sorted(data.translate(_ASCII_NUMBERS).split()))


def _triples(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes of three words behind each other.

    Args:
        hashes: of each word.
    """
    mixed = hashes[:-2] * _MIX[0] + hashes[1:-1] * _MIX[1] + hashes[2:] * _MIX[2]
    mixed ^= mixed >> np.uint64(29)
    return mixed


def _mixed(parts: NDArray[np.uint64], senses: NDArray[np.uint64]) -> NDArray[np.uint64]:
    found = senses * _MIX[0]
    for k in range(parts.shape[1]):
        found = (found ^ parts[:, k]) * _MIX[k % 3]
        found ^= found >> np.uint64(31)
    return found


def _neighbours(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of places with one key: each with the next of them, which links them all."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return order[same], order[same + 1]


def _no_pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
