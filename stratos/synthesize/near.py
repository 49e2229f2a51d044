"""Near-duplicate removal with MinHash.

Two questions are near duplicates if they have most word triples in common (their Jaccard index
reaches a threshold), the same numbers in them, and the same answer. Triples that many questions
share are phrases of the task and do not count. A question of few words is compared by its hash
alone, which others do already.

MinHash (Broder 1997) estimates the index from the smallest value of each of 64 hash functions;
bands of four find candidates without comparing all pairs (Leskovec et al., Mining of Massive
Datasets, chapter 3).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from stratos.tasks.base import Item
from stratos.tasks.split import normalised

if TYPE_CHECKING:
    import numpy as np

NEAR = "near duplicate"
_SHINGLE = 3
_FEWEST_WORDS = 8
_N_HASHES = 64
_ROWS = 4
_PHRASE_SHARE = 0.05
"""Share of the questions from which on a triple counts as a phrase of the task."""
_NO_WORD = re.compile(r"[^\w\s]+")
_NUMBER = re.compile(r"\d+")
_PRIME = (1 << 31) - 1


class NearDuplicates:
    """Remembers questions by their MinHash.

    Args:
        threshold: Jaccard index from which on two questions are near duplicates.
        sample: questions of the task, to tell its phrases.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        threshold: float,
        sample: Iterable[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Draw the hash functions: the same in every run."""
        import numpy as np

        self._own_words = own_words
        self._threshold = threshold
        rng = np.random.default_rng(0)
        self._a = rng.integers(1, _PRIME, _N_HASHES, dtype=np.uint64)[:, None]
        self._b = rng.integers(0, _PRIME, _N_HASHES, dtype=np.uint64)[:, None]
        self._bands: dict[tuple[int, bytes, bytes], list[int]] = {}
        self._kept: list[np.ndarray] = []
        counts: Counter[str] = Counter()
        n_sampled = 0
        for item in sample:
            n_sampled += 1
            counts.update(set(_triples(_words(own_words(item.question)))))
        most = max(2.0, _PHRASE_SHARE * n_sampled)
        self._phrases = frozenset(triple for triple, n in counts.items() if n > most)

    def is_near(self, item: Item) -> bool:
        """Return whether a question that was kept says the same; if none does, keep this one."""
        question = self._own_words(item.question)
        if question.count(" ") + 1 < _FEWEST_WORDS:
            return False
        words = _words(question)
        triples = set(_triples(words)) - self._phrases
        if len(words) < _FEWEST_WORDS or not triples:
            return False
        signature = self._signature(triples)
        sense = _sense(item)
        keys = [
            (band, sense, signature[band : band + _ROWS].tobytes())
            for band in range(0, _N_HASHES, _ROWS)
        ]
        candidates = {index for key in keys for index in self._bands.get(key, ())}
        if any((self._kept[index] == signature).mean() >= self._threshold for index in candidates):
            return True
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._kept))
        self._kept.append(signature)
        return False

    def _signature(self, triples: set[str]) -> np.ndarray:
        import numpy as np

        hashes = np.fromiter((_hash(triple) for triple in triples), np.uint64, len(triples))
        found: np.ndarray = ((self._a * hashes[None, :] + self._b) % _PRIME).min(1)
        return found.astype(np.uint32)


def _words(text: str) -> list[str]:
    return _NO_WORD.sub("", normalised(text)).split()


def _triples(words: Sequence[str]) -> list[str]:
    return [" ".join(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)]


def _hash(text: str) -> int:
    # Below the prime, so that a * h + b fits into 64 bits.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _PRIME


def _sense(item: Item) -> bytes:
    """Return the hash of what two near duplicates must have in common: numbers and answer."""
    numbers = sorted(_NUMBER.findall(item.question))
    text = "\x1f".join([normalised(item.answer), *numbers])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
